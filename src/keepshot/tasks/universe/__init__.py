"""The bundled universe: endless small text tasks that a model can learn from examples in its prompt.

Six families (strings, classify, numbers, bits, lookup, linear) whose tasks are drawn at random. Some members of the
first four are held out: no model is trained on them, so they ask for in-context learning beyond what was practised.

Functions here take a running `random.Random`, which the caller keys (`keepshot.keys.generator`).
"""

from keepshot.tasks.universe.episodes import BOS, episode
from keepshot.tasks.universe.families import FAMILIES, SyntheticTask, draw_task
from keepshot.tasks.universe.words import VOWELS, labels, word

__all__ = ["BOS", "FAMILIES", "VOWELS", "SyntheticTask", "draw_task", "episode", "labels", "word"]
