"""The config of the study of defects: the released problems, with each defect on and off."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from keepshot.config import DataConfig, RunConfig, Shots, Whole, load_settings
from keepshot.errors import ConfigError
from keepshot.runs.grid_config import Grid
from keepshot.tasks.patterns import NONE, OF_ROWS, Defects

ReleasedName = Literal["expressions", "code", "relations", "boolean", "equations"]
Count = Annotated[Whole, Field(ge=1)]
SWITCHES = tuple(field.name for field in fields(Defects))
RELEASED, NO_SWITCH = "as released", "no switch"
RELEASED_TRAINING = {
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "constant_with_warmup",
    "warmup_steps": 20,
    "weight_decay": 0.0,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Some defects, by a name."""

    name: str
    defects: Defects


def settings() -> tuple[Setting, ...]:
    """All defects, each left out; none, each alone.

    Example:
        >>> [found.name for found in settings()][:3], len(settings())
        (['as released', 'without code_labels', 'without bool_no_suffix'], 14)
    """
    every = Defects()
    return (
        Setting(RELEASED, every),
        *(Setting(f"without {name}", replace(every, **{name: False})) for name in SWITCHES),
        Setting(NO_SWITCH, NONE),
        *(Setting(f"{name} alone", replace(NONE, **{name: True})) for name in SWITCHES),
    )


@dataclass(frozen=True, slots=True)
class ConfoundCell:
    """One training, on all tasks together.

    Attributes:
        code_labels: Whether the labels of code are one constant.
        bool_no_suffix: Whether Boolean expressions lack their end.
    """

    code_labels: bool
    bool_no_suffix: bool
    method: str
    learning_rate: float
    steps: int
    seed: int

    @property
    def data(self) -> str:
        """Name of what it is trained on."""
        kept = [name for name in OF_ROWS if getattr(self, name)]
        return "+".join(kept) or "repaired"

    @property
    def folder(self) -> Path:
        """Where it lies under `cells`."""
        return Path(self.data) / str(self.seed)

    def __str__(self) -> str:
        return f"{self.data}, seed {self.seed}"


class ConfoundsConfig(Grid):
    """Trainings on the released problems, of one method at one learning rate and length, as in the release.

    `examples` are training rows of each task, `test` problems of each part, `shots` those of learning in context.
    """

    output: str = "runs/confounds"
    train: dict[str, Any] = Field(default_factory=lambda: dict(RELEASED_TRAINING))
    tasks: Annotated[tuple[ReleasedName, ...], Field(min_length=1)] = ("expressions", "code", "relations", "boolean")
    methods: Annotated[tuple[Any, ...], Field(min_length=1, max_length=1)] = (("full", "all-tokens"),)
    learning_rates: Any = (1e-5,)
    steps: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1)] = (100,)
    examples: Count = 400
    shots: Shots = (1, 2, 4, 8, 16)
    validation: Count = 100
    test: Count = 199

    @model_validator(mode="after")
    def _check(self) -> "ConfoundsConfig":
        if self.data is not None:
            raise ConfigError("the study of defects makes its data; leave data out, and name tasks")
        if len(set(self.tasks)) < len(self.tasks):
            raise ConfigError(f"tasks holds a name twice: {list(self.tasks)}")
        if self.shots[0] == 0:
            raise ConfigError(f"shots are those of learning in context, above 0; got {list(self.shots)}")
        [contender] = self.contenders()
        if len(contender.learning_rates) > 1:
            raise ConfigError(f"the release has one learning rate; got {list(contender.learning_rates)}")
        return self

    def cells(self) -> Iterator[ConfoundCell]:
        """Every training that the tasks need, in a fixed order."""
        [contender] = self.contenders()
        choices = [(True, False) if task in self.tasks else (False,) for task in OF_ROWS.values()]
        for labels, suffix in product(*choices):
            for seed in self.seeds:
                yield ConfoundCell(labels, suffix, contender.name, contender.learning_rates[0], self.steps[0], seed)

    def cell_of(self, defects: Defects, seed: int) -> ConfoundCell:
        """The training that a setting asks."""
        wanted = {name: getattr(defects, name) and task in self.tasks for name, task in OF_ROWS.items()}
        return next(
            cell
            for cell in self.cells()
            if cell.seed == seed and all(getattr(cell, name) is flag for name, flag in wanted.items())
        )

    def data_file(self, cell: ConfoundCell, part: str) -> Path:
        """Where a training's data lies."""
        return Path(self.output) / "data" / f"{cell.data}-{part}-{cell.seed}.jsonl"

    def run(self, cell: ConfoundCell) -> RunConfig:
        """The config of a training: rows as they stand, nothing around them.

        Raises:
            ConfigError: A field of `train` is not allowed.
        """
        train, validation, test = (str(self.data_file(cell, part)) for part in ("train", "validation", "test"))
        data = DataConfig(train=train, validation=validation, test=test, template="verbatim", on_bad_row="skip")
        return self.training(cell, data, Path(self.output) / "cells" / cell.folder)


def load_confounds(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> ConfoundsConfig:
    """Read the config of a study of defects and apply `a.b=c` overrides, whose values are YAML.

    Raises:
        ConfigError: As `load_config`.

    Example:
        >>> config = load_confounds({"model": "mini", "seeds": [0]}, ["tasks=[code, relations]"])
        >>> [str(cell) for cell in config.cells()]
        ['code_labels, seed 0', 'repaired, seed 0']
    """
    return load_settings(ConfoundsConfig, source, overrides)
