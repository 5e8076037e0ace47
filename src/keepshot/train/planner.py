"""Which rows make one optimiser step, and how much every scored token counts.

A step holds the target's rows and, for each added stream, as many episodes as bring its computed tokens since the start
nearest to its share: the next episode is drawn once half of it is due. `tokens_per_step` rules the target's rows in the
same way, but for one row that every step has. A scored token's coefficient is

    weight of the stream's term x (1 + steps since its last episode) / its episodes in the step / its scored tokens

so that every episode weighs the same however long its answer, and a stream too small for an episode in every step
carries its weight to the next step that has one. It carries only so much that its part of that step's loss (the first
two factors) is at most the target's weight, or its own where that is more: a rare episode shall not rule its step. What
lies beyond is given up; `StreamState.delivered` says what has arrived. The loss of a step is the sum of coefficient x
token loss: splitting it into micro-batches or over processes cannot change it.

A step is a function of the state before it, and the state is a few numbers: resuming costs nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from keepshot.episodes import Episode, Sampler, Scored
from keepshot.episodes.self_anchors import recurring
from keepshot.errors import ConfigError, DataError
from keepshot.prompts import Row, Span, Template, encode


@dataclass(frozen=True, slots=True)
class Stream:
    """A source of episodes with its cost and its effect.

    Attributes:
        name: Unique in a plan.
        sampler: Draws its episodes.
        share: Fraction of all computed tokens; None for the target, which takes what is left.
        weight: Fraction of the loss.
    """

    name: str
    sampler: Sampler
    share: float | None
    weight: float


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands.

    Attributes:
        drawn: Episodes drawn so far.
        tokens: Tokens computed so far.
        idle: Steps since its last episode.
        dropped: Demonstrations left out so far because a row was too long.
        delivered: Weight in the loss so far; divided by the steps it is comparable with `Stream.weight`.
    """

    drawn: int = 0
    tokens: int = 0
    idle: int = 0
    dropped: int = 0
    delivered: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanState:
    """Everything that the next step depends on."""

    step: int
    streams: Mapping[str, StreamState]


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row of a step.

    Attributes:
        stream: Name of its stream.
        name: Says where it came from.
        row: Tokens.
        scored: Token spans of the answers that are trained on.
        coefficient: Of every scored token.
        recurring: Those of the scored spans whose question stands before with its answer, so that the context has it.
    """

    stream: str
    name: str
    row: Row
    scored: tuple[Span, ...]
    coefficient: float
    recurring: tuple[Span, ...] = ()

    @property
    def num_scored(self) -> int:
        """Scored tokens."""
        return sum(end - start for start, end in self.scored)


@dataclass(frozen=True, slots=True)
class Step:
    """Rows of one optimiser step, over all processes, and the state after it."""

    rows: tuple[PlannedRow, ...]
    after: PlanState


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans steps.

    Attributes:
        streams: The target first.
        template: Renders episodes.
        tokenizer: Encodes them.
        max_length: Longest row in tokens; a longer episode loses demonstrations, in its order, never its answer.
        rows_per_step: Target rows in a step; used if `tokens_per_step` is None.
        tokens_per_step: Computed tokens in a step on average, all streams together.
    """

    streams: Sequence[Stream]
    template: Template
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    rows_per_step: int
    tokens_per_step: int | None = None

    def __post_init__(self) -> None:
        target, *added = self.streams
        shares = [stream.share for stream in added]
        if target.share is not None or any(share is None or share <= 0 for share in shares) or self._rest <= 0:
            raise ConfigError(
                f"shares of the added streams are {shares}; each must be above 0 and their sum below 1, since the "
                "target takes the rest"
            )

    @property
    def _rest(self) -> float:
        return 1.0 - sum(stream.share or 0.0 for stream in self.streams)

    def start(self) -> PlanState:
        """The state before the first step."""
        return PlanState(0, {stream.name: StreamState() for stream in self.streams})

    def steps(self, state: PlanState) -> Iterator[Step]:
        """Every step after `state`, without end."""
        while True:
            step = self.plan(state)
            yield step
            state = step.after

    def rows(self, name: str, episodes: Sequence[Episode]) -> list[PlannedRow]:
        """Rows of a stream's episodes as steps have them, but for the coefficients, which sum to 1 in each."""
        stream = next(stream for stream in self.streams if stream.name == name)
        return [_planned(stream, episode, row, 1.0) for episode, row, _ in self._fit_all(episodes)]

    def plan(self, state: PlanState) -> Step:
        """The step that follows `state`."""
        target, *added = self.streams
        states = dict(state.streams)
        rows, states[target.name] = self._target_rows(target, states[target.name], state.step)
        for stream in added:
            assert stream.share is not None
            due = stream.share / self._rest * states[target.name].tokens
            found, states[stream.name] = self._rows_due(stream, states[stream.name], due)
            rows += found
        return Step(tuple(rows), PlanState(state.step + 1, states))

    def _target_rows(self, stream: Stream, state: StreamState, step: int) -> tuple[list[PlannedRow], StreamState]:
        if self.tokens_per_step is not None:
            return self._rows_due(stream, state, self._rest * self.tokens_per_step * (step + 1), at_least=1)
        return self._weigh(stream, state, self._fit_many(stream, range(state.drawn, state.drawn + self.rows_per_step)))

    def _rows_due(
        self, stream: Stream, state: StreamState, due: float, at_least: int = 0
    ) -> tuple[list[PlannedRow], StreamState]:
        """Episodes that bring the stream's computed tokens since the start nearest to `due`."""
        fitted: list[tuple[Episode, Row, int]] = []
        tokens = state.tokens
        while True:
            found = self._fit(stream, state.drawn + len(fitted))
            length = len(found[1].ids)
            if len(fitted) >= at_least and tokens + length / 2 > due:
                return self._weigh(stream, state, fitted)
            fitted.append(found)
            tokens += length

    def _weigh(
        self, stream: Stream, state: StreamState, fitted: Sequence[tuple[Episode, Row, int]]
    ) -> tuple[list[PlannedRow], StreamState]:
        if not fitted:
            return [], replace(state, idle=state.idle + 1)
        weight = min(stream.weight * (1 + state.idle), max(stream.weight, self.streams[0].weight))
        rows = [_planned(stream, episode, row, weight / len(fitted)) for episode, row, _ in fitted]
        return rows, StreamState(
            drawn=state.drawn + len(fitted),
            tokens=state.tokens + sum(len(row.ids) for _, row, _ in fitted),
            idle=0,
            dropped=state.dropped + sum(dropped for _, _, dropped in fitted),
            delivered=state.delivered + weight,
        )

    def _fit_many(self, stream: Stream, indices: Sequence[int]) -> list[tuple[Episode, Row, int]]:
        return self._fit_all([stream.sampler.draw(index) for index in indices])

    def _fit_all(self, episodes: Sequence[Episode]) -> list[tuple[Episode, Row, int]]:
        rows = encode([self.template.render(episode.examples) for episode in episodes], self.tokenizer)
        return [
            (episode, row, 0) if len(row.ids) <= self.max_length else self._shorten(episode, row)
            for episode, row in zip(episodes, rows, strict=True)
        ]

    def _fit(self, stream: Stream, index: int) -> tuple[Episode, Row, int]:
        return self._fit_many(stream, [index])[0]

    def _shorten(self, episode: Episode, row: Row) -> tuple[Episode, Row, int]:
        """Leave out the fewest demonstrations that make the row fit, in the order in which the episode gives them."""
        dropped = 0
        while len(row.ids) > self.max_length:
            if len(episode.examples) == 1:
                raise DataError(
                    f"{episode.name} has {len(row.ids)} tokens without any demonstration, more than data.max_length "
                    f"{self.max_length}; raise it or shorten the example"
                )
            # The answers' places tell how many demonstrations must go; the loop ends at once but for rare seams.
            over = len(row.ids) - self.max_length
            count = next((i for i, (_, end) in enumerate(row.answers[:-1], 1) if end >= over), len(row.answers) - 1)
            if episode.expendable:
                count = 1  # of those in the middle the answers' places do not tell
            episode = episode.without_demonstrations(count)
            dropped += count
            row = encode([self.template.render(episode.examples)], self.tokenizer)[0]
        return episode, row, dropped


def _planned(stream: Stream, episode: Episode, row: Row, weight: float) -> PlannedRow:
    # A row's first question is a zero-shot prompt; where one answer is left, that is all there is to score.
    places: dict[Scored, tuple[Span, ...]] = {
        "all": row.answers,
        "later": row.answers[1:] or row.answers,
        "last": row.answers[-1:],
        "row": ((1, len(row.ids)),),  # nothing stands before the first token to predict it from
    }
    scored = places[episode.scored]
    count = sum(end - start for start, end in scored)
    again = tuple(row.answers[place] for place in recurring(episode) if row.answers[place] in scored)
    return PlannedRow(stream.name, episode.name, row, scored, weight / count, again)
