"""What a run found, for people: figures, an HTML page that opens offline, a model card, and lines for the terminal.

Everything is read from run folders; nothing here loads a model.
"""

from keepshot.report.compare import compare_page, compare_table
from keepshot.report.record import Report, read_report
from keepshot.report.render import render
from keepshot.report.wording import summary_lines

__all__ = ["Report", "compare_page", "compare_table", "read_report", "render", "summary_lines"]
