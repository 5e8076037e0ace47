"""The prompts that an adapter starts from: other tasks where the run has some, else the target's own inputs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.architectures import ARCHITECTURES, save_tiny

from keepshot.config import RunConfig, load_config
from keepshot.runs.data import evaluation_suite, load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.preparation import Preparation, prepare


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("start")
    save_tiny(ARCHITECTURES["llama"](), root / "model")
    (root / "suite").mkdir()
    (root / "anchors").mkdir()
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet", "jetty"]
    rows = {
        "train": [{"input": f"{word} {i}", "output": word[:2]} for i in range(4) for word in words],
        "suite/upper": [{"input": word[i:], "output": word[i:].upper()} for i in range(2) for word in words],
        "anchors/last": [{"input": f"{word[i:]}?", "output": f"<{word[-1]}>"} for i in range(2) for word in words],
    }
    for name, content in rows.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return root


def prepared(files: Path, **changes: Any) -> Preparation:
    fields: dict[str, Any] = {
        "model": str(files / "model"),
        "data": {"train": str(files / "train.jsonl"), "max_length": 120},
        "method": "corda",
        "suite": str(files / "suite"),
        "output": str(files / "run"),
        "train": {"max_steps": 2, "use_cpu": True, "bf16": False},
        **changes,
    }
    config: RunConfig = load_config(fields)
    target = load_target(config.data, config.seed)
    suite, _, _ = evaluation_suite(config, target)
    return prepare(config, target, suite, RunFolder(Path(config.output)))


def texts(found: Preparation, count: int) -> list[str]:
    assert found.start is not None
    return [found.encoder.tokenizer.decode(ids) for ids in found.start(count)]


def test_prompts_come_from_other_tasks_or_from_the_targets_inputs(files: Path) -> None:
    others = prepared(files, sources={"anchors": [{"path": str(files / "anchors")}]})
    own = prepared(files)
    assert others.start is not None
    assert own.start is not None
    assert (others.start.spec.source, own.start.spec.sampler) == ("anchors", "self-anchor")
    assert all(re.search(r"\w\?(.|\n)*<\w>", text) for text in texts(others, 20))
    assert not any(re.search(r"<\w>", text) for text in texts(own, 20))
    assert all(re.search(r"[a-z]{4,5} \d", text) for text in texts(own, 20))
    assert not any("no stream" in note for note in others.notes)
    assert others.digests["start"] != own.digests["start"]


def test_prompts_are_few_shot_fit_and_do_not_depend_on_how_many_are_asked(files: Path) -> None:
    found = prepared(files)
    assert found.start is not None
    rows = found.start(30)
    assert rows[:7] == found.start(7)
    assert len({tuple(row) for row in rows}) > 25
    assert all(len(row) <= 120 for row in rows)


def test_the_mini_has_tasks_and_other_methods_need_no_prompts(files: Path) -> None:
    mini = prepared(files, model="mini")
    assert mini.start is not None
    assert mini.start.spec.source == "anchors"
    none = prepared(files, method="dora")
    assert none.start is None
    assert "start" not in none.digests
