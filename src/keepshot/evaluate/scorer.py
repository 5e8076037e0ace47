"""Log-likelihoods of answers, with the shared beginning of prompts computed once.

Rows come in levels, one level per shot count, each level's context continuing the one before. The keys and values of
that growing context are computed once; every row of a level forks from them and computes its own tokens only. What is
shared is the verified common token prefix of whole rows, so the numbers are those of scoring each row by itself.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from keepshot.errors import RunError
from keepshot.models.load import CausalLM
from keepshot.prompts import Row, group_by_length

# Computed tokens and remembered tokens (context included) in one batch: bounds for the activations and the cache.
BATCH_TOKENS = 4096
CACHED_TOKENS = 16384
FORKABLE_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says to a row's last answer.

    Attributes:
        log_likelihood: Sum over the answer's tokens, in nats.
        num_tokens: Tokens of the answer, terminator included.
        exact: Whether every token is the most likely one: greedy decoding would write this answer.
        written: The most likely tokens up to and including the first that differs from the answer.
    """

    log_likelihood: float
    num_tokens: int
    exact: bool
    written: tuple[int, ...]


def score_rows(model: CausalLM, rows: Sequence[Row], *, pad_id: int = 0) -> list[Score]:
    """Score each row by itself, nothing shared: what `score_levels` must agree with."""
    with torch.inference_mode():
        return _score(model, rows, 0, None, pad_id)


def score_levels(
    model: CausalLM, levels: Sequence[Sequence[Row]], *, pad_id: int = 0
) -> tuple[list[list[Score]], bool]:
    """Score the last answer of every row, sharing the growing context between and within levels.

    Args:
        model: In evaluation mode.
        levels: Rows by shot count, ascending.
        pad_id: Filler; its value changes nothing.

    Returns:
        Scores in the order of the rows, and whether the context was shared; where an architecture's cache cannot be
        forked, rows are computed whole.

    Raises:
        RunError: The model gives NaN or infinite logits.
    """
    cache: Cache | None = None
    done, shared = 0, True
    scores: list[list[Score]] = []
    with torch.inference_mode():
        for rows, length in zip(levels, shared_lengths(levels), strict=True):
            if shared and length > done:
                cache = _extend(model, cache, rows[0].ids[done:length], done)
                done = length
                shared = _forkable(cache)
            scores.append(_score(model, rows, done if shared else 0, cache if shared else None, pad_id))
    return scores, shared


def shared_lengths(levels: Sequence[Sequence[Row]]) -> list[int]:
    """Tokens that all rows of a level begin with, and that the next level continues.

    At least one token before each answer is left to the row itself: its logits predict the answer's first token.
    """
    common = []
    for rows in levels:
        most = min(row.answers[-1][0] for row in rows) - 1
        first, last = min(row.ids for row in rows), max(row.ids for row in rows)  # the two that differ earliest
        common.append(_agreement(first[:most], last[:most]))
    for i in range(len(levels) - 2, -1, -1):
        common[i] = _agreement(levels[i][0].ids[: common[i]], levels[i + 1][0].ids[: common[i + 1]])
    return common


def _agreement(a: Sequence[int], b: Sequence[int]) -> int:
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _extend(model: CausalLM, cache: Cache | None, ids: Sequence[int], done: int) -> Cache | None:
    tokens = torch.tensor([ids], device=model.device)
    positions = torch.arange(done, done + len(ids), device=model.device)[None]
    # With no cache given the model makes the kind that it needs (sliding windows, …).
    output = model(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    kept: Cache | None = output.past_key_values
    return kept


def _forkable(cache: Cache | None) -> bool:
    return isinstance(cache, Cache) and all(type(layer) in FORKABLE_LAYERS for layer in cache.layers)


def _fork(cache: Cache, rows: int) -> Cache:
    """A cache for `rows` continuations. Nothing is copied here: a layer grows by concatenation, never in place."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in fork.layers:
        if layer.is_initialized:
            layer.keys = layer.keys.expand(rows, -1, -1, -1)
            layer.values = layer.values.expand(rows, -1, -1, -1)
    return fork


def _score(model: CausalLM, rows: Sequence[Row], done: int, cache: Cache | None, pad_id: int) -> list[Score]:
    # The last token of an answer predicts nothing that is asked for, so it is not computed.
    lengths = [row.answers[-1][1] - 1 - done for row in rows]
    fit = max(1, CACHED_TOKENS // (done + max(lengths)))
    scores: dict[int, Score] = {}
    for batch in group_by_length(lengths, min(BATCH_TOKENS, fit * max(lengths))):
        width = max(lengths[i] for i in batch)
        ids = torch.full((len(batch), width), pad_id)
        keep = torch.zeros(ids.shape, dtype=torch.bool)
        for at, i in enumerate(batch):
            ids[at, : lengths[i]] = torch.tensor(rows[i].ids[done : done + lengths[i]])
            keep[at, rows[i].answers[-1][0] - 1 - done : lengths[i]] = True
        targets = [torch.tensor(rows[i].ids[slice(*rows[i].answers[-1])]) for i in batch]
        logits = _answer_logits(model, ids, keep, done, cache)
        scores.update(zip(batch, _read(logits, targets), strict=True))
    return [scores[i] for i in range(len(rows))]


def _answer_logits(
    model: CausalLM,
    ids: Int[Tensor, "rows width"],
    keep: Bool[Tensor, "rows width"],
    done: int,
    cache: Cache | None,
) -> Float[Tensor, "answer_tokens vocab"]:
    positions = torch.arange(done, done + ids.shape[1], device=model.device).expand(len(ids), -1)
    past = {} if cache is None else {"past_key_values": _fork(cache, len(ids))}
    # Padding stands on the right, where causal attention never looks: no mask is needed.
    output = model(
        input_ids=ids.to(model.device),
        position_ids=positions,
        use_cache=cache is not None,
        logits_to_keep=keep.to(model.device),
        **past,
    )
    logits: Tensor = output.logits
    if not bool(torch.isfinite(logits).all()):
        raise RunError("the model gave NaN or infinite logits; evaluate it in float32, or look at its weights")
    return logits


def _read(logits: Float[Tensor, "answer_tokens vocab"], targets: Sequence[Int[Tensor, " _"]]) -> list[Score]:
    gold = torch.cat(list(targets)).to(logits.device)
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    gold_log_probs = log_probs.gather(-1, gold[:, None])[:, 0].double().cpu()
    best = log_probs.argmax(-1).cpu()
    scores = []
    start = 0
    for target in targets:
        end = start + len(target)
        right = (best[start:end] == target).tolist()
        first_wrong = right.index(False) if False in right else len(target) - 1
        scores.append(
            Score(
                log_likelihood=float(gold_log_probs[start:end].sum()),
                num_tokens=len(target),
                exact=all(right),
                written=tuple(best[start : start + first_wrong + 1].tolist()),
            )
        )
        start = end
    return scores
