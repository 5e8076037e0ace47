"""Judge a finished run by its report."""

from pathlib import Path

from keepshot.errors import RunError
from keepshot.evaluation import GateResult, gate_report
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
        return gate_report(found, float(limit))
    except (KeyError, TypeError):
        raise RunError(f"{path} is not a report of keepshot: it lacks retention or gate") from None
