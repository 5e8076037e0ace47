"""Small trainings with KL terms: streams of fixed rows, what the base says on them, and the plain definition."""

import torch
from tests.training import EXAMPLES, UPPER, plan
from torch import Tensor, nn
from transformers import PreTrainedModel

from keepshot.episodes import Bank, KShot, Sampler, SelfAnchors, ZeroShot
from keepshot.runs.retrieval import context_sampler
from keepshot.strategies import Everything, Strategy, StreamSpec, Term
from keepshot.train import (
    Objective,
    PlannedRow,
    Planner,
    ReferenceBank,
    Step,
    Stream,
    reference_bank,
)

ROWS = 5
"""Fixed rows of a stream with a KL term."""

TWO_KINDS = Strategy(
    trainable=Everything(),
    streams=(
        StreamSpec(name="target"),
        StreamSpec(name="anchors", sampler="k-shot", share=0.4),
        StreamSpec(name="few-shot", sampler="k-shot", share=0.2, scored="last"),
    ),
    terms=(
        Term(weight=0.3),
        Term(kind="reverse-kl", weight=0.1, temperature=2.0, kept=8),
        Term(kind="kl", stream="anchors", weight=0.3, kept=256),
        Term(kind="nll", stream="anchors", weight=0.1, anneal="linear"),
        Term(kind="nll", stream="few-shot", weight=0.2, anneal="linear"),
    ),
)
"""Two kinds of term on a stream, both directions, a tail, a temperature, and weights that fall."""


def sampler_of(spec: StreamSpec) -> Sampler:
    match spec.sampler:
        case "zero-shot":
            return ZeroShot(spec.name, EXAMPLES, 0)
        case "k-shot":
            return KShot(spec.name, (UPPER,), (1, 3), 0, spec.scored)
        case "self-anchor":
            return SelfAnchors(spec.name, EXAMPLES, 0, pairs=(4, 6))
        case "context":
            return context_sampler(spec.model_copy(update={"shots": (2, 2)}), EXAMPLES, 0, None)


def anchored_plan(strategy: Strategy, rows: int = 8, bank_rows: int = ROWS) -> Planner:
    """A planner of a strategy's streams, with fixed rows where a KL term needs them."""
    streams = []
    for spec in strategy.streams:
        sampler = sampler_of(spec)
        if strategy.base_terms(spec.name) and not isinstance(sampler, ZeroShot):
            sampler = Bank(spec.name, sampler, bank_rows, 0)
        streams.append(Stream(spec.name, sampler, spec.share, strategy.weight(spec.name)))
    return plan(*streams, rows=rows)


def rows_of(planner: Planner, name: str) -> list[PlannedRow]:
    """The fixed rows of a stream."""
    sampler = next(stream.sampler for stream in planner.streams if stream.name == name)
    if isinstance(sampler, Bank):
        return planner.rows(name, [sampler.row(place) for place in range(sampler.rows)])
    assert sampler.size is not None
    return planner.rows(name, [sampler.draw(index) for index in range(sampler.size)])


def objective_of(model: PreTrainedModel, strategy: Strategy, planner: Planner) -> Objective:
    """The terms of a strategy, against `model` as it is now."""
    banks: dict[tuple[str, str], ReferenceBank] = {
        (term.stream, term.kind): reference_bank(
            model,
            rows_of(planner, term.stream),
            kept=term.kept,
            temperature=term.temperature,
            budget=300,
            kind=term.kind,
        )
        for term in strategy.terms
        if term.asks_base
    }
    return Objective(strategy.terms, banks)


def perturbed(model: nn.Module, size: float = 0.02) -> nn.Module:
    """`model`, moved away from where it was."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))
    return model


def row_logits(model: nn.Module, row: PlannedRow) -> tuple[Tensor, Tensor]:
    """Logits before every scored token of a row by itself, and these tokens; nothing is cut or batched."""
    ids = torch.tensor([list(row.row.ids)])
    places = [p for start, end in row.scored for p in range(start, end)]
    return model(input_ids=ids).logits[0][[p - 1 for p in places]], ids[0, places]


def plain_term(term: Term, model: nn.Module, base: nn.Module, row: PlannedRow) -> Tensor:
    """A term on a row by its definition: mean over the scored tokens, against the base itself."""
    logits, targets = row_logits(model, row)
    if term.kind == "nll":
        return -logits.log_softmax(-1)[torch.arange(len(targets)), targets].mean()
    with torch.no_grad():
        base_logits, _ = row_logits(base, row)
    p0, p = ((some / term.temperature).softmax(-1) for some in (base_logits, logits))
    kept = p0.topk(min(term.kept, p0.shape[-1]), dim=-1).indices
    at, at0 = p.gather(-1, kept), p0.gather(-1, kept)
    if term.kept < p0.shape[-1]:
        # Summed over the other tokens: 1 - sum has no digits left where the base is sure.
        others = torch.ones_like(p0).scatter(-1, kept, 0.0)
        at, at0 = (torch.cat([k, (q * others).sum(-1, keepdim=True)], -1) for k, q in ((at, p), (at0, p0)))
    first, second = (at0, at) if term.kind == "kl" else (at, at0)
    return term.temperature**2 * (first * (first / second).log()).sum(-1).mean()


def strategy_loss(strategy: Strategy, model: nn.Module, base: nn.Module, step: Step, progress: float) -> Tensor:
    """Every term's weight x its mean over the rows of its stream."""
    total = torch.zeros(())
    for term in strategy.terms:
        rows = [row for row in step.rows if row.stream == term.stream]
        left = 1.0 - progress if term.anneal == "linear" else 1.0
        for row in rows:
            total = total + term.weight * left / len(rows) * plain_term(term, model, base, row)
    return total


def full_step(planner: Planner) -> Step:
    """The first step that has rows of every stream, none of them carrying weight from steps before."""
    step = planner.plan(planner.start())
    assert {row.stream for row in step.rows} == {stream.name for stream in planner.streams}
    return step
