"""The config of a run: YAML 1.2, validated; unknown keys are errors that name their path."""

import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from keepshot.errors import ConfigError
from keepshot.evaluation.plan import EvaluationPlan
from keepshot.files import write_text
from keepshot.prompts import TemplateName
from keepshot.strategies import Strategy, resolve_method
from keepshot.tasks.formats import check_format
from keepshot.train.arguments import check_train_fields

STRICT = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")  # a clipping norm may be infinite


def _ascending(shots: tuple[int, ...]) -> tuple[int, ...]:
    if not shots or min(shots) < 0 or list(shots) != sorted(set(shots)):
        raise ValueError("shots are ascending whole numbers from 0, each once, such as [0, 1, 4, 16]")
    return shots


def _columns(columns: dict[str, str]) -> dict[str, str]:
    check_format("auto", columns)
    return columns


# Strict: true is no number, "5" is text and 4.0 is no count.
Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Shots = Annotated[tuple[Whole, ...], AfterValidator(_ascending)]
Columns = Annotated[dict[str, str], AfterValidator(_columns)]
Seed = Annotated[Whole, Field(ge=0, le=2**32 - 1)]  # numpy, which transformers seeds as well, takes no more


class DataConfig(BaseModel):
    """`data:`. A path, a hub id, or `mini:NAME` for a built-in target, which brings its own test part.

    `columns` says where the files call a column otherwise than their format: `{input: question, output: answer}`.
    `split_seed` keys what is set aside of `train` where no other file is given; without it the run's seed does.
    """

    model_config = STRICT
    train: str
    validation: str | None = None
    test: str | None = None
    format: str = "auto"
    columns: Columns = {}
    template: TemplateName = "auto"
    max_length: Whole | None = Field(default=None, gt=1)
    on_bad_row: Literal["raise", "skip"] = "raise"
    split_seed: Whole | None = Field(default=None, ge=0)


Family = Literal[  # tasks.universe.FAMILIES
    "strings", "classify", "numbers", "bits", "lookup", "linear", "relation", "category", "lists", "utterances"
]


class SourceConfig(BaseModel):
    """A file, a folder of task files, a hub id, or `mini` (the bundled universe), drawn as often as its weight says.

    `columns` are as in `data`, for a file or hub id of examples; `families` are those of the universe that tasks are
    drawn from.
    """

    model_config = STRICT
    path: str
    weight: Real = Field(default=1.0, gt=0)
    columns: Columns = {}
    families: tuple[Family, ...] = ()

    @model_validator(mode="after")
    def _of_the_universe(self) -> "SourceConfig":
        if self.families and self.path != "mini":
            raise ConfigError(
                f"families belong to the source mini, the bundled universe; leave them out of {self.path}"
            )
        return self


class SourcesConfig(BaseModel):
    """`sources:` of the added streams; for the model `mini` the bundled universe is the default."""

    model_config = STRICT
    general: tuple[SourceConfig, ...] = ()
    icl: tuple[SourceConfig, ...] = ()
    anchors: tuple[SourceConfig, ...] = ()


class EvaluateConfig(BaseModel):
    """`evaluate:` shot counts, demonstration sets per task, queries per set."""

    model_config = STRICT
    shots: Shots = (0, 1, 2, 4, 8, 16)
    sets: Whole = Field(default=8, ge=1)
    queries: Whole = Field(default=40, ge=1)

    def plan(self, seed: int) -> EvaluationPlan:
        """What is asked."""
        return EvaluationPlan(self.shots, self.sets, self.queries, seed)


class GateConfig(BaseModel):
    """`gate:` the largest drop of few-shot ability that is accepted."""

    model_config = STRICT
    max_drop: Real = Field(default=0.05, ge=0, le=1)


class Settings(BaseModel):
    """What a run and a comparison of runs have in common."""

    model_config = STRICT
    model: str
    data: DataConfig | None = None
    sources: SourcesConfig = SourcesConfig()
    suite: str | None = None
    output: str = "runs/keepshot"
    train: dict[str, Any] = {}
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    seed: Seed = 0

    @property
    def suite_name(self) -> str:
        """The suite; `mini` is the default for the model `mini`.

        Raises:
            ConfigError: Another model has no default.
        """
        if self.suite:
            return self.suite
        if self.model == "mini":
            return "mini"
        raise ConfigError("suite is missing; name a folder of task files (or mini, for the bundled synthetic tasks)")


class RunConfig(Settings):
    """A whole run."""

    data: DataConfig
    method: Any = "auto"

    @model_validator(mode="after")
    def _check(self) -> "RunConfig":
        check_train_fields(self.train)
        self.strategy()
        return self

    def strategy(self) -> tuple[str, Strategy, float]:
        """The method's name to show, its value, and its default learning rate."""
        return resolve_method(self.method)


AnySettings = TypeVar("AnySettings", bound=Settings)


def load_config(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """Read the config of a run and apply `a.b=c` overrides, whose values are YAML.

    Raises:
        ConfigError: The file is missing or no YAML mapping, a key is unknown, or a value is not allowed.

    Example:
        >>> load_config({"model": "mini", "data": {"train": "mini:word-rule"}}, ["train.max_steps=5"]).train
        {'max_steps': 5}
    """
    return load_settings(RunConfig, source, overrides)


def load_settings(
    kind: type[AnySettings], source: Path | Mapping[str, Any], overrides: Sequence[str] = ()
) -> AnySettings:
    """Read a config of some kind; see `load_config`.

    Raises:
        ConfigError: As `load_config`.
    """
    values = _read(source) if isinstance(source, Path) else _plain(source)
    for override in overrides:
        path, sign, text = override.partition("=")
        if not sign or not path:
            raise ConfigError(f"--set {override!r} is not of the form a.b=c")
        _set(values, path.split("."), _parse(text, f"--set {override}"), path)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_first(error, kind)) from None


def save_config(config: Settings, path: Path) -> None:
    """Write the resolved config, atomically; loading it gives an equal one."""
    stream = io.StringIO()
    YAML(pure=True).dump(config.model_dump(mode="json"), stream)
    write_text(path, stream.getvalue())


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)  # pure: YAML 1.2, where `no` is text and 1e-4 a number


def _read(path: Path) -> dict[Any, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from None
    values = _parse(text, f"config {path}")
    if not isinstance(values, dict):
        raise ConfigError(f"config {path} holds a {type(values).__name__}; it must be a mapping with model and data")
    return values


def _parse(text: str, where: str) -> Any:
    try:
        return _yaml().load(text)
    except YAMLError as error:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value


def _set(values: dict[Any, Any], keys: list[str], value: Any, path: str) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {path}: {key} is {inner!r}, not a section")
        values = inner
    values[keys[-1]] = value


def _first(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first problem in one line, with the path of the key and the closest allowed one."""
    problem = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            known = _keys(kind, problem["loc"][:-1])
            close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"allowed here: {', '.join(known)}"
            return f"config key {path} is unknown; {hint}"
        case "missing":
            return f"config key {path} is missing"
        case "value_error":
            message = problem["msg"].removeprefix("Value error, ")
            return f"config key {path}: {message}" if path else message
        case "tuple_type" | "list_type":
            return f"config key {path}: must be a list, such as [..., ...]; got {problem['input']!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            keys = _keys(kind, problem["loc"])
            inside = f", with the keys {', '.join(keys)}" if keys else ""
            return f"config key {path}: must be a mapping{inside}; got {problem['input']!r}"
        case _:
            return f"config key {path}: {problem['msg'][0].lower()}{problem['msg'][1:]}; got {problem['input']!r}"


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        if not isinstance(part, str):
            continue
        annotation = model.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)
