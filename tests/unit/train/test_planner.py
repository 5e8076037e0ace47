from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training import EXAMPLES, UPPER, byte_tokenizer, few_shot, plan, target

from keepshot.episodes import Bank, Episode, KShot, Sampler, ZeroShot
from keepshot.errors import ConfigError, DataError
from keepshot.prompts import PLAIN, encode
from keepshot.tasks.example import Example
from keepshot.train import PlannedRow, Planner, Step, Stream
from keepshot.train.checkpoints import load_plan, save_plan

SHARES = st.floats(0.02, 0.9)
SEEDS = st.integers(0, 5)


def first_steps(planner: Planner, count: int) -> list[Step]:
    steps = planner.steps(planner.start())
    return [next(steps) for _ in range(count)]


def of(rows: tuple[PlannedRow, ...], stream: str) -> list[PlannedRow]:
    return [row for row in rows if row.stream == stream]


def effect(row: PlannedRow) -> float:
    """What the row weighs in the loss of its step."""
    return row.coefficient * sum(end - start for start, end in row.scored)


def lengths_of(stream: Stream, count: int) -> list[int]:
    """Tokens of a stream's first rows."""
    return _lengths(stream.sampler)[:count]


@cache
def _lengths(sampler: Sampler) -> list[int]:
    rows = encode([PLAIN.render(sampler.draw(index).examples) for index in range(200)], byte_tokenizer())
    return [len(row.ids) for row in rows]


def assert_nearest(due: float, lengths: list[int], count: int) -> None:
    """With `count` rows the tokens are as near to `due` as they can be: one more or one fewer is not nearer."""
    assert sum(lengths[:count]) + lengths[count] / 2 > due - 1e-6
    assert count == 0 or sum(lengths[: count - 1]) + lengths[count - 1] / 2 <= due + 1e-6


def text(row: PlannedRow) -> str:
    assert row.row.ids[0] == 1
    return bytes(row.row.ids[1:]).decode()


def scored_text(row: PlannedRow) -> list[str]:
    return [bytes(row.row.ids[start:end]).decode() for start, end in row.scored]


@given(share=SHARES, weight=st.floats(0.01, 0.99), rows=st.integers(1, 9), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_stream_weighs_the_same_in_the_loss_whatever_its_episodes(
    share: float, weight: float, rows: int, seed: int
) -> None:
    planner = plan(target(1 - weight, seed), few_shot(share, weight, seed=seed), rows=rows)
    idle, spent = 0, 0.0
    for number, step in enumerate(first_steps(planner, 8), 1):
        assert len(of(step.rows, "target")) == rows
        assert sum(map(effect, of(step.rows, "target"))) == pytest.approx(1 - weight)
        found = of(step.rows, "few-shot")
        if found:  # also what it did not weigh in the steps that had no place for it, as far as the target outweighs it
            whole = min(weight * (1 + idle), max(weight, 1 - weight))
            assert [effect(row) for row in found] == pytest.approx([whole / len(found)] * len(found))
        idle = 0 if found else idle + 1
        spent += sum(map(effect, found))
        states = step.after.streams
        assert states["few-shot"].idle == idle
        assert states["few-shot"].delivered == pytest.approx(spent)
        assert states["target"].delivered == pytest.approx((1 - weight) * number)


def test_a_stream_too_small_for_every_step_waits_and_then_weighs_more() -> None:
    steps = first_steps(plan(target(0.9), few_shot(0.2, 0.1), rows=2), 40)
    counts = [len(of(step.rows, "few-shot")) for step in steps]
    assert 0 < sum(counts) < 20
    assert counts[0] == 0, "half of an episode is not due yet"
    last = max(i for i, count in enumerate(counts) if count)
    spent = sum(effect(row) for step in steps for row in of(step.rows, "few-shot"))
    assert spent == pytest.approx(0.1 * (last + 1))
    assert steps[-1].after.streams["few-shot"].delivered == pytest.approx(spent)


@pytest.mark.parametrize(("weight", "most"), [(0.4, 0.6), (0.5, 0.5), (0.7, 0.7)])
def test_a_rare_stream_never_outweighs_the_target_but_by_its_own_weight(weight: float, most: float) -> None:
    steps = first_steps(plan(target(1 - weight), few_shot(0.2, weight), rows=1), 40)
    parts = [sum(map(effect, found)) for step in steps if (found := of(step.rows, "few-shot"))]
    assert len(parts) > 2
    assert parts == pytest.approx([most] * len(parts))
    assert steps[-1].after.streams["few-shot"].delivered == pytest.approx(most * len(parts))


@given(shares=st.tuples(st.floats(0.02, 0.45), st.floats(0.02, 0.45)), rows=st.integers(1, 9), seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_shares_of_the_computed_tokens_hold_to_within_half_an_episode(
    shares: tuple[float, float], rows: int, seed: int
) -> None:
    added = [replace(few_shot(share, seed=seed + i), name=f"added {i}") for i, share in enumerate(shares)]
    planner = plan(target(seed=seed), *added, rows=rows)
    lengths: dict[str, list[int]] = {name: [] for name in ("target", "added 0", "added 1")}
    upcoming = {stream.name: lengths_of(stream, 100) for stream in added}
    for step in first_steps(planner, 8):
        for row in step.rows:
            lengths[row.stream].append(len(row.row.ids))
        assert {name: sum(each) for name, each in lengths.items()} == {
            name: stream.tokens for name, stream in step.after.streams.items()
        }
        for stream, share in zip(added, shares, strict=True):
            due = share / (1 - sum(shares)) * sum(lengths["target"])
            assert_nearest(due, upcoming[stream.name], len(lengths[stream.name]))


@given(tokens=st.integers(1, 300), share=SHARES, seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_tokens_per_step_hold_over_steps_to_within_half_a_row(tokens: int, share: float, seed: int) -> None:
    planner = plan(target(seed=seed), few_shot(share, seed=seed), tokens=tokens)
    rows, upcoming = 0, lengths_of(planner.streams[0], 200)
    for number, step in enumerate(first_steps(planner, 8), 1):
        here = len(of(step.rows, "target"))
        rows += here
        assert here >= 1
        if here > 1:
            assert sum(upcoming[: rows - 1]) + upcoming[rows - 1] / 2 <= (1 - share) * tokens * number + 1e-6
        assert sum(upcoming[:rows]) + upcoming[rows] / 2 > (1 - share) * tokens * number - 1e-6


def test_steps_of_many_tokens_have_them_on_average() -> None:
    steps = first_steps(plan(target(), few_shot(0.4), tokens=150), 30)
    assert sum(len(row.row.ids) for step in steps for row in step.rows) == pytest.approx(150 * 30, rel=0.01)


def test_every_target_row_is_seen_once_in_a_pass() -> None:
    steps = first_steps(plan(target(), few_shot(), rows=3), 11)
    seen = [text(row) for step in steps for row in of(step.rows, "target")]
    whole = sorted(f"Q: {example.input}\nA: {example.output}\n" for example in EXAMPLES)
    for turn in range(3):
        assert sorted(seen[11 * turn : 11 * turn + 11]) == whole
    assert seen[:11] != seen[11:22]


@pytest.mark.parametrize("scored", ["all", "last"])
def test_every_answer_is_scored_or_only_the_last(scored: str) -> None:
    for step in first_steps(plan(target(), few_shot(scored=scored)), 3):
        for row in of(step.rows, "few-shot"):
            answers = [line.removeprefix("A:") + "\n" for line in text(row).splitlines() if line.startswith("A:")]
            assert scored_text(row) == (answers if scored == "all" else answers[-1:])
            assert len(answers) > 1


def test_every_token_but_the_first_is_scored_or_the_answer_alone() -> None:
    examples = [Example("ab", "AB"), Example("abcd", "ABCD")]
    rows = {
        scored: Planner(
            [Stream("target", ZeroShot("target", examples, 0, scored), None, 1.0)], PLAIN, byte_tokenizer(), 64, 2
        )
        for scored in ("row", "all")
    }
    for scored, planner in rows.items():
        for row in first_steps(planner, 1)[0].rows:
            assert scored_text(row) == ([text(row)] if scored == "row" else [text(row)[text(row).index("A:") + 2 :]])
            assert effect(row) == pytest.approx(0.5)


@given(max_length=st.integers(20, 90), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_long_episode_loses_the_fewest_first_demonstrations_and_never_its_answer(max_length: int, seed: int) -> None:
    sampler = KShot("few-shot", (UPPER,), (1, 5), seed)
    planner = plan(target(examples=UPPER.examples), Stream("few-shot", sampler, 0.5, 0.5), max_length=max_length)
    step = planner.plan(planner.start())
    dropped = 0
    for index, row in enumerate(of(step.rows, "few-shot")):
        blocks = [f"Q: {example.input}\nA: {example.output}\n" for example in sampler.draw(index).examples]
        kept = text(row).count("Q:")
        dropped += len(blocks) - kept
        assert text(row) == "".join(blocks[-kept:])
        assert scored_text(row) == [block[block.index("A:") + 2 :] for block in blocks[-kept:]]
        assert len(row.row.ids) <= max_length
        assert kept == len(blocks) or 1 + len("".join(blocks[-kept - 1 :])) > max_length
    assert step.after.streams["few-shot"].dropped == dropped
    assert step.after.streams["target"].dropped == 0


@pytest.mark.parametrize(("max_length", "left"), [(51, "abcdq"), (50, "acdq"), (40, "acq"), (30, "aq"), (20, "q")])
def test_a_long_episode_loses_what_it_says_first(max_length: int, left: str) -> None:
    """`a` is the similar example, `b` and `d` and `c` were left to chance, in this order."""
    examples = tuple(Example(letter, "y") for letter in "abcdq")
    episode = Episode("target", "contrastive", examples, "last", expendable=(1, 3, 2, 0))
    [row] = plan(target(examples=examples), max_length=max_length).rows("target", [episode])
    text = bytes(token for token in row.row.ids if token > 1).decode()
    assert [letter for letter in "abcdq" if f"Q: {letter}\n" in text] == list(left)
    assert len(row.row.ids) <= max_length
    assert len(row.scored) == 1


def test_dropped_demonstrations_are_counted_over_steps() -> None:
    steps = first_steps(plan(target(), few_shot(), max_length=32), 4)
    counts = [step.after.streams["few-shot"].dropped for step in steps]
    assert 0 < counts[0] < counts[-1]
    assert counts == sorted(counts)


def test_an_example_that_is_too_long_by_itself_is_named() -> None:
    planner = plan(target(examples=(Example("x" * 40, "y"),)), max_length=30)
    with pytest.raises(DataError, match=r"target example 1 has 50 tokens .* data.max_length 30; raise it"):
        planner.plan(planner.start())


@given(before=st.integers(0, 6), share=SHARES, tokens=st.none() | st.integers(50, 200))
@settings(max_examples=15, deadline=None)
def test_planning_from_a_saved_state_is_planning_straight_on(
    before: int, share: float, tokens: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    planner = plan(target(), few_shot(share), rows=3, tokens=tokens, max_length=40)
    straight = first_steps(planner, before + 3)
    folder = tmp_path_factory.mktemp("plan")
    save_plan(straight[before - 1].after if before else planner.start(), 1.5, folder)
    state, seconds = load_plan(folder)
    again = planner.steps(state)
    assert [next(again) for _ in range(3)] == straight[before:]
    assert seconds == 1.5
    assert straight[-1].after.step == before + 3


@pytest.mark.parametrize("max_length", [128, 40])
@pytest.mark.parametrize("scored", ["all", "last"])
def test_rows_of_a_stream_are_those_that_steps_have(scored: str, max_length: int) -> None:
    """Also where they were too long; only the coefficients belong to the step."""
    stream = few_shot(scored=scored)
    bank = replace(stream, sampler=Bank("few-shot", stream.sampler, 4, 0))
    planner = plan(target(), bank, max_length=max_length)
    fixed = planner.rows("few-shot", [bank.sampler.row(place) for place in range(4)])
    assert [effect(row) for row in fixed] == pytest.approx([1.0] * 4)
    by_name = {row.name: row for row in fixed}
    found = [row for step in first_steps(planner, 6) for row in of(step.rows, "few-shot")]
    assert {row.name for row in found} == set(by_name)
    assert len(found) > 8, "rows are visited again"
    for row in found:
        assert replace(row, coefficient=1.0) == replace(by_name[row.name], coefficient=1.0)
    examples = [planner.streams[0].sampler.draw(index) for index in range(8)]
    in_step = of(planner.plan(planner.start()).rows, "target")
    assert [row.row for row in planner.rows("target", examples)] == [row.row for row in in_step]
    assert planner.rows("few-shot", []) == []


def test_looking_ahead_changes_nothing() -> None:
    planner = plan(target(), few_shot())
    state = first_steps(planner, 2)[-1].after
    ahead = planner.plan(state)
    first_steps(planner, 5)
    assert planner.plan(state) == ahead == first_steps(planner, 3)[-1]


@pytest.mark.parametrize("shares", [(None,), (0.0,), (1.0,), (0.5, 0.5), (-0.1,)])
def test_shares_must_leave_the_target_something(shares: tuple[float | None, ...]) -> None:
    added = [replace(few_shot(), name=f"added {i}", share=share) for i, share in enumerate(shares)]
    with pytest.raises(ConfigError, match="shares of the added streams") as caught:
        plan(target(), *added)
    assert "\n" not in str(caught.value)


def test_the_target_has_no_share() -> None:
    with pytest.raises(ConfigError, match="the target takes the rest"):
        plan(replace(target(), share=0.5))
