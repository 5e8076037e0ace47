import json
from pathlib import Path

import pytest
from benchmarks.evidence import RECIPE, data_overrides, evidence, few_tasks
from benchmarks.evidence_page import evidence_page
from tests.architectures import ARCHITECTURES, save_tiny
from tests.unit.report.compared import TARGET, method, written

from keepshot.errors import DataError
from keepshot.files import write_json, write_text
from keepshot.runs.comparison_config import load_comparison

WORDS = ("amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty")
SMALL = (
    "methods=[full, [full, icl-mix]]",
    "steps=[2]",
    "seeds=[0]",
    "learning_rates=[1e-3]",
    "train={per_device_train_batch_size: 4, save_strategy: 'no', use_cpu: true, bf16: false}",
    "evaluate={shots: [0, 2], sets: 2, queries: 4}",
    "validation={shots: [2], sets: 2, queries: 4}",
    "data.max_length=128",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout, with two tasks wherever eight or four belong."""
    folder = tmp_path_factory.mktemp("evidence") / "my data"
    held_out = [word[n:] for n in range(3) for word in WORDS]
    target = [{"input": f"{word} {n}", "output": "up" if n % 2 else "down"} for n in range(12) for word in WORDS]
    files = {"target.train": target[:80], "target.test": target[80:]}
    for part, change in (("suite", str.upper), ("validation", str.title), ("icl", lambda word: word[::-1])):
        files[f"{part}/{part}-letters"] = [{"input": word, "output": change(word)} for word in held_out]
        files[f"{part}/{part}-ends"] = [{"input": word, "output": change(word)[-2:]} for word in held_out]
    for name, rows in files.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_random_model_runs_through_and_is_told_insufficient(data: Path, tmp_path: Path) -> None:
    model = save_tiny(ARCHITECTURES["qwen2"](), tmp_path / "tiny")
    said: list[str] = []
    page = evidence(str(model), data, tmp_path / "out", SMALL, say=said.append)
    text = page.read_text()
    assert {file.name for file in (tmp_path / "out").glob("*.*")} >= {
        "compare.html", "compare.json", "compare.csv", "evidence.md",
    }  # fmt: skip
    methods = ["full", "full+icl-mix"]
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row.split("|")[1].strip() for row in rows] == methods
    assert all("not measurable" in row and "insufficient" in row for row in rows)
    assert "Insufficient: at 2 shots the base lies" in text
    assert "**No recommendation.**" in text
    assert "- suite holds 2 tasks; 8 or more are needed" in text
    assert "Reported on 2 tasks (suite-ends, suite-letters) and" in text
    assert text.startswith("# Evidence: tiny\n")
    assert str(tmp_path) not in text
    assert str(data) not in text
    again: list[str] = []
    evidence(str(model), data, tmp_path / "out", SMALL, say=again.append)
    assert [line.endswith("is there") for line in again if line.startswith("cell ")] == [True] * len(methods)


def test_measured_figures_stand_in_the_table(tmp_path: Path) -> None:
    methods = [method("full", 0.985, 0.70), method("value", 0.93, None, matched=False, reason="too few")]
    advice = {"verdict": "clear", "method": "full", "next": None, "reason": "it keeps more"}
    target = TARGET | {"methods": methods, "recommendation": advice}
    folder = written(tmp_path, targets=[target], recommendation=advice, notes=["Left out: /there/data/suite/a.jsonl."])
    write_json(folder / "environment.json", {"device": "a GPU"})
    write_text(folder / "compare.csv", "method,train_seconds\nfull,60\nvalue,65\nvalue,\n")
    for when, names in (("after", ("reverse words", "a", "own/b", "own/c")), ("validation", ("d",))):
        write_json(folder / "cells/t/full/0.0002-100-0" / f"eval_{when}.json", {"tasks": {name: {} for name in names}})
    page = evidence_page(folder, Path("/there/data"), ["Few tasks."])
    assert "14 March 2025, 09:26 UTC, on a GPU. 3 trainings with seeds 0, 1, 2 min 5 s of training in all." in page
    assert "Reported on 1 tasks (a) and 2 over the target's own inputs. Settings chosen on 1 tasks (d) and 0 " in page
    assert (
        "| full | 0.0002 | 100 | 98.5% [97.5, 99.5] | 70.0% [67.0, 73.0] | 60% [55, 65] | 72% [67, 77] | 1.00 x "
        "| 1.00 x | **recommended** |"
    ) in page
    assert "| not matched, insufficient |" in page
    assert (
        "The base answers 2.0% of the target `reverse words` before tuning, without examples. Retention, 16 shots:"
        in page
    )
    assert "Insufficient: too few." in page
    assert "Failed: attention: the loss is not finite" in page
    assert "**Recommended.** it keeps more." in page
    assert "- Few tasks.\n- Left out: suite/a.jsonl." in page


def test_the_recipe_takes_the_folder(data: Path, tmp_path: Path) -> None:
    config = load_comparison(RECIPE, data_overrides(data))
    assert config.data is not None
    assert config.data.train == str(data / "target.train.jsonl")
    assert config.validation_suite == str(data / "validation")
    assert [source.path for source in config.sources.icl] == [str(data / "icl")]
    assert config.sources.general == ()  # the folder has none
    names = ["full", "value", "lora", "full+icl-mix", "full+self-anchor+ewc"]
    assert [contender.name for contender in config.contenders()] == names
    assert len(config.seeds) >= 3
    assert len(few_tasks(data)) == 2
    with pytest.raises(
        DataError, match=r"lacks target.train.jsonl, target.test.jsonl, suite, validation; it must hold"
    ):
        data_overrides(tmp_path)
