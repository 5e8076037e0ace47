"""The config of an experiment on implicit patterns: fine-tuning over sizes and rates, beside learning in context."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from keepshot.config import DataConfig, RunConfig, Shots, Whole, load_settings
from keepshot.errors import ConfigError
from keepshot.runs.grid_config import Grid
from keepshot.tasks.patterns import PatternName, Size

Count = Annotated[Whole, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class PatternCell:
    """One training.

    Attributes:
        examples: Distinct labelled examples that it sees.
    """

    task: PatternName
    method: str
    examples: int
    learning_rate: float
    steps: int
    seed: int

    @property
    def group(self) -> tuple[str, str, int]:
        """What settings and seeds are chosen within: a method, trained on so many examples of a task."""
        return self.task, self.method, self.examples

    @property
    def folder(self) -> Path:
        """Where it lies under `cells`."""
        setting = f"{self.learning_rate:g}-{self.steps}-{self.seed}"
        return Path(self.task) / self.method / str(self.examples) / setting

    def __str__(self) -> str:
        return (
            f"{self.task}, {self.method}, {self.examples} examples, learning rate {self.learning_rate:g}, "
            f"{self.steps} steps, seed {self.seed}"
        )


class PatternsConfig(Grid):
    """tasks x methods x numbers of examples x learning rates x steps x seeds.

    `seed` keys what is asked, `seeds` what a training draws, its examples as well. `shots` are those of learning in
    context, of the base; `validation` and `test` are numbers of items, the test twice: as many whose pattern holds, and
    whose it does not.
    """

    output: str = "runs/patterns"
    tasks: Annotated[tuple[PatternName, ...], Field(min_length=1)]
    size: Size = "large"
    examples: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 128, 512, 2000, 4000)
    shots: Shots = (0, 1, 2, 4, 8, 16, 32)
    validation: Count = 200
    test: Count = 500

    @model_validator(mode="after")
    def _check(self) -> "PatternsConfig":
        if self.data is not None:
            raise ConfigError("an experiment on patterns makes its data; leave data out, and name tasks")
        for name in ("tasks", "examples"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} holds a value twice: {list(values)}")
        if self.shots[0] != 0 or len(self.shots) < 2:
            raise ConfigError(f"shots hold 0 and a number above it; got {list(self.shots)}")
        if max(self.examples) < self.shots[-1]:
            raise ConfigError(f"{self.shots[-1]} shots need as many examples; the most is {max(self.examples)}")
        return self

    def cells(self) -> Iterator[PatternCell]:
        """Every training, in a fixed order."""
        contenders = self.contenders()
        for task in self.tasks:
            for contender in contenders:
                for examples in self.examples:
                    for rate in contender.learning_rates:
                        for steps in self.steps:
                            for seed in self.seeds:
                                yield PatternCell(task, contender.name, examples, rate, steps, seed)

    def has_prompt(self, cell: PatternCell) -> bool:
        """Whether a training's method has a soft prompt."""
        return self.run(cell).strategy()[1].prompt is not None

    def data_folder(self, task: PatternName) -> Path:
        """Where the data of a task lies."""
        return Path(self.output) / "data" / task

    def train_file(self, task: PatternName, examples: int, seed: int) -> Path:
        """What a training sees."""
        return self.data_folder(task) / f"train-{examples}-{seed}.jsonl"

    def run(self, cell: PatternCell) -> RunConfig:
        """The config of a training.

        Raises:
            ConfigError: A field of `train` is not allowed.
        """
        folder = self.data_folder(cell.task)
        data = DataConfig(
            train=str(self.train_file(cell.task, cell.examples, cell.seed)),
            validation=str(folder / "validation.jsonl"),
            test=str(folder / "test.jsonl"),
        )
        return self.training(cell, data, Path(self.output) / "cells" / cell.folder)


def load_patterns(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> PatternsConfig:
    """Read the config of an experiment on patterns and apply `a.b=c` overrides, whose values are YAML.

    Raises:
        ConfigError: As `load_config`.

    Example:
        >>> settings = {"model": "mini", "tasks": ["parity"], "methods": ["full"], "steps": [20], "seeds": [0]}
        >>> for cell in load_patterns(settings, ["examples=[32, 64]", "learning_rates=[1e-4]"]).cells():
        ...     print(cell)
        parity, full, 32 examples, learning rate 0.0001, 20 steps, seed 0
        parity, full, 64 examples, learning rate 0.0001, 20 steps, seed 0
    """
    return load_settings(PatternsConfig, source, overrides)
