"""The tables of `benchmarks.rescue`: by coefficient over seeds, and what each accepted loss chose."""

from benchmarks.rescue import chosen, curve, in_short


def result(coefficient: float, kept: float) -> dict:
    point = {"coefficients": {"mlp": coefficient, "rest": coefficient}, "target": {"value": 0.9}}
    return {
        "target": {
            "shots": 0,
            "tuned": {"0": {"accuracy": 1.0}, "4": {"accuracy": 0.2}},
            "rescued": {"0": {"accuracy": 0.96}, "4": {"accuracy": 0.3}},
        },
        "retention": {"tuned": {"value": 0.1}, "rescued": {"value": kept}},
        "chosen": point,
        "validation": {"points": [point | {"retention": {"value": kept}}]},
        "versions": {},
    }


def test_seeds_are_averaged_by_coefficient_and_a_larger_loss_has_a_row_of_its_own() -> None:
    every = [in_short(result(a, kept)) | {"max_loss": loss} for loss, a, kept in
             ((0.01, 0.9, 0.4), (0.01, 0.9, 0.6), (0.05, 0.7, 0.8))]  # fmt: skip
    assert curve(every)[2:] == ["| 0.9 | 0.900 [0.900, 0.900] | 0.500 [-0.771, 1.771] |"]
    tuned, first, second = chosen(every)[2:]
    assert tuned == "| tuned | 1 | 1.000 [1.000, 1.000] | 0.100 [0.100, 0.100] |"
    assert first.startswith("| rescued, to lose at most 0.01 | 0.9, 0.9 | 0.960 [0.960, 0.960] | 0.500 ")
    assert second == "| rescued, to lose at most 0.05 | 0.7 | 0.960 | 0.800 |"
