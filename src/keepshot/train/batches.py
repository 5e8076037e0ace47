"""Rows of a step to tensors: right-padded micro-batches that know which positions are scored and how much."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from keepshot.prompts import group_by_length
from keepshot.train.planner import PlannedRow


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of one forward and backward pass.

    The scored tokens are in row order, then position order, as `logits_to_keep` flattens them.

    Attributes:
        input_ids: Right-padded token ids; causal attention never looks at the padding.
        keep: True at the positions whose logits predict a scored token.
        targets: The scored tokens.
        coefficients: Of every scored token in the loss of the step.
        streams: Index of every scored token's stream, in the order of `stream_names`.
        rows: The rows themselves, for messages about them.
        stream_names: Names of the streams.
    """

    input_ids: Int[Tensor, "rows width"]
    keep: Bool[Tensor, "rows width"]
    targets: Int[Tensor, " scored"]
    coefficients: Float[Tensor, " scored"]
    streams: Int[Tensor, " scored"]
    rows: tuple[PlannedRow, ...]
    stream_names: tuple[str, ...]

    def rows_of(self, stream: str) -> list[PlannedRow]:
        """The rows of a stream, in order."""
        return [row for row in self.rows if row.stream == stream]

    def to(self, device: torch.device) -> "MicroBatch":
        """The same batch on `device`."""
        return MicroBatch(
            self.input_ids.to(device),
            self.keep.to(device),
            self.targets.to(device),
            self.coefficients.to(device),
            self.streams.to(device),
            self.rows,
            self.stream_names,
        )


def collate(rows: Sequence[PlannedRow], stream_names: Sequence[str], pad_id: int = 0) -> MicroBatch:
    """Pad rows into one micro-batch."""
    width = max(len(row.row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    keep = torch.zeros(ids.shape, dtype=torch.bool)
    targets: list[int] = []
    coefficients: list[float] = []
    streams: list[int] = []
    for at, row in enumerate(rows):
        ids[at, : len(row.row.ids)] = torch.tensor(row.row.ids)
        for start, end in row.scored:
            keep[at, start - 1 : end - 1] = True  # the logits at p - 1 predict the token at p
            targets += row.row.ids[start:end]
            coefficients += [row.coefficient] * (end - start)
            streams += [stream_names.index(row.stream)] * (end - start)
    return MicroBatch(
        ids,
        keep,
        torch.tensor(targets),
        torch.tensor(coefficients, dtype=torch.float32),
        torch.tensor(streams),
        tuple(rows),
        tuple(stream_names),
    )


def micro_batches(
    rows: Sequence[PlannedRow],
    stream_names: Sequence[str],
    *,
    budget: int,
    pad_id: int = 0,
    process: int = 0,
    num_processes: int = 1,
) -> list[MicroBatch]:
    """This process's micro-batches of a step.

    Every process gets the same number of batches (collective operations need that): where the groups do not divide
    evenly, a process repeats its last with coefficient 0.

    Args:
        rows: All rows of the step.
        stream_names: Names of the streams.
        budget: Most padded tokens in a micro-batch.
        pad_id: Filler; its value changes nothing.
        process: Index of this process.
        num_processes: Number of processes.
    """
    groups = group_by_length([len(row.row.ids) for row in rows], budget)
    most = -(-len(groups) // num_processes)
    mine = groups[process::num_processes]
    batches = [collate([rows[i] for i in group], stream_names, pad_id) for group in mine]
    while len(batches) < most:
        filler = batches[-1] if batches else collate([rows[i] for i in groups[0]], stream_names, pad_id)
        batches.append(
            MicroBatch(
                filler.input_ids,
                filler.keep,
                filler.targets,
                torch.zeros_like(filler.coefficients),
                filler.streams,
                filler.rows,
                filler.stream_names,
            )
        )
    return batches
