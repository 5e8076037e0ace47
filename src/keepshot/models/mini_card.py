"""What a model of the universe can do, measured: the numbers of the bundled model's card.

Exact match of the n-th example of an episode, where every answer is scored with the text before it as it should be
(which equals greedy decoding), and the loss on rows as pretraining draws them. All are drawn by keys of their own, so
that none is a row of training.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest, t
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedModel

from keepshot import keys
from keepshot.tasks.universe import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    INSTRUCTED_FAMILIES,
    SyntheticTask,
    draw_instructed,
    draw_task,
    episode,
    row,
)
from keepshot.tasks.universe.problems import LAYOUTS, NO_PROBLEMS, ProblemShares, Written, problem_task

CARD = "card.json"
SHOTS = (0, 1, 2, 4, 8, 16, 32)
_INSTRUCTED_SHOTS = (0, 1, 4)
_BATCH = 32

Rows = Sequence[tuple[list[int], list[int]]]
"""Token ids and answer masks, as `episode` and `row` give them."""


def measured_card(folder: Path, episodes: int, shares: ProblemShares = NO_PROBLEMS) -> dict[str, Any]:
    """All that can be measured of a saved model: the hash of its weights, its loss, and its curves, in float32.

    Args:
        folder: Of the model.
        episodes: Of each family; the loss is that of twice as many rows.
        shares: Of rows about problems in its training: the loss is on such rows, and there are curves of them.
    """
    weights = (folder / "model.safetensors").read_bytes()
    model: PreTrainedModel = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "bytes": len(weights),
        "parameters": model.num_parameters(),
        "loss": row_loss(model, 2 * episodes, "card", shares=shares),
        "curves": {**curves(model, episodes), **problem_curves(model, episodes, shares)},
    }


def row_loss(
    model: PreTrainedModel, rows: int, *purpose: str, shares: ProblemShares = NO_PROBLEMS
) -> dict[str, float | int]:
    """The mean over training rows of the nats per byte of an answer, with its 95 % t interval.

    Args:
        model: Reads byte tokens.
        rows: How many are drawn; one without an answer, as a short one can be, is left out.
        purpose: Keys the draw.
        shares: Of them about problems.
    """
    generators = (keys.generator("mini card", "row", *purpose, index) for index in range(rows))
    drawn = [one for generator in generators if any((one := row(generator, _length(model), shares))[1][1:])]
    losses = torch.cat([_losses(model, part) for part in _batches(drawn)]).double()
    reach = t.ppf(0.975, len(drawn) - 1) * losses.std().item() / len(drawn) ** 0.5
    value = losses.mean().item()
    return {"nats": value, "low": value - reach, "high": value + reach, "rows": len(drawn)}


def curves(model: PreTrainedModel, episodes: int) -> dict[str, dict[str, Any]]:
    """Exact match by group, family and number of examples before, each with its 95 % Wilson interval.

    `training` holds tasks of each family that examples explain, and `all` as they are mixed in training; `held out`
    those that training never shows; `instructed` those that an instruction explains, also those over string functions
    that no instruction named in training.
    """
    of = partial(_drawn_curve, model, episodes)

    def of_families(group: str, draw: Callable[..., SyntheticTask], names: Sequence[str], shots: Sequence[int]) -> Any:
        return {name: of(f"{group} {name}", partial(draw, families=[name]), shots) for name in names}

    return {
        "training": {
            "all": of("training", draw_task, SHOTS),
            **of_families("training", draw_task, FAMILIES, SHOTS),
        },
        "held out": of_families("held out", partial(draw_task, heldout=True), HELD_OUT_FAMILIES, SHOTS),
        "instructed": {
            **of_families("instructed", draw_instructed, INSTRUCTED_FAMILIES, _INSTRUCTED_SHOTS),
            "strings held out": of("instructed held out", partial(draw_instructed, heldout=True), _INSTRUCTED_SHOTS),
        },
    }


def problem_curves(model: PreTrainedModel, episodes: int, shares: ProblemShares) -> dict[str, dict[str, Any]]:
    """The same of tasks about problems, by their layout, as far as they have a share."""

    def of_layouts(name: str, written: Written) -> dict[str, Any]:
        return {
            layout: _drawn_curve(
                model, episodes, f"{name} {layout}", partial(problem_task, layout=layout, written=written), SHOTS
            )
            for layout in LAYOUTS[written]
        }

    return {
        **({"problems": of_layouts("problems", "repaired")} if shares.repaired else {}),
        **({"released problems": of_layouts("released problems", "released")} if shares.released else {}),
    }


def card_tables(card: Mapping[str, Any]) -> str:
    """The curves of a card as Markdown: accuracy with its interval in thousandths, `-` where there are few.

    Example:
        >>> point = {"accuracy": 0.5, "low": 0.31, "high": 0.69, "n": 20}
        >>> print(card_tables({"curves": {"held out": {"bits": {"0": point, "16": None}}}}))
        | held out | 0 | 16 |
        |---|---|---|
        | bits | .500 [.310, .690] | - |
    """
    tables = []
    for group, families in card["curves"].items():
        shots = list(next(iter(families.values())))
        lines = [f"| {group} | {' | '.join(shots)} |", "|---" * (1 + len(shots)) + "|"]
        lines += [f"| {name} | {' | '.join(_cell(curve[n]) for n in shots)} |" for name, curve in families.items()]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cell(point: Mapping[str, float] | None) -> str:
    if point is None:
        return "-"
    value, low, high = (f"{point[name]:.3f}".removeprefix("0") for name in ("accuracy", "low", "high"))
    return f"{value} [{low}, {high}]"


def _drawn_curve(
    model: PreTrainedModel, episodes: int, name: str, draw: Callable[[Random], SyntheticTask], shots: Sequence[int]
) -> dict[str, dict[str, float | int] | None]:
    """Of episodes that are drawn by this name."""
    drawn = []
    for index in range(episodes):
        random = keys.generator("mini card", name, index)
        drawn.append(episode(random, _length(model), task=draw(random), most_examples=max(shots) + 1))
    return _curve(model, drawn, shots)


def _curve(model: PreTrainedModel, drawn: Rows, shots: Sequence[int]) -> dict[str, dict[str, float | int] | None]:
    """Of the n-th example over the episodes that have one; None where fewer than half of them do."""
    right = [hits for part in _batches(drawn) for hits in _right(model, part)]
    curve: dict[str, dict[str, float | int] | None] = {}
    for count in shots:
        hits = [row[count] for row in right if len(row) > count]
        if 2 * len(hits) < len(right):
            curve[str(count)] = None
            continue
        interval = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
        curve[str(count)] = {
            "accuracy": sum(hits) / len(hits),
            "low": float(interval.low),
            "high": float(interval.high),
            "n": len(hits),
        }
    return curve


def _losses(model: PreTrainedModel, rows: Rows) -> Float[Tensor, " rows"]:
    """Nats per answer byte of each row."""
    ids, answers = _padded(model, rows)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
    nats = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
    scored = answers[:, 1:]
    return ((nats * scored).sum(1) / scored.sum(1)).cpu()


def _right(model: PreTrainedModel, rows: Rows) -> Iterator[list[bool]]:
    """Of each row, whether the most likely tokens are the answer's, example by example."""
    ids, answers = _padded(model, rows)
    with torch.no_grad():
        guesses = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)
    hits = (guesses == ids[:, 1:]).cpu()
    for hit, scored in zip(hits.tolist(), answers[:, 1:].tolist(), strict=True):
        examples: list[bool] = []
        inside = False
        for right, answer in zip(hit, scored, strict=True):
            if answer and not inside:
                examples.append(right)
            elif answer:
                examples[-1] = examples[-1] and right
            inside = answer
        yield examples


def _padded(model: PreTrainedModel, rows: Rows) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    longest = max(len(ids) for ids, _ in rows)
    padded = [[part + [0] * (longest - len(part)) for part in row] for row in rows]
    ids, answers = (torch.tensor([row[i] for row in padded], device=model.device) for i in range(2))
    return ids, answers.bool()


def _batches(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


def _length(model: PreTrainedModel) -> int:
    length: int = model.config.max_position_embeddings
    return length
