"""Log-likelihoods of answers, with nothing computed twice: neither a shared context, nor a query under its options.

Rows come in levels, one level per shot count, each level's context continuing the one before. The keys and values of
that growing context are computed once. What the rows of a level add to it becomes trees (`tree.py`), each scored in one
forward pass in which every node sees the context and its own ancestors; the head sees the nodes that predict an answer.
What is shared is the verified common token prefix of whole rows: the numbers are those of scoring each row by itself.
A soft prompt is the beginning of every context: it is read once, and all tokens stand behind it.
"""

import copy
import sys
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from keepshot.errors import RunError
from keepshot.evaluation.backend import Score
from keepshot.evaluation.memory import OUT_OF_MEMORY, halved
from keepshot.evaluation.tree import Tree, agreement, grow_tree, own_order, tree_mask
from keepshot.models.load import CausalLM, context_length
from keepshot.models.logits import kept_logits
from keepshot.prompts import Row, group_by_length
from keepshot.strategies.soft_prompt import check_fits, insert_prompt

# Computed tokens in one batch of whole rows: a bound for the activations.
BATCH_TOKENS = 4096
# Nodes of one tree. Attention computes every pair of nodes, though few see each other: larger trees waste more of it,
# smaller ones more of the cost of a pass (benchmarks/evaluation.py prints what it comes to).
TREE_NODES = {"cpu": 256, "cuda": 1024}
# How far two ways of computing one log-likelihood of the probe may differ, in nats per answer: rounding, not masks.
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}
PROBE_CONTEXT = 300
_REFUSED = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError)


def score_rows(model: CausalLM, rows: Sequence[Row], *, pad_id: int = 0) -> list[Score]:
    """Score each row by itself, nothing shared: what `score_levels` must agree with."""
    return Scorer(model, pad_id=pad_id).score_rows(rows)


def score_levels(
    model: CausalLM, levels: Sequence[Sequence[Row]], *, pad_id: int = 0
) -> tuple[list[list[Score]], bool]:
    """Score the last answer of every row, sharing the growing context between and within levels.

    Args:
        model: In evaluation mode.
        levels: Rows by shot count, ascending.
        pad_id: Filler; its value changes nothing.

    Returns:
        Scores in the order of the rows, and whether context and queries were shared; see `Scorer`.

    Raises:
        RunError: The model gives NaN or infinite logits, or a single row does not fit the memory.
    """
    scorer = Scorer(model, pad_id=pad_id)
    return list(scorer.score(levels)), scorer.shares


class Scorer:
    """Scores rows with one model.

    Sharing needs a cache whose layers grow by concatenation and an attention that takes a mask of its own. Whether the
    architecture has both is tried once, on a few tokens: where the numbers are not those of plain rows, `shares` is
    False and rows are computed whole. So they are from the first prompt on that is long enough for the model to turn
    its positions otherwise than those of a shorter one (LongRoPE, arXiv 2402.13753).

    Args:
        model: In evaluation mode.
        pad_id: Filler of whole rows; its value changes nothing.
        prompt: A soft prompt before every row; None is none.

    Raises:
        ModelError: The prompt was trained on another model.
    """

    def __init__(
        self, model: CausalLM, *, pad_id: int = 0, prompt: Float[Tensor, "tokens width"] | None = None
    ) -> None:
        self.model = model
        self.pad_id = pad_id
        if prompt is not None:
            check_fits(prompt, model)
        self._prompt = prompt
        self._before = 0 if prompt is None else len(prompt)  # positions before a row's first token
        self._read_prompt: Cache | None = None
        self._nodes = TREE_NODES.get(model.device.type, TREE_NODES["cuda"])
        self._tokens = BATCH_TOKENS
        self._part: int | None = None  # tokens of context in one pass; all, until the memory says otherwise
        self._steady = steady_length(model)
        self._windows = _layer_windows(model)
        self._shares: bool | None = None

    @property
    def shares(self) -> bool:
        """Whether contexts and queries are computed once."""
        if self._shares is None:
            self._shares = self._probe()
        return self._shares

    def score(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        """Scores of every level, in the order of its rows, as soon as it is done; see `score_levels`."""
        longest = max((len(row.ids) for rows in levels for row in rows), default=0)
        self._shares = self.shares and self._before + longest <= self._steady
        return self._score_trees(levels) if self._shares else map(self.score_rows, levels)

    def score_rows(self, rows: Sequence[Row]) -> list[Score]:
        """Score each row by itself, nothing shared."""
        with torch.inference_mode():
            return self._score_whole(rows)

    def _score_whole(self, rows: Sequence[Row]) -> list[Score]:
        lengths = [self._before + row.answers[-1][1] - 1 for row in rows]
        scores: dict[int, Score] = {}
        while missing := [i for i in range(len(rows)) if i not in scores]:
            budget = self._tokens if max(lengths) <= self._steady else 1  # that is, one row in a pass
            for batch in group_by_length([lengths[i] for i in missing], budget):
                chosen = [missing[i] for i in batch]
                try:
                    found = self._score_batch([rows[i] for i in chosen])
                except OUT_OF_MEMORY as error:
                    longest = max(lengths[i] for i in chosen)
                    self._tokens = halved(error, len(chosen) * longest, longest)
                    break
                scores.update(zip(chosen, found, strict=True))
        return [scores[i] for i in range(len(rows))]

    def _score_trees(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        cache: Cache | None = None
        done = 0
        for rows, length in zip(levels, shared_lengths(levels), strict=True):
            with torch.inference_mode():
                if done == 0:
                    cache = self._prompt_cache()
                if length > done:
                    cache = self._extend(cache, rows[0].ids[done:length], done)
                    done = length
                scores = dict(self._score_level(rows, done, cache))
            yield [scores[i] for i in range(len(rows))]

    def _score_level(self, rows: Sequence[Row], done: int, cache: Cache | None) -> Iterator[tuple[int, Score]]:
        order = own_order(rows, done)
        while order:
            tree = grow_tree(rows, order, done, self._nodes)
            try:
                scores = self._score_tree(tree, done, cache)
            except OUT_OF_MEMORY as error:
                self._nodes = halved(error, len(tree.ids), 1 if len(tree.rows) > 1 else len(tree.ids))
                continue
            yield from zip(tree.rows, scores, strict=True)
            order = order[len(tree.rows) :]

    def _extend(self, cache: Cache | None, ids: Sequence[int], done: int) -> Cache | None:
        while ids:
            part = ids[: self._part]
            try:
                # A fork, since a pass that fails leaves some layers longer than others.
                grown = self._read_on(None if cache is None else _fork(cache), part, done)
            except OUT_OF_MEMORY as error:
                self._part = halved(error, len(part), 1)
                continue
            cache, ids, done = grown, ids[len(part) :], done + len(part)
        return cache

    def _prompt_cache(self) -> Cache | None:
        """Keys and values of the soft prompt, computed once; None without one."""
        if self._prompt is not None and self._read_prompt is None:
            vectors = self._prompt.to(self.model.device, self.model.dtype)[None]
            positions = torch.arange(self._before, device=self.model.device)[None]
            output = self.model(inputs_embeds=vectors, position_ids=positions, use_cache=True, logits_to_keep=1)
            self._read_prompt = output.past_key_values
        return self._read_prompt

    def _read_on(self, cache: Cache | None, ids: Sequence[int], done: int) -> Cache | None:
        tokens = torch.tensor([ids], device=self.model.device)
        start = self._before + done
        positions = torch.arange(start, start + len(ids), device=self.model.device)[None]
        # With no cache given the model makes the kind that it needs (sliding windows, …).
        output = self.model(
            input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        kept: Cache | None = output.past_key_values
        return kept

    def _score_tree(self, tree: Tree, done: int, cache: Cache | None) -> list[Score]:
        device = self.model.device
        kept = sorted({node for nodes in tree.predicting for node in nodes})
        place = {node: i for i, node in enumerate(kept)}
        keep = torch.zeros(1, len(tree.ids), dtype=torch.bool)
        keep[0, kept] = True
        positions = torch.tensor([tree.depths]) + self._before + done
        output = self.model(
            input_ids=torch.tensor([tree.ids], device=device),
            position_ids=positions.to(device),
            attention_mask=self._masks(tree, done),
            past_key_values=None if cache is None else _fork(cache),
            use_cache=cache is not None,
            logits_to_keep=keep.to(device),
        )
        logits = kept_logits(output.logits, keep)
        return _read(logits, [[place[node] for node in nodes] for nodes in tree.predicting], tree.targets)

    def _masks(self, tree: Tree, done: int) -> Tensor | dict[str, Tensor]:
        """One mask if all layers see equally far, else one by the type of layer, as transformers names them."""
        masks = {
            name: tree_mask(tree, self._before + done, window, self.model.dtype).to(self.model.device)
            for name, window in self._windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _score_batch(self, rows: Sequence[Row]) -> list[Score]:
        width = max(row.answers[-1][1] - 1 for row in rows)
        ids = torch.full((len(rows), width), self.pad_id)
        keep = torch.zeros(ids.shape, dtype=torch.bool)
        predicting: list[range] = []
        for at, row in enumerate(rows):
            first, last = row.answers[-1]
            ids[at, : last - 1] = torch.tensor(row.ids[: last - 1])
            keep[at, first - 1 : last - 1] = True
            start = predicting[-1].stop if predicting else 0
            predicting.append(range(start, start + last - first))
        positions = torch.arange(self._before + width, device=self.model.device).expand(len(rows), -1)
        # Padding stands on the right, where causal attention never looks: no mask is needed.
        inputs, keep = self._inputs(ids.to(self.model.device), keep.to(self.model.device))
        output = self.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=keep)
        logits = kept_logits(output.logits, keep)
        return _read(logits, predicting, [row.ids[slice(*row.answers[-1])] for row in rows])

    def _inputs(self, ids: Tensor, keep: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What the model reads of whole rows, and the positions in it whose logits are wanted."""
        if self._prompt is None:
            return {"input_ids": ids}, keep
        every = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        embeds, keep = insert_prompt(self.model.get_input_embeddings(), self._prompt, ids, keep, every)
        return {"inputs_embeds": embeds}, keep

    def _probe(self) -> bool:
        if not self._windows:
            return False
        vocabulary = self.model.config.get_text_config().vocab_size

        def tokens(count: int, start: int) -> tuple[int, ...]:
            return tuple((start + 7 * i) % vocabulary for i in range(count))

        # A short context would hide masks and biases by index that matter from some hundred tokens on.
        long = max(20, min(PROBE_CONTEXT, context_length(self.model) - self._before - 10, self._steady - 10))
        context = tokens(long, 2)
        levels = [
            [
                Row((*context[:shown], *tokens(4, 3 + query), *tokens(3, 5 + option)), ((shown + 4, shown + 7),))
                for query in range(2)
                for option in range(2)
            ]
            for shown in (8, long)
        ]
        plain = [score.log_likelihood for rows in levels for score in self.score_rows(rows)]
        try:
            shared = [score.log_likelihood for rows in self._score_trees(levels) for score in rows]
        except _REFUSED:  # the architecture's own ways of saying that it takes no such mask or cache
            return False
        tolerance = PROBE_TOLERANCE.get(self.model.dtype, 1e-3)
        return all(abs(a - b) <= tolerance for a, b in zip(plain, shared, strict=True))


def shared_lengths(levels: Sequence[Sequence[Row]]) -> list[int]:
    """Tokens that all rows of a level begin with, and that the next level continues.

    At least one token before each answer is left to the row itself: its logits predict the answer's first token.
    """
    common = []
    for rows in levels:
        most = min(row.answers[-1][0] for row in rows) - 1
        first, last = min(row.ids for row in rows), max(row.ids for row in rows)  # the two that differ earliest
        common.append(agreement(first[:most], last[:most]))
    for i in range(len(levels) - 2, -1, -1):
        common[i] = agreement(levels[i][0].ids[: common[i]], levels[i + 1][0].ids[: common[i + 1]])
    return common


def _layer_windows(model: CausalLM) -> dict[str, int | None]:
    """How far the layers see, by their type; empty where a layer keeps something else than keys and values.

    Also where it sees so many keys by their index (GPT-Neo), not by their position: a tree's nodes are not in order.
    """
    if hasattr(model.config.get_text_config(), "attention_types"):
        return {}
    windows: dict[str, int | None] = {}
    for layer in DynamicCache(config=model.config).layers or [DynamicLayer()]:
        if type(layer) is DynamicLayer:
            windows["full_attention"] = None
        elif type(layer) is DynamicSlidingWindowLayer:
            windows["sliding_attention"] = layer.sliding_window
        else:
            return {}
    return windows


def steady_length(model: CausalLM) -> int:
    """Tokens up to which a position is turned alike in every pass, however long the longest row in it is."""
    rotary = model.config.get_text_config().to_dict().get("rope_parameters") or {}
    kinds = [rotary, *(kind for kind in rotary.values() if isinstance(kind, dict))]  # some models: by type of layer
    return min(
        (kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"),
        default=sys.maxsize,
    )


def _fork(cache: Cache) -> Cache:
    """A cache that grows on its own. Nothing is copied: a layer grows by concatenation, never in place."""
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def _read(
    logits: Float[Tensor, "kept vocab"], predicting: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
) -> list[Score]:
    """Scores of rows from the logits that were kept, in one pass over them."""
    if not bool(torch.isfinite(logits).all()):
        raise RunError("the model gave NaN or infinite logits; evaluate it in float32, or look at its weights")
    flat = logits.float()
    where = torch.tensor([i for places in predicting for i in places], device=flat.device)
    gold = torch.tensor([token for target in targets for token in target], device=flat.device)
    normaliser = torch.logsumexp(flat, dim=-1)
    log_probs = (flat[where, gold] - normaliser[where]).tolist()
    best = flat.argmax(-1)[where].tolist()
    scores = []
    start = 0
    for target in targets:
        end = start + len(target)
        right = agreement(best[start:end], target)
        scores.append(
            Score(
                log_likelihood=sum(log_probs[start:end]),
                num_tokens=len(target),
                exact=right == len(target),
                written=tuple(best[start : min(start + right + 1, end)]),
            )
        )
        start = end
    return scores
