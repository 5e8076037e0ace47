"""From a run folder's numbers to what people look at."""

from pathlib import Path

from keepshot.files import new_folder, write_text
from keepshot.report.card import model_card
from keepshot.report.drawing import save_png
from keepshot.report.figures import draw
from keepshot.report.page import run_page
from keepshot.report.record import read_report
from keepshot.report.training import read_training_log


def render(folder: str | Path) -> Path:
    """Write a run's figures, its page and its model card from `report.json` and `metrics.jsonl`.

    Writes `figures/*.png`, `report.html` and `README.md`, replacing older ones; each is complete or absent.

    Args:
        folder: The run folder.

    Returns:
        The page.

    Raises:
        RunError: The folder holds no report that can be read; nothing is written then.
    """
    folder = Path(folder)
    report, log = read_report(folder), read_training_log(folder)
    figures = draw(report, log)
    page = run_page(report, log, figures)
    with new_folder(folder / "figures") as pictures:
        for name, figure in figures.items():
            save_png(figure, pictures / f"{name}.png")
    write_text(folder / "README.md", model_card(report, list(figures)))
    write_text(folder / "report.html", page)
    return folder / "report.html"
