"""`keepshot theory check` holds, and fails where a formula is off."""

import pytest

from keepshot.theory import checks
from keepshot.theory.checks import anchors, sampled, slopes
from keepshot.theory.preservation import difference

PARTS = ("against_prompts", "against_gradients", "against_anchors", "paper_slips", "exact_training", "dense_training")


def test_closed_forms_agree_with_prompts() -> None:
    lines = list(sampled.against_prompts(prompts=20_000, seed=1))
    assert len(lines) == 30
    assert [line for line in lines if not line.holds] == []


def test_optima_are_stationary_and_slips_are_not() -> None:
    lines = [*slopes.against_gradients(), *slopes.paper_slips()]
    assert len(lines) == 21
    assert [line for line in lines if not line.holds] == []


def test_anchors_hold() -> None:
    lines = list(anchors.against_anchors(prompts=20_000, seed=1))
    assert len(lines) == 10
    assert [line for line in lines if not line.holds] == []


def test_a_wrong_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepshot.theory.preservation.difference", lambda *known: 1.1 * difference(*known))
    monkeypatch.setattr(anchors, "difference", lambda *known: difference(*known) + known[2][2] @ known[2][2])
    failed = [line for line in anchors.against_anchors(prompts=20_000, seed=0) if not line.holds]
    assert [line.witness for line in failed].count("Monte Carlo") == 4
    assert [line.witness for line in failed].count("gradient") == 2


def test_a_wrong_formula_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = sampled.value_risk
    monkeypatch.setattr(sampled, "value_risk", lambda *known: right(*known) + 0.05)
    failed = [line.claim for line in sampled.against_prompts(prompts=20_000, seed=0) if not line.holds]
    assert len(failed) == 9
    assert all(claim.startswith("value only") for claim in failed)


def test_a_wrong_optimum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = slopes.task_label_weight
    monkeypatch.setattr(slopes, "task_label_weight", lambda *known: right(*known) + 1e-6)
    failed = [line.claim for line in slopes.against_gradients() if not line.holds]
    assert failed == [f"best w on the target (Theorem 4.9), {name}" for name in ("Sigma = I", "uneven")]


def test_everything_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    for name in PARTS:
        monkeypatch.setattr(checks, name, lambda *known, name=name: asked.append((name, known)) or iter(()))
    assert list(checks.check(seed=3, prompts=7)) == []
    assert asked == list(zip(PARTS, [(7, 3), (), (7, 3), (), (3,), (3,)], strict=True))
