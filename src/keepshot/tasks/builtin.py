"""The suite and the targets that come with keepshot: small tasks that the bundled model reads byte by byte.

Both are fixed by name. Their inputs are drawn by key and their functions are written out, so that a curve of one run
can be laid over that of another. None can be solved by copying: a query never stands among its demonstrations.
"""

from dataclasses import dataclass
from functools import cache

from keepshot.errors import ConfigError
from keepshot.tasks.example import Example, Suite
from keepshot.tasks.mini_suite import mini_suite
from keepshot.tasks.mini_targets import TARGETS

_TRAIN_EXAMPLES = 2_000
_TEST_EXAMPLES = 400


@dataclass(frozen=True, slots=True)
class Target:
    """A task to fine-tune for, divided into examples to train on and examples to test with.

    Attributes:
        name: Unique among the targets.
        description: The relation of input and output, in words.
        train: Examples to fine-tune on.
        test: Examples whose inputs are not in `train`.
    """

    name: str
    description: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]


def builtin_suite(name: str = "mini") -> Suite:
    """A suite that comes with keepshot.

    `mini` holds fifteen tasks that the bundled model can do from 16 examples and hardly from none: functions of the
    families that it practised, among them held-out ones; two of the group `knowledge`, which ask without an instruction
    for what it knows by heart; and three that are asked zero-shot alone, with an instruction: known facts (group
    `instructed knowledge`), functions and intents (`instructed`). Two are scored by `options`, the others by exact
    match.

    Raises:
        ConfigError: There is no such suite.

    Example:
        >>> suite = builtin_suite()
        >>> suite.tasks[0].name, suite.tasks[0].examples[0].input
        ('sort-upper-append', 'qole')
    """
    if name != "mini":
        raise ConfigError(f"there is no built-in suite {name!r}; the built-in suites are: mini")
    return mini_suite()


def builtin_targets() -> tuple[str, ...]:
    """The names that `builtin_target` knows.

    Example:
        >>> builtin_targets()[0]
        'word-rule'
    """
    return tuple(TARGETS)


@cache
def builtin_target(name: str) -> Target:
    """A task to fine-tune the bundled model for: 2,000 examples to train on and 400 to test with.

    A target with fewer inputs than that has a sixth of them to test with.

    Raises:
        ConfigError: There is no such target.

    Example:
        >>> target = builtin_target("word-rule")
        >>> len(target.train), len(target.test)
        (2000, 400)
    """
    if name not in TARGETS:
        raise ConfigError(f"there is no built-in target {name!r}; the built-in targets are: {', '.join(TARGETS)}")
    description, relation = TARGETS[name]
    examples = relation.examples(_TRAIN_EXAMPLES + _TEST_EXAMPLES, "target", name)
    test = min(_TEST_EXAMPLES, len(examples) // 6)
    return Target(name, description, train=examples[test:], test=examples[:test])
