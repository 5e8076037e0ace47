"""The config of a comparison: a run's config with lists where a run has one value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from keepshot.config import STRICT, DataConfig, EvaluateConfig, Real, RunConfig, load_settings
from keepshot.errors import ConfigError
from keepshot.runs.grid_config import Grid, check_names
from keepshot.tasks.read import task_name


class TargetConfig(BaseModel):
    """A member of `targets:`; its name is that of the data unless given."""

    model_config = STRICT
    name: str | None = None
    data: DataConfig


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


class CompareConfig(Grid):
    """A whole comparison: targets x methods x learning rates x steps x seeds.

    `seed` keys what all share (the split of the data, the questions), `seeds` what a training draws.
    """

    output: str = "runs/compare"
    targets: tuple[TargetConfig, ...] = ()
    validation_suite: str | None = None
    validation: EvaluateConfig = EvaluateConfig(shots=(4, 16), sets=4, queries=20)
    baseline: str = "full"
    match: Real = Field(default=0.99, gt=0, le=1)
    max_cost: Real = Field(default=1.25, ge=1)
    cost: Literal["time", "tokens"] = "time"
    keep: Literal["chosen", "all"] = "chosen"

    @model_validator(mode="after")
    def _check(self) -> "CompareConfig":
        names = [contender.name for contender in self.contenders()]
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
        check_names([name for name, _ in named], "targets")
        return dict(named)

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
        return self.training(cell, self.named_targets()[cell.target], output)


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
