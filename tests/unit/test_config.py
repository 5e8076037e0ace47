import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from keepshot.config import RunConfig, load_config, save_config
from keepshot.errors import ConfigError

LEAST = {"model": "mini", "data": {"train": "mini:word-rule"}}
EVERYTHING = LEAST | {
    "sources": {"icl": [{"path": "a.jsonl", "weight": 2}, {"path": "mini"}], "general": [{"path": "no"}]},
    "method": ["value", {"icl-mix": {"share": 0.25, "shots": [1, 4]}}, "general"],
    "suite": "tasks",
    "output": "runs/x",
    "train": {"learning_rate": 1e-5, "max_steps": 10, "report_to": ["none"], "max_grad_norm": math.inf},
    "evaluate": {"shots": [0, 4], "sets": 3, "queries": 7},
    "gate": {"max_drop": 0.1},
    "seed": 5,
}
# Without surrogates, which no file can hold, and three line breaks of YAML 1.1, which ruamel.yaml still folds.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=12
) | st.sampled_from(
    [
        "no",
        "Yes",
        "null",
        "~",
        "1e-4",
        "0x1f",
        "1_000",
        "on",
        "- a",
        "a: b",
        "# c",
        "",
        " x ",
        "12:30:00",
        "2020-01-01",
        "<<",
    ]
)


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("values", [LEAST, EVERYTHING])
def test_a_saved_config_comes_back_equal(values: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(values)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@given(TEXTS, TEXTS, st.floats(allow_nan=False), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_and_number_survives_saving(
    tmp_path: Path, text: str, other: str, number: float, seed: int, flag: bool
) -> None:
    values = {
        "model": text,
        "data": {"train": other, "test": text or None},
        "train": {"adam_epsilon": number, "bf16": flag, "run_name": other, "warmup_steps": seed % 1000},
        "seed": seed,
    }
    config = load_config(values)
    save_config(config, tmp_path / "config.yaml")
    again = load_config(tmp_path / "config.yaml")
    assert again == config
    assert [type(value) for value in again.train.values()] == [type(value) for value in config.train.values()]


def test_yaml_is_1_2(tmp_path: Path) -> None:
    text = (
        "model: no\ndata: {train: yes}\ntrain: {learning_rate: 1e-4, save_strategy: no, run_name: 12:30}\nseed: 010\n"
    )
    config = load_config(written(tmp_path, text))
    assert (config.model, config.data.train, config.train["save_strategy"]) == ("no", "yes", "no")
    assert config.train["learning_rate"] == 1e-4
    assert config.train["run_name"] == "12:30"
    assert config.seed == 10


def test_defaults_are_those_of_the_evaluation_and_the_gate() -> None:
    config = load_config(LEAST)
    plan = config.evaluate.plan(config.seed)
    assert (plan.shots, plan.sets, plan.queries, plan.seed) == ((0, 1, 2, 4, 8, 16), 8, 40, 0)
    assert (config.method, config.gate.max_drop, config.suite_name) == ("auto", 0.05, "mini")
    assert load_config(LEAST | {"seed": 4}).evaluate.plan(4).seed == 4


def test_the_suite_is_asked_for_where_there_is_no_default() -> None:
    with pytest.raises(ConfigError, match=r"^suite is missing"):
        _ = load_config(LEAST | {"model": "org/name"}).suite_name
    assert load_config(LEAST | {"model": "org/name", "suite": "folder"}).suite_name == "folder"


def test_overrides_nest_create_and_are_yaml() -> None:
    overrides = [
        "train.learning_rate=1e-4",
        "train.save_strategy=no",
        "evaluate.shots=[0, 2]",
        "gate.max_drop=0.2",
        "sources.icl=[{path: a=b.jsonl}]",
        "data.test=null",
        "method=[value, icl-mix]",
        "seed=1",
        "seed=2",
    ]
    config = load_config(LEAST, overrides)
    assert config.train == {"learning_rate": 1e-4, "save_strategy": "no"}
    assert (config.evaluate.shots, config.gate.max_drop, config.seed) == ((0, 2), 0.2, 2)
    assert config.sources.icl[0].path == "a=b.jsonl"
    assert config.data.test is None
    assert config.strategy()[0] == "value+icl-mix"


def test_overrides_leave_the_mapping_alone(tmp_path: Path) -> None:
    values = {"model": "mini", "data": {"train": "a"}, "train": {"max_steps": 1}}
    assert load_config(values, ["train.max_steps=5", "data.train=b"]).train == {"max_steps": 5}
    assert values == {"model": "mini", "data": {"train": "a"}, "train": {"max_steps": 1}}
    path = written(tmp_path, "model: mini\ndata: {train: a}\n")
    assert load_config(path, ["data.train=b"]).data.train == "b"
    assert load_config(path).data.train == "a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modl": "x"}, "config key modl is unknown; did you mean model?"),
        ({"zzzz": 1}, "config key zzzz is unknown; allowed here: model, data,"),
        ({"data": {"train": "a", "tset": "b"}}, "config key data.tset is unknown; did you mean test?"),
        ({"data": {"test": "a"}}, "config key data.train is missing"),
        ({"data": "file.jsonl"}, "config key data: "),
        ({"model": 3}, "config key model: input should be a valid string; got 3"),
        ({"model": None}, "config key model: "),
        ({"data": {"train": "a", "max_length": "x"}}, "config key data.max_length: "),
        ({"data": {"train": "a", "max_length": 1}}, "config key data.max_length: "),
        ({"data": {"train": "a", "template": "fancy"}}, "config key data.template: "),
        ({"data": {"train": "a", "on_bad_row": "ignore"}}, "config key data.on_bad_row: "),
        ({"sources": {"icl": [{"path": "a"}, {"pth": "b"}]}}, "config key sources.icl.1."),
        (
            {"sources": {"icl": [{"path": "a", "wieght": 1}]}},
            "config key sources.icl.0.wieght is unknown; did you mean weight",
        ),
        ({"sources": {"icl": [{"path": "a", "weight": 0}]}}, "config key sources.icl.0.weight: "),
        ({"sources": {"ilc": []}}, "config key sources.ilc is unknown; did you mean icl?"),
        ({"evaluate": {"shots": [4, 0]}}, "config key evaluate.shots: shots are ascending"),
        ({"evaluate": {"shots": [0, 0]}}, "config key evaluate.shots: "),
        ({"evaluate": {"shots": []}}, "config key evaluate.shots: "),
        ({"evaluate": {"shots": [-1, 0]}}, "config key evaluate.shots: "),
        ({"evaluate": {"sets": 0}}, "config key evaluate.sets: "),
        ({"gate": {"max_drop": 1.5}}, "config key gate.max_drop: "),
        ({"seed": -1}, "config key seed: "),
        ({"seed": 0.5}, "config key seed: "),
        ({"seed": 2**32}, "config key seed: input should be less than or equal to 4294967295"),
        ({"seed": True}, "config key seed: input should be a valid integer; got True"),
        ({"gate": {"max_drop": False}}, "config key gate.max_drop: input should be a valid number; got False"),
        ({"gate": {"max_drop": math.nan}}, "config key gate.max_drop: "),
        ({"evaluate": {"sets": True}}, "config key evaluate.sets: "),
        ({"evaluate": {"queries": "40"}}, "config key evaluate.queries: "),
        ({"evaluate": {"shots": [False, True]}}, "config key evaluate.shots.0: "),
        ({"data": {"train": "a", "max_length": True}}, "config key data.max_length: "),
        ({"sources": {"icl": [{"path": "a", "weight": math.inf}]}}, "config key sources.icl.0.weight: "),
        ({"train": None}, "config key train: "),
        ({"evaluate": {"shots": 4}}, "config key evaluate.shots: must be a list, such as [..., ...]; got 4"),
        ({"data": "a.jsonl"}, "config key data: must be a mapping, with the keys train, validation, "),
        ({"train": {"learning_rat": 1}}, "train.learning_rat is unknown; did you mean learning_rate?"),
        ({"train": {"max_steps": "5"}}, "train.max_steps must be a int"),
        ({"train": {"seed": 3}}, "train.seed cannot be set: set seed at the top"),
        ({"train": {1: 2}}, "config key train.1"),
        ({"method": "valu"}, "method 'valu' is unknown"),
        ({"method": ["full", {"general": {"share": 3}}]}, "method.general.share: "),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(LEAST | changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["model", "data"])
def test_a_missing_key_is_named(lacking: str) -> None:
    with pytest.raises(ConfigError, match=f"^config key {lacking} is missing$"):
        load_config({key: value for key, value in LEAST.items() if key != lacking})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- model\n- data\n", "holds a list; it must be a mapping with model and data"),
        ("", "holds a NoneType"),
        ("just text", "holds a str"),
        ("model: [mini\n", "not YAML: "),
        ("model: mini\n\tdata: x\n", "not YAML: "),
        ("model: a\nmodel: b\n", "not YAML: .*duplicate key"),
        ("a: !!python/object:os.system x\n", "not YAML: "),
        ("1: 2\nmodel: mini\ndata: {train: a}\n", "config key 1"),
    ],
)
def test_a_file_that_is_no_config_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config .*absent.yaml does not exist$"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_steps", "--set 'train.max_steps' is not of the form a.b=c"),
        ("=3", "--set '=3' is not of the form"),
        ("train.max_steps=[1", "--set train.max_steps=[1: not YAML: "),
        ("model.name=x", "--set model.name: model is 'mini', not a section"),
        ("data.train.x=1", "--set data.train.x: train is "),
        ("data.tran=x", "config key data.tran is unknown; did you mean train?"),
        ("a..b=1", "config key a is unknown"),
    ],
)
def test_a_bad_override_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(LEAST, [override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_config_cannot_be_changed() -> None:
    config = load_config(LEAST)
    with pytest.raises(ValidationError):
        config.model = "other"
    assert isinstance(config, RunConfig)
