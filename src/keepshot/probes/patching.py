"""Which heads and MLPs carry an answer: activation patching by forward hooks, for every architecture with roles.

A pair is a clean prompt and a corrupt one of the same length that differ in what decides the answer. With the logit
difference LD = logit(right) - logit(wrong) at the last position, a component c has, by its activation of the clean run
patched into the corrupt one at the query's tokens,

    m_c = (LD(patched) - LD(corrupt)) / (LD(clean) - LD(corrupt))

1 where it restores the answer by itself, 0 where it has no part. All components patched at once give exactly 1, since
both prompts end with the same token.

A head's activation is its slice of what the output matrix reads, an MLP's is what it adds to the residual stream.

Reference:
    Denoising activation patching as in arXiv 2309.16042; positions are restricted to the query by this project, so that
    prompts with and without examples can be compared.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from keepshot.errors import DataError
from keepshot.probes.taps import Kept, Layer, layers_of, recording

_SMALLEST_EFFECT = 1e-6
"""Of a corruption on the logit difference; below it there is nothing to restore."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A clean and a corrupt prompt.

    Attributes:
        clean: Token ids.
        corrupt: As many, the last one the same.
        query: The first token of the query: what stands before it is not patched.
        right: Token of the right answer to the clean prompt.
        wrong: Token of the answer that the corrupt prompt asks for.
    """

    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    query: int
    right: int
    wrong: int

    def __post_init__(self) -> None:
        if len(self.clean) != len(self.corrupt) or self.clean[-1:] != self.corrupt[-1:]:
            raise DataError("a clean and a corrupt prompt have as many tokens, and end with the same one")
        if not 0 <= self.query < len(self.clean):
            raise DataError(f"the query begins at token {self.query} of {len(self.clean)}")


@dataclass(frozen=True, slots=True)
class Component:
    """A head or an MLP.

    Attributes:
        layer: From 0.
        head: From 0; None for the MLP.
    """

    layer: int
    head: int | None = None

    def __str__(self) -> str:
        return f"MLP {self.layer}" if self.head is None else f"head {self.layer}.{self.head}"


@dataclass(frozen=True, slots=True, eq=False)
class Patched:
    """What patching showed.

    Attributes:
        components: All of the model, by layer: its heads, then its MLP.
        effects: m of every component on every pair; 0 on a pair that the corruption does not move.
        clean: LD of the clean prompts.
        corrupt: LD of the corrupt prompts.
        whole: m with all components patched at once; 1 but for rounding, 0 on such a pair.
    """

    components: tuple[Component, ...]
    effects: Float[Tensor, "components pairs"]
    clean: Float[Tensor, " pairs"]
    corrupt: Float[Tensor, " pairs"]
    whole: Float[Tensor, " pairs"]


def components(model: PreTrainedModel | PeftModel) -> tuple[Component, ...]:
    """All heads and MLPs of a model, by layer.

    Raises:
        ModelError: The model type has no roles, or its layers are not made of heads and one MLP each.
    """
    found: list[Component] = []
    for number, layer in enumerate(layers_of(model)):
        found += [*(Component(number, head) for head in range(layer.heads)), Component(number)]
    return tuple(found)


def patch(
    model: PreTrainedModel | PeftModel,
    pairs: Sequence[Pair],
    *,
    chosen: Sequence[Component] | None = None,
    batch: int = 32,
) -> Patched:
    """Patch every component by itself, and all at once.

    Pairs of one length are computed together. What stands before the first difference, such as all examples, is
    computed once; a component costs one run of the rest of the corrupt prompts.

    Args:
        model: In any mode; it is put into evaluation mode. Adapters stay in place.
        pairs: All are used.
        chosen: Components; all of the model unless told.
        batch: Most pairs in a run.

    Raises:
        DataError: There are no pairs, or no corruption changes anything.
        ModelError: As `components`.
    """
    if not pairs:
        raise DataError("there are no pairs to patch")
    model.eval()
    layers = layers_of(model)
    every = components(model)
    asked = every if chosen is None else tuple(chosen)
    effects = torch.zeros(len(asked), len(pairs))
    clean, corrupt, whole = torch.zeros(len(pairs)), torch.zeros(len(pairs)), torch.zeros(len(pairs))
    moved = torch.zeros(len(pairs), dtype=torch.bool)
    for places in _batches(pairs, batch):
        part = [pairs[place] for place in places]
        kept: Kept = {}
        with torch.no_grad():
            runs = _Runs.of(model, part)
            there = _query_mask(part, model.device)[:, runs.shared :]
            with recording(layers, kept):
                high = runs.difference(runs.clean)
            low = runs.difference(runs.corrupt)
            span = high - low
            # A pair that the corruption does not move has nothing to restore, and no part in the scores.
            span = torch.where(span.abs() < _SMALLEST_EFFECT, torch.inf, span)
            moved[places] = span.isfinite().cpu()
            for row, component in enumerate(asked):
                with _patching(layers, kept, there, [component]):
                    effects[row, places] = ((runs.difference(runs.corrupt) - low) / span).cpu()
            with _patching(layers, kept, there, every):
                whole[places] = ((runs.difference(runs.corrupt) - low) / span).cpu()
        clean[places], corrupt[places] = high.cpu(), low.cpu()
    if not bool(moved.any()):
        raise DataError("no corrupt prompt differs from its clean one in the logit difference: nothing can be restored")
    return Patched(asked, effects, clean, corrupt, whole)


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """Runs of some pairs of one length: what all begin with is computed once.

    Attributes:
        shared: Tokens before the first difference.
        start: What the model keeps of them; None where there are none.
        clean: The other tokens of the clean prompts.
        corrupt: Those of the corrupt ones.
        right: Tokens of the right answers.
        wrong: Tokens of the wrong ones.
    """

    model: PreTrainedModel | PeftModel
    shared: int
    start: Cache | None
    clean: Int[Tensor, "pairs tokens"]
    corrupt: Int[Tensor, "pairs tokens"]
    right: Int[Tensor, " pairs"]
    wrong: Int[Tensor, " pairs"]

    @classmethod
    def of(cls, model: PreTrainedModel | PeftModel, pairs: Sequence[Pair]) -> "_Runs":
        device = model.device
        clean, corrupt = (
            torch.tensor([getattr(pair, name) for pair in pairs], device=device) for name in ("clean", "corrupt")
        )
        different = (clean != corrupt).any(dim=0).nonzero()
        shared = int(different[0]) if len(different) else clean.shape[1] - 1
        # Logits of the last token alone: those of all would take more memory than everything else.
        said = model(input_ids=clean[:, :shared], use_cache=True, logits_to_keep=1) if shared else None
        start = None if said is None else said.past_key_values
        answers = (torch.tensor([getattr(pair, name) for pair in pairs], device=device) for name in ("right", "wrong"))
        return cls(model, shared, start, clean[:, shared:], corrupt[:, shared:], *answers)

    def difference(self, ids: Int[Tensor, "pairs tokens"]) -> Float[Tensor, " pairs"]:
        """LD behind the last token."""
        # A cache grows by what it is used for, and not every kind of one can be cut back.
        start = copy.deepcopy(self.start)
        found = self.model(input_ids=ids, past_key_values=start, use_cache=start is not None, logits_to_keep=1)
        logits = found.logits[:, -1].float()
        rows = torch.arange(len(ids), device=logits.device)
        difference: Tensor = logits[rows, self.right] - logits[rows, self.wrong]
        return difference


@contextmanager
def _patching(
    layers: Sequence[Layer],
    kept: Kept,
    there: Bool[Tensor, "pairs tokens 1"],
    chosen: Sequence[Component],
) -> Iterator[None]:
    """Put kept activations of some components in the place of those that pass, at the query's tokens."""
    hooks = []
    for number, layer in enumerate(layers):
        wanted = [component.head for component in chosen if component.layer == number]
        clean_heads, clean_mlp = kept[number]
        if heads := [head for head in wanted if head is not None]:
            size = clean_heads.shape[-1] // layer.heads
            columns = torch.zeros(clean_heads.shape[-1], dtype=torch.bool, device=there.device)
            for head in heads:
                columns[head * size : (head + 1) * size] = True

            def read(
                module: nn.Module, given: tuple[Tensor, ...], clean: Tensor = clean_heads, columns: Tensor = columns
            ) -> tuple[Tensor, ...]:
                return (_mixed(given[0], clean, there & columns), *given[1:])

            hooks.append(layer.output.register_forward_pre_hook(read))
        if None in wanted:

            def write(module: nn.Module, given: Any, result: Tensor, clean: Tensor = clean_mlp) -> Tensor:
                return _mixed(result, clean, there)

            hooks.append(layer.mlp.register_forward_hook(write))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _mixed(passing: Tensor, clean: Tensor, where: Tensor) -> Tensor:
    """`clean` where the mask says so. Some families hand their tokens on without the axis of pairs."""
    return torch.where(where, clean.view(*where.shape[:2], -1), passing.view(*where.shape[:2], -1)).view_as(passing)


def _query_mask(pairs: Sequence[Pair], device: torch.device) -> Bool[Tensor, "pairs tokens 1"]:
    tokens = torch.arange(len(pairs[0].clean), device=device)
    return (tokens >= torch.tensor([[pair.query] for pair in pairs], device=device))[..., None]


def _batches(pairs: Sequence[Pair], most: int) -> Iterator[list[int]]:
    """Places of pairs of one length, at most so many at a time."""
    by_length: dict[int, list[int]] = {}
    for place, pair in enumerate(pairs):
        by_length.setdefault(len(pair.clean), []).append(place)
    for places in by_length.values():
        for start in range(0, len(places), most):
            yield places[start : start + most]
