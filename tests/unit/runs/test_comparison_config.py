import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from keepshot.config import save_config
from keepshot.errors import ConfigError
from keepshot.runs.comparison_config import CompareConfig, load_comparison
from keepshot.runs.data import load_target

WORDS = {"train": "mini:word-rule"}
LEAST: dict[str, Any] = {"model": "mini", "data": WORDS, "methods": ["full", "value"], "steps": [9]}
TARGETS = {"targets": [{"data": WORDS}, {"name": "sums", "data": {"train": "sum.jsonl"}}]}


def config(**changes: Any) -> CompareConfig:
    return load_comparison({name: value for name, value in (LEAST | changes).items() if value is not None})


def test_cells_are_the_whole_grid_in_a_fixed_order() -> None:
    found = config(data=None, **TARGETS, learning_rates=[1e-4, 3e-4], steps=[9, 5], seeds=[2, 0])
    grid = product(["word-rule", "sums"], ["full", "value"], [1e-4, 3e-4], [9, 5], [2, 0])
    cells = list(found.cells())
    assert [(c.target, c.method, c.learning_rate, c.steps, c.seed) for c in cells] == list(grid)
    assert len({cell.folder for cell in cells}) == len(cells)


@pytest.mark.parametrize(
    ("written", "rates"),
    [
        (None, {"full": (1e-5, 2e-5, 4e-5), "value+icl-mix": (1e-4, 2e-4, 4e-4)}),
        ([3e-4, 1e-4], {"full": (3e-4, 1e-4), "value+icl-mix": (3e-4, 1e-4)}),
        ({"times": [3]}, {"full": (6e-5,), "value+icl-mix": (6e-4,)}),
        ({"full": [1e-4], "value": {"times": [1]}}, {"full": (1e-4,), "value+icl-mix": (2e-4,)}),
        ({"full": [1], "value": [2], "value+icl-mix": [3]}, {"full": (1.0,), "value+icl-mix": (3.0,)}),
    ],
    ids=["default", "one list", "times", "by what is trained", "by name before what is trained"],
)
def test_learning_rates(written: Any, rates: dict[str, tuple[float, ...]]) -> None:
    found = config(methods=["full", ["value", "icl-mix"]], learning_rates=written)
    assert {one.name: one.learning_rates for one in found.contenders()} == rates


def test_a_method_may_have_another_name() -> None:
    strong = {"name": "strong", "method": ["full", {"icl-kl": {"weight": 0.7}}]}
    found = config(methods=["full", ["full", "icl-kl"], strong], learning_rates=[1e-4])
    assert [one.name for one in found.contenders()] == ["full", "full+icl-kl", "strong"]
    cell = next(cell for cell in found.cells() if cell.method == "strong")
    name, strategy, _ = found.run(cell, Path("here")).strategy()
    assert (name, strategy.weight("icl-kl")) == ("full+icl-kl", pytest.approx(0.7))


def test_a_method_may_have_sources_of_its_own() -> None:
    bits = {"anchors": [{"path": "mini", "families": ["bits"]}]}
    other = {"name": "others", "method": ["full", "icl-kl"], "sources": bits}
    found = config(methods=["full", ["full", "icl-kl"], other], learning_rates=[1e-4], sources={"icl": [{"path": "a"}]})
    runs = {cell.method: found.run(cell, Path("here")).sources for cell in found.cells()}
    assert runs["full"] == runs["full+icl-kl"] == found.sources
    assert runs["others"].anchors[0].families == ("bits",)
    assert runs["others"].icl == ()
    wrong = {"name": "x", "method": "value", "sources": {"anchors": [{"path": "mini", "families": ["nouns"]}]}}
    with pytest.raises(ConfigError, match=r"methods\.x\.sources\.anchors\.0\.families\.0.*'nouns'"):
        config(methods=["full", wrong], learning_rates=[1e-4])


def test_a_cell_is_a_run_with_its_own_values() -> None:
    found = config(train={"warmup_steps": 2}, gate={"max_drop": 0.2}, seed=7, learning_rates=[1e-4])
    run = found.run(list(found.cells())[-1], Path("there"))
    assert (run.model, run.method, run.seed, run.output, run.suite) == ("mini", "value", 2, "there", "mini")
    assert run.train == {"disable_tqdm": True, "warmup_steps": 2, "learning_rate": 1e-4, "max_steps": 9}
    assert run.gate.max_drop == 0.2
    assert run.data.split_seed == 7, "what a training is asked later must not depend on its own seed"
    assert load_target(run.data, run.seed) == load_target(found.data, found.seed)


def test_a_saved_config_comes_back_equal(tmp_path: Path) -> None:
    named = {"name": "x", "method": {"trainable": {"lora": {"r": 4}}}}
    found = config(data=None, **TARGETS, methods=["full", named], learning_rates={"full": [1e-4], "x": {"times": [2]}})
    save_config(found, tmp_path / "config.yaml")
    again = load_comparison(tmp_path / "config.yaml")
    assert again == found
    assert list(again.cells()) == list(found.cells())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methds": []}, "config key methds is unknown; did you mean methods?"),
        ({"method": "full"}, "config key method is unknown; did you mean methods?"),
        ({"data": {"train": "a", "tset": "b"}}, "config key data.tset is unknown; did you mean test?"),
        ({"data": None, "targets": [{"data": {"trian": "a"}}]}, "config key targets.0.data.train is missing"),
        ({"data": None, "targets": [{"dta": 1, "data": {"train": "a"}}]}, "config key targets.0.dta is unknown"),
        ({"validation": {"set": 2}}, "config key validation.set is unknown; did you mean sets?"),
        ({"data": None}, "a comparison has either data"),
        (TARGETS, "a comparison has either data"),
        ({"data": {"train": "a b.jsonl"}}, "targets: 'a b.jsonl' is to name a folder"),
        ({"data": None, "targets": [{"data": WORDS}] * 2}, "targets has word-rule twice"),
        ({"methods": []}, "config key methods: "),
        ({"methods": ["full", "valu"]}, "method 'valu' is unknown"),
        ({"methods": ["full", "full"]}, "methods has full twice"),
        ({"methods": ["full", {"name": "../x", "method": "value"}]}, "methods: '../x' is to name a folder"),
        ({"methods": ["value"]}, "methods lacks full, whose accuracy the others must match"),
        ({"learning_rates": [0]}, "learning_rates must be a list of numbers above 0"),
        ({"learning_rates": [1e-4, 1e-4]}, "learning_rates must be a list of numbers above 0, each once"),
        ({"learning_rates": {"times": 2}}, "learning_rates.times must be a list"),
        ({"learning_rates": {"full": [1e-4]}}, "learning_rates lacks value; it has full"),
        ({"learning_rates": {"full": [1], "value": [1], "lora": [1]}}, "learning_rates names lora, and the methods"),
        ({"learning_rates": {"full": [1], "value": [1], "times": [1]}}, "learning_rates names times, and the methods"),
        ({"train": {"learning_rate": 1e-4}}, "train.learning_rate cannot be set in a comparison: learning_rates"),
        ({"train": {"max_steps": 5}}, "train.max_steps cannot be set in a comparison: steps lists them"),
        ({"train": {"warmup": 1}}, "train.warmup is unknown"),
        ({"steps": [0]}, "config key steps.0: "),
        ({"steps": [5, 5]}, "steps holds a number twice"),
        ({"seeds": [1, 1]}, "seeds holds a number twice"),
        ({"match": 1.1}, "config key match: "),
        ({"evaluate": {"shots": [1, 16]}}, "evaluate.shots must hold 0"),
        ({"evaluate": {"shots": [0]}}, "evaluate.shots must hold a number above 0"),
        ({"validation": {"shots": [0]}}, "validation.shots must hold a number above 0"),
        ({"validation": {"sets": 1}}, "validation.sets must be 2 or more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_written_strategy_needs_a_name_and_has_the_rates_of_what_it_trains() -> None:
    written = {"trainable": {"roles": ["value"]}, "streams": [{"name": "target"}], "terms": [{}]}
    with pytest.raises(ConfigError, match="needs a name"):
        config(methods=["full", written])
    found = config(methods=["full", "value", {"name": "x", "method": written}]).contenders()[1:]
    assert (found[1].name, found[1].learning_rates) == ("x", found[0].learning_rates)
    assert config(methods=["full", {"name": "x", "method": written}], learning_rates=[1e-4]).contenders()[1].name == "x"


def test_the_recipe_and_the_page_load() -> None:
    root = Path(__file__).parents[3]
    assert len(list(load_comparison(root / "recipes" / "compare-mini.yaml").cells())) == 18
    [block] = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "compare.md").read_text(encoding="utf-8"), re.DOTALL)
    found = load_comparison(YAML(typ="safe", pure=True).load(block))
    assert [len(one.learning_rates) for one in found.contenders()] == [2, 2, 3, 2, 2]
    assert list(found.named_targets()) == ["intents", "sql"]
