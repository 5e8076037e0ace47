"""Problems with an unstated regularity that is a shortcut to the answer."""

from keepshot.tasks.patterns.draw import (
    INSTRUCTIONS,
    LABELS,
    REPAIRED,
    PatternName,
    as_examples,
    halves,
    instruction_of,
    item_row,
    items,
    pattern_task,
    released,
    repaired,
    split_of,
)
from keepshot.tasks.patterns.faithful import NONE, OF_ROWS, Defects, counts, singular, written
from keepshot.tasks.patterns.item import PatternItem, Size
from keepshot.tasks.patterns.said import said

__all__ = [
    "INSTRUCTIONS",
    "LABELS",
    "NONE",
    "OF_ROWS",
    "REPAIRED",
    "Defects",
    "PatternItem",
    "PatternName",
    "Size",
    "as_examples",
    "counts",
    "halves",
    "instruction_of",
    "item_row",
    "items",
    "pattern_task",
    "released",
    "repaired",
    "said",
    "singular",
    "split_of",
    "written",
]
