from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.prompts import Row, Span
from keepshot.train import MicroBatch, PlannedRow, collate, micro_batches

STREAMS = ("target", "few-shot")


def planned(ids: tuple[int, ...], scored: tuple[Span, ...], name: str = "row", coefficient: float = 0.5) -> PlannedRow:
    return PlannedRow("target", name, Row(ids, scored), scored, coefficient)


Raw = list[tuple[str, list[int], set[int], float]]
RAW = st.lists(
    st.tuples(
        st.sampled_from(STREAMS),
        st.lists(st.integers(2, 99), min_size=4, max_size=30),
        st.sets(st.integers(1, 4), min_size=2, max_size=4),
        st.floats(0.01, 1),
    ),
    min_size=1,
    max_size=12,
)


def rows(raw: Raw) -> list[PlannedRow]:
    """Rows with one or two scored spans, the first token never among them."""
    found = []
    for index, (stream, ids, marks, coefficient) in enumerate(raw):
        cuts = sorted({mark * len(ids) // 4 for mark in marks})
        spans = tuple(zip(cuts[::2], cuts[1::2], strict=False))
        found.append(PlannedRow(stream, f"row {index}", Row(tuple(ids), spans), spans, coefficient))
    return found


def by_row(batches: list[MicroBatch]) -> dict[str, float]:
    """What every row weighs in the loss."""
    weights: dict[str, float] = {}
    for batch in batches:
        parts = batch.coefficients.split(batch.keep.sum(dim=1).tolist())
        for row, part in zip(batch.rows, parts, strict=True):
            weights[row.name] = weights.get(row.name, 0) + float(part.sum())
    return weights


def test_a_batch_by_hand() -> None:
    first = planned((1, 11, 12, 13, 14, 15), ((2, 3), (4, 6)), coefficient=0.25)
    second = replace(planned((1, 21, 22), ((1, 3),)), stream="few-shot")
    batch = collate([first, second], STREAMS, pad_id=7)
    assert batch.input_ids.tolist() == [[1, 11, 12, 13, 14, 15], [1, 21, 22, 7, 7, 7]]
    assert batch.keep.int().tolist() == [[0, 1, 0, 1, 1, 0], [1, 1, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [12, 14, 15, 21, 22]
    assert batch.coefficients.tolist() == [0.25, 0.25, 0.25, 0.5, 0.5]
    assert batch.streams.tolist() == [0, 0, 0, 1, 1]
    assert batch.rows == (first, second)


def test_only_what_is_scored_counts() -> None:
    row = replace(planned((1, 11, 12, 13, 14, 15), ((2, 3), (4, 6))), scored=((4, 6),))
    batch = collate([row], STREAMS)
    assert batch.targets.tolist() == [14, 15]
    assert batch.keep.int().tolist() == [[0, 0, 0, 1, 1, 0]]


@given(RAW)
@settings(deadline=None)
def test_kept_positions_are_those_before_the_scored_tokens(raw: Raw) -> None:
    planned_rows = rows(raw)
    batch = collate(planned_rows, STREAMS)
    assert not batch.keep[:, -1].any()
    assert torch.equal(batch.input_ids.roll(-1, dims=1)[batch.keep], batch.targets)
    spans = [(row, span) for row in planned_rows for span in row.scored]
    assert batch.targets.tolist() == [token for row, (start, end) in spans for token in row.row.ids[start:end]]
    assert by_row([batch]) == pytest.approx(
        {row.name: row.coefficient * sum(end - start for start, end in row.scored) for row in planned_rows}, rel=1e-5
    )
    assert [STREAMS[i] for i in batch.streams] == [row.stream for row, (start, end) in spans for _ in range(start, end)]


@given(RAW, st.integers(1, 200))
@settings(deadline=None)
def test_micro_batches_hold_every_row_once_within_the_budget(raw: Raw, budget: int) -> None:
    planned_rows = rows(raw)
    batches = micro_batches(planned_rows, STREAMS, budget=budget)
    assert sorted(row.name for batch in batches for row in batch.rows) == sorted(row.name for row in planned_rows)
    assert all(batch.input_ids.numel() <= budget or len(batch.rows) == 1 for batch in batches)


@given(RAW, st.integers(1, 200), st.integers(1, 5))
@settings(deadline=None)
def test_processes_together_have_every_coefficient_once_and_equally_many_batches(
    raw: Raw, budget: int, num_processes: int
) -> None:
    planned_rows = rows(raw)
    shares = [
        micro_batches(planned_rows, STREAMS, budget=budget, process=process, num_processes=num_processes)
        for process in range(num_processes)
    ]
    whole = micro_batches(planned_rows, STREAMS, budget=budget)
    assert {len(share) for share in shares} == {-(-len(whole) // num_processes)}
    assert by_row([batch for share in shares for batch in share]) == pytest.approx(by_row(whole))
    real = [row.name for share in shares for batch in share if batch.coefficients.any() for row in batch.rows]
    assert sorted(real) == sorted(row.name for row in planned_rows)


def test_the_filler_stands_only_after_the_rows() -> None:
    planned_rows = [planned(tuple(range(2, 2 + length)), ((1, 2),), f"row {length}") for length in (3, 9, 5)]
    (batch,) = micro_batches(planned_rows, STREAMS, budget=100, pad_id=99)
    assert [row.name for row in batch.rows] == ["row 3", "row 5", "row 9"]
    assert (batch.input_ids == 99).sum(dim=1).tolist() == [6, 4, 0]
    assert not batch.keep[batch.input_ids == 99].any()


def test_moving_a_batch_keeps_what_it_says() -> None:
    batch = collate([planned((1, 11, 12), ((2, 3),))], STREAMS)
    moved = batch.to(torch.device("meta"))
    assert {t.device.type for t in (moved.input_ids, moved.keep, moved.targets, moved.coefficients, moved.streams)} == {
        "meta"
    }
    assert (moved.rows, moved.stream_names) == (batch.rows, batch.stream_names)
