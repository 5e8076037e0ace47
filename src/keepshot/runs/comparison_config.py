"""The config of a comparison: a run's config with lists where a run has one value."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from keepshot.config import (
    STRICT,
    DataConfig,
    EvaluateConfig,
    Real,
    RunConfig,
    Seed,
    Settings,
    SourcesConfig,
    Whole,
    load_settings,
)
from keepshot.errors import ConfigError
from keepshot.strategies import AUTO, RECOMMENDED, resolve_method
from keepshot.tasks.read import task_name
from keepshot.train.arguments import check_train_fields

# What one list or another of the comparison says.
REFUSED = {
    "learning_rate": "learning_rates lists them",
    "max_steps": "steps lists them",
    "num_train_epochs": "steps lists how long is trained",
}


class TargetConfig(BaseModel):
    """A member of `targets:`; its name is that of the data unless given."""

    model_config = STRICT
    name: str | None = None
    data: DataConfig


@dataclass(frozen=True, slots=True)
class Contender:
    """A method that takes part.

    Attributes:
        name: In tables and folders.
        method: As `method` of a run's config.
        learning_rates: Those that are tried.
        sources: Of its own, in place of the comparison's; None where it has none.
    """

    name: str
    method: Any
    learning_rates: tuple[float, ...]
    sources: SourcesConfig | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of a comparison, with `config.cells` the only place that says which there are."""

    target: str
    method: str
    learning_rate: float
    steps: int
    seed: int

    @property
    def folder(self) -> Path:
        """Where it lies under `cells`."""
        return Path(self.target) / self.method / f"{self.learning_rate:g}-{self.steps}-{self.seed}"

    def __str__(self) -> str:
        return (
            f"{self.target}, {self.method}, learning rate {self.learning_rate:g}, {self.steps} steps, seed {self.seed}"
        )


class CompareConfig(Settings):
    """A whole comparison: targets x methods x learning rates x steps x seeds.

    `seed` keys what all share (the split of the data, the questions), `seeds` what a training draws.
    """

    output: str = "runs/compare"
    targets: tuple[TargetConfig, ...] = ()
    methods: Annotated[tuple[Any, ...], Field(min_length=1)]
    learning_rates: Any = Field(default={"times": [0.5, 1, 2]})
    steps: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    validation_suite: str | None = None
    validation: EvaluateConfig = EvaluateConfig(shots=(4, 16), sets=4, queries=20)
    baseline: str = "full"
    match: Real = Field(default=0.99, gt=0, le=1)
    max_cost: Real = Field(default=1.25, ge=1)
    cost: Literal["time", "tokens"] = "time"
    keep: Literal["chosen", "all"] = "chosen"

    @model_validator(mode="after")
    def _check(self) -> "CompareConfig":
        for field, why in REFUSED.items():
            if field in self.train:
                raise ConfigError(f"train.{field} cannot be set in a comparison: {why}")
        for name, values in (("steps", self.steps), ("seeds", self.seeds)):
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} holds a number twice: {list(values)}")
        names = [contender.name for contender in self.contenders()]
        trained = [_trained(contender.method) for contender in self.contenders()]
        unused = set(self.learning_rates) - {*names, *trained} if self._rates_by_name else ()
        if unused:
            raise ConfigError(
                f"learning_rates names {', '.join(map(str, unused))}, and the methods are {', '.join(names)}"
            )
        if self.baseline not in names:
            raise ConfigError(
                f"methods lacks {self.baseline}, whose accuracy the others must match; add it, or set baseline to one "
                f"of {', '.join(names)}"
            )
        if self.evaluate.shots[0] > 0:
            raise ConfigError("evaluate.shots must hold 0, which measures the target's accuracy")
        for where, shots in (("evaluate", self.evaluate.shots), ("validation", self.validation.shots)):
            if shots[-1] == 0:
                raise ConfigError(f"{where}.shots must hold a number above 0, which measures retention")
        if self.validation.sets < 2:
            raise ConfigError("validation.sets must be 2 or more: one set shows no spread, and retention is not given")
        check_train_fields(self.train)
        self.named_targets()
        return self

    def named_targets(self) -> dict[str, DataConfig]:
        """The targets by name.

        Raises:
            ConfigError: There is none, or names repeat or are no names of folders.
        """
        if (self.data is None) == (not self.targets):
            raise ConfigError("a comparison has either data, of its one target, or targets, a list of {name, data}")
        targets = self.targets if self.data is None else (TargetConfig(data=self.data),)
        named = [(one.name or task_name(one.data.train.removeprefix("mini:")), one.data) for one in targets]
        _check_names([name for name, _ in named], "targets")
        return dict(named)

    def contenders(self) -> tuple[Contender, ...]:
        """The methods by name, with their learning rates.

        Raises:
            ConfigError: One is no method, names repeat or are no names of folders, or learning rates are missing.
        """
        found = []
        for entry in self.methods:
            given, written, sources = None, entry, None
            if isinstance(entry, Mapping) and {"name", "method"} <= set(entry) <= {"name", "method", "sources"}:
                given, written = str(entry["name"]), entry["method"]
                sources = _sources(entry["sources"], given) if "sources" in entry else None
            name, _, default = resolve_method(written)
            if given is None and default is None:
                raise ConfigError("a method that is written out needs a name: {name: NAME, method: …}")
            found.append(Contender(given or name, written, self._rates(given or name, written, default), sources))
        _check_names([contender.name for contender in found], "methods")
        return tuple(found)

    @property
    def prompt_tokens(self) -> int:
        """Of the longest soft prompt among the methods; all leave it its part of the context, to be asked the same."""
        prompts = [resolve_method(contender.method)[1].prompt for contender in self.contenders()]
        return max((prompt.tokens for prompt in prompts if prompt is not None), default=0)

    def cells(self) -> Iterator[Cell]:
        """Every training, in a fixed order."""
        contenders = self.contenders()
        for target in self.named_targets():
            for contender in contenders:
                for rate in contender.learning_rates:
                    for steps in self.steps:
                        for seed in self.seeds:
                            yield Cell(target, contender.name, rate, steps, seed)

    def run(self, cell: Cell, output: Path) -> RunConfig:
        """The config of a cell's training.

        Raises:
            ConfigError: A field of `train` is not allowed.
        """
        contender = next(one for one in self.contenders() if one.name == cell.method)
        return RunConfig(
            model=self.model,
            data=self.named_targets()[cell.target],
            sources=contender.sources or self.sources,
            suite=self.suite_name,
            output=str(output),
            train={"disable_tqdm": True, **self.train, "learning_rate": cell.learning_rate, "max_steps": cell.steps},
            evaluate=self.evaluate,
            gate=self.gate,
            seed=cell.seed,
            method=contender.method,
        )

    @property
    def _rates_by_name(self) -> bool:
        return isinstance(self.learning_rates, Mapping) and set(self.learning_rates) != {"times"}

    def _rates(self, name: str, written: object, default: float | None) -> tuple[float, ...]:
        """What `learning_rates` says of a method: under its name, under what it trains, or for all."""
        rates, where = self.learning_rates, "learning_rates"
        if self._rates_by_name:
            known = [key for key in (name, _trained(written)) if key in rates]
            if not known:
                raise ConfigError(f"learning_rates lacks {name}; it has {', '.join(map(str, rates))}")
            rates, where = rates[known[0]], f"learning_rates.{known[0]}"
        if isinstance(rates, Mapping) and set(rates) == {"times"}:
            if default is None:
                raise ConfigError(
                    f"the method {name} has no default learning rate to multiply; list its learning_rates"
                )
            return tuple(float(f"{factor * default:.6g}") for factor in _numbers(rates["times"], f"{where}.times"))
        return _numbers(rates, where)


def load_comparison(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> CompareConfig:
    """Read the config of a comparison and apply `a.b=c` overrides, whose values are YAML.

    Raises:
        ConfigError: As `load_config`.

    Example:
        >>> settings = {"model": "mini", "data": {"train": "mini:word-rule"}, "methods": ["full"], "steps": [20]}
        >>> print(*load_comparison(settings, ["seeds=[0]", "learning_rates={times: [1, 10]}"]).cells(), sep="\\n")
        word-rule, full, learning rate 2e-05, 20 steps, seed 0
        word-rule, full, learning rate 0.0002, 20 steps, seed 0
    """
    return load_settings(CompareConfig, source, overrides)


def _sources(written: object, method: str) -> SourcesConfig:
    try:
        return SourcesConfig.model_validate(written)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(["methods", method, "sources", *map(str, first["loc"])])
        raise ConfigError(f"{path}: {first['msg']}; got {first['input']!r}") from None


def _trained(method: object) -> str:
    """The name of what a method trains; empty where it has none."""
    first = method[0] if isinstance(method, list | tuple) and method else method
    first = RECOMMENDED[0] if first == AUTO else first
    return first if isinstance(first, str) else ""


def _numbers(written: object, where: str) -> tuple[float, ...]:
    numbers = written if isinstance(written, list | tuple) else ()
    usable = all(isinstance(n, int | float) and not isinstance(n, bool) and 0 < n < math.inf for n in numbers)
    if not numbers or not usable or len({f"{n:g}" for n in numbers}) < len(numbers):
        raise ConfigError(
            f"{where} must be a list of numbers above 0, each once, such as [1e-4, 2e-4], {{times: [0.5, 1, 2]}} of "
            f"each method's default, or one of these for every method by name; got {written!r}"
        )
    return tuple(map(float, numbers))


def _check_names(names: Sequence[str], where: str) -> None:
    for name in names:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ConfigError(
                f"{where}: {name!r} is to name a folder; give it a name of letters, digits and . + - _ "
                f"({{name: NAME, …}})"
            )
        if names.count(name) > 1:
            raise ConfigError(f"{where} has {name} twice; give each a name of its own ({{name: NAME, …}})")
