import pytest
import torch
from tests.anchored import TWO_KINDS, anchored_plan, full_step, objective_of, perturbed, plain_term
from tests.architectures import ARCHITECTURES
from tests.training import few_shot, plan, target
from torch import Tensor
from transformers import PreTrainedModel

from keepshot.strategies import Term
from keepshot.strategies.terms import token_nll
from keepshot.train import MicroBatch, Objective, Planner, Step, collate

NAMES = ("target", "anchors", "few-shot")


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    return ARCHITECTURES["llama"]()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return perturbed(ARCHITECTURES["llama"]())


@pytest.fixture(scope="module")
def planner() -> Planner:
    return anchored_plan(TWO_KINDS)


@pytest.fixture(scope="module")
def objective(base: PreTrainedModel, planner: Planner) -> Objective:
    return objective_of(base, TWO_KINDS, planner)


@pytest.fixture(scope="module")
def step(planner: Planner) -> Step:
    return full_step(planner)


def logits_of(model: PreTrainedModel, batch: MicroBatch) -> Tensor:
    return model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits


def test_every_term_meets_the_tokens_of_its_own_stream_in_any_order(
    base: PreTrainedModel, model: PreTrainedModel, objective: Objective, step: Step
) -> None:
    """Rows of the streams stand between each other."""
    mixed = [row for pair in zip(step.rows, step.rows[::-1], strict=True) for row in pair][: len(step.rows)]
    assert [row.stream for row in mixed] != sorted((row.stream for row in mixed), key=NAMES.index)
    batch = collate(mixed, NAMES)
    with torch.no_grad():
        found = objective.losses(logits_of(model, batch), batch)
        terms = {(term.kind, term.stream): term for term in TWO_KINDS.terms}
        assert set(found) == {*terms}
        for which, (here, values) in found.items():
            rows = [row for row in mixed if row.stream == which[1]]
            counts = [sum(end - start for start, end in row.scored) for row in rows]
            means = [float(part.mean()) for part in values.split(counts)]
            expected = [float(plain_term(terms[which], model, base, row)) for row in rows]
            assert means == pytest.approx(expected, rel=1e-4, abs=1e-5), which
            assert [NAMES[i] for i in batch.streams[here]] == [which[1]] * len(here)


def test_a_stream_without_rows_in_the_batch_is_left_out(
    model: PreTrainedModel, objective: Objective, step: Step
) -> None:
    batch = collate([row for row in step.rows if row.stream == "target"], NAMES)
    with torch.no_grad():
        found = objective.losses(logits_of(model, batch), batch)
    assert set(found) == {("nll", "target"), ("reverse-kl", "target")}


@pytest.mark.parametrize(
    ("progress", "anchors", "few_shot"),
    [
        (0.0, {"kl": 0.75, "nll": 0.25}, 1.0),
        (0.5, {"kl": 0.75, "nll": 0.125}, 0.5),
        (1.0, {"kl": 0.75, "nll": 0.0}, 0.0),
    ],
)
def test_a_term_has_its_part_of_its_streams_weight_and_loses_it_in_time(
    progress: float, anchors: dict[str, float], few_shot: float
) -> None:
    found = Objective(TWO_KINDS.terms)
    assert found.parts("anchors", progress) == pytest.approx(anchors)
    assert found.parts("few-shot", progress) == pytest.approx({"nll": few_shot})
    assert found.parts("target", progress) == pytest.approx({"nll": 0.75, "reverse-kl": 0.25})
    assert Objective().parts("target", progress) == {"nll": 1.0}


def test_what_is_measured_is_the_nll_of_all_and_the_terms_beside_it() -> None:
    terms = (Term(weight=0.5), Term(kind="kl", stream="anchors", weight=0.5))
    assert Objective(terms).kinds(["target", "anchors"]) == [("nll", "target"), ("nll", "anchors"), ("kl", "anchors")]
    assert Objective().kinds(["target"]) == [("nll", "target")]


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_the_loss_is_coefficient_x_part_x_term(
    progress: float, model: PreTrainedModel, objective: Objective, step: Step
) -> None:
    batch = collate(step.rows, NAMES)
    with torch.no_grad():
        losses = objective.losses(logits_of(model, batch), batch)
        found = float(objective.weighted(losses, batch, progress))
    left = {("nll", "anchors"): 1 - progress, ("nll", "few-shot"): 1 - progress}
    expected = 0.0
    for term in TWO_KINDS.terms:
        here, values = losses[term.kind, term.stream]
        mean = float((batch.coefficients[here] * values).sum() / batch.coefficients[here].sum())
        expected += term.weight * left.get((term.kind, term.stream), 1.0) * mean
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_terms_it_is_the_nll_of_every_stream(model: PreTrainedModel) -> None:
    planner = plan(target(0.7), few_shot(0.4, 0.3))
    batch = collate(planner.plan(planner.start()).rows, ("target", "few-shot"))
    with torch.no_grad():
        logits = logits_of(model, batch)
        found = Objective().weighted(Objective().losses(logits, batch), batch, 0.5)
        expected = (batch.coefficients * token_nll(logits, batch.targets)).sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_what_is_only_measured_leaves_no_gradient_and_no_graph(base: PreTrainedModel, model: PreTrainedModel) -> None:
    """The answers of KL rows are not learned: only the weight of the KL decides their gradient."""
    terms = (Term(weight=0.5), Term(kind="kl", stream="anchors", weight=0.5, kept=256))
    strategy = TWO_KINDS.model_copy(update={"streams": TWO_KINDS.streams[:2], "terms": terms})
    planner = anchored_plan(strategy)
    objective = objective_of(base, strategy, planner)
    rows = [row for row in full_step(planner).rows if row.stream == "anchors"]
    batch = collate(rows, NAMES[:2])
    logits = logits_of(base, batch).detach().requires_grad_()
    losses = objective.losses(logits, batch)
    assert not losses["nll", "anchors"][1].requires_grad
    assert losses["kl", "anchors"][1].requires_grad
    objective.weighted(losses, batch, 0.0).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6, "at the base the KL pulls nowhere, whatever the answers are"
    with torch.no_grad():
        assert not objective.losses(logits, batch)["kl", "anchors"][1].requires_grad
