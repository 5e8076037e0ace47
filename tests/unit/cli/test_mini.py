from pathlib import Path

import pytest

from keepshot.cli.main import run
from keepshot.models import pretrain as module
from keepshot.models.pretrain import RECIPE
from keepshot.models.pretrain_state import SIZES, PretrainSettings


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PretrainSettings, float]]:
    """The recipes and minutes that pretraining was asked for."""
    asked: list[tuple[PretrainSettings, float]] = []
    monkeypatch.setattr(
        module, "pretrain", lambda output, *, minutes, recipe, **others: asked.append((recipe, minutes))
    )
    return asked


def test_without_options_the_bundled_models_recipe_is_followed(followed, tmp_path: Path) -> None:
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a")]) == 0
    assert followed == [(RECIPE, 8.0)]


def test_options_change_the_recipe(followed, tmp_path: Path) -> None:
    options = [
        "--start",
        "mini",
        "--problems",
        "0.5",
        "--released",
        "0.4",
        "--rows",
        "4",
        "--steps",
        "300",
        "--rate",
        "0.1",
        "--size",
        "small",
        "--minutes",
        "2",
    ]
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a"), *options]) == 0
    ((recipe, minutes),) = followed
    assert (recipe.start, recipe.problems, recipe.released, recipe.rows, recipe.steps) == ("mini", 0.5, 0.4, 4, 300)
    assert (recipe.size, minutes) == (SIZES["small"], 2)
    assert recipe.peak_rate == pytest.approx(RECIPE.peak_rate / 10)
    assert recipe.embedding_rate == pytest.approx(RECIPE.embedding_rate / 10)
    assert recipe.warmup_steps == 30


@pytest.mark.parametrize(("steps", "warmup"), [(1, 1), (40, 4), (100_000, RECIPE.warmup_steps)])
def test_a_short_schedule_warms_up_in_a_tenth_of_it(followed, steps: int, warmup: int, tmp_path: Path) -> None:
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a"), "--steps", str(steps)]) == 0
    assert followed[0][0].warmup_steps == warmup


def test_training_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def pretrain(output: Path, *, report, **others) -> None:
        report(module.PretrainProgress(50, 0.31254, 1e-3, 67.7))

    monkeypatch.setattr(module, "pretrain", pretrain)
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a"), "--steps", "400"]) == 0
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "step 50 of 400: loss 0.3125, 68 s\n" in said
    assert "step 50: loss 0.3125, 68 s\n" in said


def test_an_unknown_size_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(["mini", "pretrain", "--output", str(tmp_path / "a"), "--size", "huge"]) == 1
    assert "no size 'huge'; the sizes are: small, middle, large" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
