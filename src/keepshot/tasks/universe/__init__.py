"""The bundled universe: endless small text tasks that a model can learn from examples in its prompt, or knows.

Ten families whose tasks are drawn at random and explained by examples alone, and five that an instruction explains.
Held-out tasks ask for in-context learning beyond what was practised: string functions, predicates, number functions and
list functions that join what training shows apart, string functions in an unseen order, unseen bit functions, relations
and kinds of things that are known but were never asked for by examples alone, and unseen intents.

Functions here take a running `random.Random`, which the caller keys (`keepshot.keys.generator`).
"""

from keepshot.tasks.universe.episodes import BOS, episode, row
from keepshot.tasks.universe.families import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    INSTRUCTED_FAMILIES,
    draw_instructed,
    draw_task,
)
from keepshot.tasks.universe.task import SyntheticTask
from keepshot.tasks.universe.words import VOWELS, labels, word

__all__ = [
    "BOS",
    "FAMILIES",
    "HELD_OUT_FAMILIES",
    "INSTRUCTED_FAMILIES",
    "VOWELS",
    "SyntheticTask",
    "draw_instructed",
    "draw_task",
    "episode",
    "labels",
    "row",
    "word",
]
