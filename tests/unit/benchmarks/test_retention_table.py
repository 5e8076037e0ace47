import csv
from pathlib import Path

import pytest
from benchmarks.retention_table import best, difference, read_rows, statements, summary, table

from keepshot.runs.comparison_record import COLUMNS

KEPT = {"full": (0.6, 0.7), "lora": (0.9, 0.92), "full+general": (0.96, 0.98), "value": (0.99, 0.97)}
TIMES = {"full": 10.0, "lora": 8.0, "full+general": 12.0, "value": 13.0}


def write(folder: Path, target: str, kept: dict[str, tuple[float, ...]], unmatched: tuple[str, ...] = ()) -> Path:
    path = folder / f"{target}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for method, values in kept.items():
            writer.writerow({"target": target, "method": method, "seed": 9, "chosen": 0})
            for seed, value in enumerate(values):
                writer.writerow(
                    {
                        "target": target, "method": method, "seed": seed, "chosen": 1,
                        "matched": int(method not in unmatched), "accuracy": 0.9,
                        "accuracy_few_shot": 0.8 + seed / 10, "retention": value,
                        "retention_low": value - 0.01, "retention_high": value + 0.01,
                        "retention_inputs_like": value - 0.1, "train_seconds": TIMES[method], "tokens": 100,
                    }
                )  # fmt: skip
    return path


def test_a_method_is_its_mean_over_targets_and_seeds(tmp_path: Path) -> None:
    other = {name: tuple(value - 0.1 for value in values) for name, values in KEPT.items()}
    rows = [*read_rows(write(tmp_path, "a", KEPT)), *read_rows(write(tmp_path, "b", other, ("value",)))]
    assert len(rows) == 16  # the rows that were not chosen are left out
    found = {one.name: one for one in summary(rows, "full")}
    assert list(found) == ["value", "full+general", "lora", "full"]
    value = found["value"]
    assert (value.targets, value.matched, value.everywhere) == (2, 1, True)
    assert value.retention is not None
    assert value.retention.value == pytest.approx(0.93)
    assert value.worst == pytest.approx(0.88)
    assert value.few_shot == pytest.approx(0.85)
    assert value.time_ratio == pytest.approx(1.3)
    assert value.parts["retention_inputs_like"] == pytest.approx(0.83)
    assert value.parts["retention_other_families"] is None
    # Seeds .93, .93 on average (.94 and .92), t(1, .975) = 12.7062 times their standard error .01.
    assert value.retention.high - value.retention.value == pytest.approx(0.127062, rel=1e-4)


def test_the_best_matches_everywhere_within_the_cost(tmp_path: Path) -> None:
    other = {name: values for name, values in KEPT.items() if name != "lora"}
    rows = [*read_rows(write(tmp_path, "a", KEPT)), *read_rows(write(tmp_path, "b", other))]
    methods = summary(rows, "full")
    assert [one.name for one in methods if not one.everywhere] == ["lora"]
    cheap, dear = best(methods, 1.25), best(methods, 1.5)
    assert cheap is not None
    assert dear is not None
    assert (cheap.name, dear.name) == ("full+general", "value")
    rows = [row for row in rows if row.method != "full+general"]
    assert (one := best(summary(rows, "full"), 1.25)) is not None
    assert one.name == "full"


def test_differences_are_paired_by_target(tmp_path: Path) -> None:
    hard = {name: tuple(value - 0.5 for value in values) for name, values in KEPT.items()}
    rows = [*read_rows(write(tmp_path, "a", KEPT)), *read_rows(write(tmp_path, "b", hard))]
    found = difference(rows, "value", "full")
    assert found is not None
    assert found.value == pytest.approx(0.33)
    assert found.high - found.low < 1e-9  # equal on both targets, however different these are
    assert difference(rows, "value", "promot") is None


def test_the_words_follow_the_figures(tmp_path: Path) -> None:
    rows = [*read_rows(write(tmp_path, "a", KEPT)), *read_rows(write(tmp_path, "b", KEPT))]
    methods = summary(rows, "full")
    lines = table(methods).splitlines()
    assert len(lines) == 2 + len(KEPT)
    assert lines[2].startswith("| `value` | 2 of 2 | .900 | .850 | **.980** [")
    said = statements(rows, methods, "full")
    assert said[0].startswith("H1, full fine-tuning loses about 31 %: .350 [")
    assert said[0].endswith("holds it.")
    assert any(
        line.startswith("T1, value-only tuning keeps more than full tuning: value minus full is +0.330")
        for line in said
    )
    assert not any(line.startswith("T2") for line in said)
