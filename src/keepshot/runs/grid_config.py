"""What trainings side by side have in common: methods, their learning rates, lengths and seeds."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

from pydantic import Field, ValidationError, model_validator

from keepshot.config import DataConfig, RunConfig, Seed, Settings, SourcesConfig, Whole
from keepshot.errors import ConfigError
from keepshot.strategies import AUTO, CUSTOM, RECOMMENDED, resolve_method
from keepshot.train.arguments import check_train_fields

# What one list or another of the comparison says.
REFUSED = {
    "learning_rate": "learning_rates lists them",
    "max_steps": "steps lists them",
    "num_train_epochs": "steps lists how long is trained",
}


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


@runtime_checkable
class Trained(Protocol):
    """A cell of a grid, as far as a training is concerned."""

    @property
    def method(self) -> str:
        """The contender's name."""

    @property
    def learning_rate(self) -> float:
        """Of the training."""

    @property
    def steps(self) -> int:
        """Of the training."""

    @property
    def seed(self) -> int:
        """Of the training."""


class Grid(Settings):
    """Methods x learning rates x steps x seeds."""

    methods: Annotated[tuple[Any, ...], Field(min_length=1)]
    learning_rates: Any = Field(default={"times": [0.5, 1, 2]})
    steps: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)

    @model_validator(mode="after")
    def _check_grid(self) -> "Grid":
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
        check_train_fields(self.train)
        return self

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
            if given is None and name == CUSTOM:
                raise ConfigError("a method that is written out needs a name: {name: NAME, method: …}")
            found.append(Contender(given or name, written, self._rates(given or name, written, default), sources))
        check_names([contender.name for contender in found], "methods")
        return tuple(found)

    @property
    def prompt_tokens(self) -> int:
        """Of the longest soft prompt among the methods; all leave it its part of the context, to be asked the same."""
        prompts = [resolve_method(contender.method)[1].prompt for contender in self.contenders()]
        return max((prompt.tokens for prompt in prompts if prompt is not None), default=0)

    def training(self, cell: Trained, data: DataConfig, output: Path) -> RunConfig:
        """The config of one training.

        Raises:
            ConfigError: A field of `train` is not allowed.
        """
        contender = next(one for one in self.contenders() if one.name == cell.method)
        if data.split_seed is None and cell.seed != self.seed:  # all trainings have the parts of the whole grid
            data = data.model_copy(update={"split_seed": self.seed})
        return RunConfig(
            model=self.model,
            data=data,
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

    def _rates(self, name: str, written: object, default: float) -> tuple[float, ...]:
        """What `learning_rates` says of a method: under its name, under what it trains, or for all."""
        rates, where = self.learning_rates, "learning_rates"
        if self._rates_by_name:
            known = [key for key in (name, _trained(written)) if key in rates]
            if not known:
                raise ConfigError(f"learning_rates lacks {name}; it has {', '.join(map(str, rates))}")
            rates, where = rates[known[0]], f"learning_rates.{known[0]}"
        if isinstance(rates, Mapping) and set(rates) == {"times"}:
            return tuple(float(f"{factor * default:.6g}") for factor in _numbers(rates["times"], f"{where}.times"))
        return _numbers(rates, where)


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


def check_number(cell: int | None, count: int, what: str) -> None:
    """Whether a cell that is asked for by its number is there; None asks for all.

    Raises:
        ConfigError: It is not.
    """
    if cell is not None and not 1 <= cell <= count:
        raise ConfigError(f"cell {cell} is none of this {what}'s, which are numbered from 1 to {count}")


def check_names(names: Sequence[str], where: str) -> None:
    """Whether these can be names of folders, each of its own.

    Raises:
        ConfigError: They cannot.
    """
    for name in names:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ConfigError(
                f"{where}: {name!r} is to name a folder; give it a name of letters, digits and . + - _ "
                f"({{name: NAME, …}})"
            )
        if names.count(name) > 1:
            raise ConfigError(f"{where} has {name} twice; give each a name of its own ({{name: NAME, …}})")
