"""Judge a finished run by its report."""

from pathlib import Path

from keepshot.errors import RunError
from keepshot.evaluate import Estimate, GateResult, gate_verdict
from keepshot.files import read_json


def gate(run: Path | str, max_drop: float | None = None) -> GateResult:
    """The verdict on a run folder.

    Args:
        run: Run folder with a `report.json`.
        max_drop: The largest drop that is accepted; None takes the one of the run's config.

    Raises:
        RunError: There is no report, or it is not one.
    """
    path = Path(run) / "report.json"
    report = read_json(path)
    try:
        found, limit = report["retention"], report["gate"]["max_drop"] if max_drop is None else max_drop
        values = (found["value"], found["low"], found["high"])
    except (KeyError, TypeError):
        raise RunError(f"{path} is not a report of keepshot: it lacks retention or gate") from None
    estimate = None if None in values else Estimate(*map(float, values))
    return gate_verdict(estimate, float(limit), found.get("reason", ""))
