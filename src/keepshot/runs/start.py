"""The few-shot prompts that tell an adapter where to start, see `Lora.start`."""

from collections.abc import Sequence
from dataclasses import dataclass

from keepshot.config import RunConfig
from keepshot.episodes import Sampler
from keepshot.runs.data import TargetData
from keepshot.runs.streams import build_sampler
from keepshot.runs.training import Encoder
from keepshot.strategies import Lora, StreamSpec, Trainable
from keepshot.tasks.example import Task
from keepshot.train import Planner, Stream

# Other tasks' prompts where the run has some, else the target's own inputs under arbitrary functions.
OTHERS = StreamSpec(name="start", sampler="k-shot", source="anchors")
OWN = StreamSpec(name="start", sampler="self-anchor", shots=(2, 16))


@dataclass(frozen=True, slots=True)
class StartPrompts:
    """A value of `keepshot.strategies.Prompts`: makes the prompts when they are asked for.

    Attributes:
        spec: Which prompts.
        sampler: Draws their episodes.
        encoder: How they become tokens.
    """

    spec: StreamSpec
    sampler: Sampler
    encoder: Encoder

    def __call__(self, count: int) -> Sequence[Sequence[int]]:
        """The first `count` prompts with their answers, as training rows would have them; the same in every call."""
        encoder = self.encoder
        stream = Stream(self.spec.name, self.sampler, None, 1.0)
        planner = Planner([stream], encoder.template, encoder.tokenizer, encoder.max_length, rows_per_step=1)
        planned = planner.rows(self.spec.name, [self.sampler.draw(index) for index in range(count)])
        return [one.row.ids for one in planned]


def start_prompts(
    trainable: Trainable, config: RunConfig, target: TargetData, held_out: Sequence[Task], encoder: Encoder
) -> tuple[StartPrompts | None, list[str]]:
    """The prompts that a trainable starts from, None where it needs none; and notes on what was left out.

    Raises:
        DataError: `sources.anchors` cannot be read, or nothing of it is left.
    """
    if not (isinstance(trainable, Lora) and trainable.needs_prompts):
        return None, []
    spec = OTHERS if config.sources.anchors or config.model == "mini" else OWN
    sampler, notes = build_sampler(spec, config, target, held_out, encoder)
    return StartPrompts(spec, sampler, encoder), notes
