import json
from pathlib import Path

import pytest

from keepshot.report.training import NUM_POINTS, read_training_log


def test_no_log_is_none(tmp_path: Path) -> None:
    assert read_training_log(tmp_path) is None


def write(folder: Path, *lines: object) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "metrics.jsonl").write_text("\n".join(texts), encoding="utf-8")


def test_streams_take_the_place_of_the_sum(tmp_path: Path) -> None:
    write(tmp_path, {"step": 1, "loss": 3.0, "nll/target": 2.0}, {"step": 2, "loss": 2.0, "nll/target": 1.0})
    log = read_training_log(tmp_path)
    assert log is not None
    assert log.series == {"target": ((1, 2.0), (2, 1.0))}


def test_a_stream_shows_what_is_minimised_on_it(tmp_path: Path) -> None:
    measured = {"nll/target": 2.0, "kl/target": 0.1, "nll/self-anchor": 0.9, "kl/self-anchor": 0.2, "nll/icl-mix": 0.7}
    write(tmp_path, {"step": 1, "loss": 3.0, **measured, "penalty/l2sp": 0.4})
    log = read_training_log(tmp_path)
    assert log is not None
    assert {name: points[0][1] for name, points in log.series.items()} == {
        "target": 2.0,
        "target (kl)": 0.1,
        "self-anchor (kl)": 0.2,
        "icl-mix": 0.7,
        "l2sp (penalty)": 0.4,
    }


def test_the_sum_stands_where_streams_were_not_logged(tmp_path: Path) -> None:
    write(tmp_path, {"step": 1, "loss": 3.0, "learning_rate": 1e-4}, {"step": 1, "epoch": 1})
    log = read_training_log(tmp_path)
    assert log is not None
    assert log.series == {"loss": ((1, 3.0),)}


def test_bad_lines_are_counted_and_bad_losses_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"step": 1, "loss": 3.0},
        {"loss": 1.0},
        "[]",
        {"step": 2, "loss": float("nan")},
        "",
        '{"step": 3, "lo',
    )
    log = read_training_log(tmp_path)
    assert log is not None
    assert log.unreadable == 3
    assert log.series == {"loss": ((1, 3.0),)}


@pytest.mark.parametrize("length", [NUM_POINTS, NUM_POINTS + 1, 1003])
def test_a_long_log_is_averaged_without_losing_its_end_or_its_level(tmp_path: Path, length: int) -> None:
    write(tmp_path, *({"step": step, "loss": 2.0} for step in range(1, length + 1)))
    log = read_training_log(tmp_path)
    assert log is not None
    points = log.series["loss"]
    assert len(points) <= NUM_POINTS
    assert points[-1] == (length, 2.0)
    assert log.averaged == -(-length // NUM_POINTS)
