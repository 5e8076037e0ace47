"""Classification tasks under other labels: does a model learn from its context, or only recognise the task?"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

from keepshot.errors import ConfigError, DataError
from keepshot.keys import generator, permutation
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.split import input_key
from keepshot.tasks.universe import labels as label_words

LabelVariant = Literal["true", "flipped", "random", "symbols"]
LABEL_VARIANTS: tuple[LabelVariant, ...] = get_args(LabelVariant)


def relabelled(task: Task, labels: LabelVariant, seed: int) -> Task:
    """A classification task under other labels, named after both, such as `mood [flipped]`.

    - `true`: the task itself.
    - `flipped`: every label stands for another, in demonstrations and queries alike. What counts as right is what the
      context says, against what the weights know.
    - `random`: every demonstration has a label drawn at random, the true one among them. Queries keep theirs.
    - `symbols`: labels are words and numbers without a meaning, in demonstrations and queries alike; none is a word of
      the task's texts. With the scoring `generate`, texts are then compared by `exact`.

    Options change with the labels. Aliases of a label that is no longer the answer fall away, unless they are labels
    themselves. Inputs and instructions stay: an instruction that names the labels contradicts what is shown.

    Args:
        task: With two labels or more; any task if its labels are to be `true`.
        labels: One of `LABEL_VARIANTS`.
        seed: Keys the new labels.

    Raises:
        ConfigError: There is no such variant.
        DataError: The task has no finite set of labels.

    Example:
        >>> mood = Task("mood", (Example("great", "good"), Example("awful", "bad")), labels=("bad", "good"))
        >>> [example.output for example in relabelled(mood, "flipped", seed=0).examples]
        ['bad', 'good']

    Reference:
        arXiv 2202.12837 (`random`), 2303.03846 (`flipped`, and `symbols` as semantically unrelated labels). There,
        flipped demonstrations are followed by queries with true labels, so that following them lowers the accuracy.
    """
    if labels not in LABEL_VARIANTS:
        raise ConfigError(f"there are no {labels!r} labels; choose {', '.join(LABEL_VARIANTS)}")
    if labels == "true":
        return task
    if not _is_classification(task):
        raise DataError(
            f"task {task.name!r} has no finite set of labels, so that it cannot have {labels} labels; leave it out"
        )
    name, drawn_as = f"{task.name} [{labels}]", task.drawn_as or task.name
    if labels == "random":
        pool = tuple(_at_random(example, task, seed) for example in task.pool or task.examples)
        return replace(task, name=name, drawn_as=drawn_as, pool=pool)
    new = _flipped(task, seed) if labels == "flipped" else _symbols(task, seed)
    return replace(
        task,
        name=name,
        drawn_as=drawn_as,
        examples=tuple(_renamed(example, new) for example in task.examples),
        pool=tuple(_renamed(example, new) for example in task.pool),
        labels=tuple(new[label] for label in task.labels),
        # A metric that reads numbers, or that was written for the true labels, cannot compare symbols.
        metric="" if labels == "symbols" and task.scoring == "generate" else task.metric,
    )


def relabelled_suite(suite: Suite, labels: LabelVariant, seed: int) -> tuple[Suite, tuple[str, ...]]:
    """The classification tasks of a suite under other labels, and the names of the tasks left out.

    Raises:
        ConfigError: There is no such variant.
        DataError: No task of the suite has a finite set of labels.

    Example:
        >>> mood = Task("mood", (Example("great", "good"), Example("awful", "bad")), labels=("bad", "good"))
        >>> suite, left_out = relabelled_suite(Suite("s", (mood, Task("sum", (Example("1+1", "2"),)))), "symbols", 0)
        >>> [task.name for task in suite.tasks], left_out
        (['mood [symbols]'], ('sum',))
    """
    if labels == "true":
        return suite, ()
    kept = tuple(relabelled(task, labels, seed) for task in suite.tasks if _is_classification(task))
    if not kept:
        raise DataError(f"no task of suite {suite.name!r} has a finite set of labels, which {labels} labels need")
    left_out = tuple(task.name for task in suite.tasks if not _is_classification(task))
    return Suite(f"{suite.name} [{labels}]", kept), left_out


def _is_classification(task: Task) -> bool:
    answers = {example.output for example in (*task.examples, *task.pool)}
    return len(task.labels) > 1 and answers <= set(task.labels)


def _at_random(example: Example, task: Task, seed: int) -> Example:
    # By input, so that one input has one label.
    random = generator(seed, "random label", task.name, input_key(example))
    return replace(example, output=random.choice(sorted(example.options or task.labels)), aliases=())


def _flipped(task: Task, seed: int) -> dict[str, str]:
    """Each label stands for the next of a keyed cycle, so that none stands for itself."""
    labels = sorted(task.labels)
    cycle = [labels[place] for place in permutation(len(labels), seed, "flipped labels", task.name)]
    return dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))


def _symbols(task: Task, seed: int) -> dict[str, str]:
    examples = (*task.examples, *task.pool)
    texts = {
        *task.labels,
        *(text for e in examples for text in (e.input, e.instruction, *e.answers, *e.options)),
    }
    # Short words may mean something by chance; those that do are likely to stand in the task's texts.
    taken = {word for text in texts for word in re.findall(r"\w+", text.casefold())}
    named = {*task.labels, *(option for example in examples for option in example.options)}
    random = generator(seed, "symbol labels", task.name)
    symbols: dict[str, str] = {}
    for label in sorted(named):
        while (symbol := label_words(random, 1)[0]).casefold() in taken:
            pass
        taken.add(symbol.casefold())
        symbols[label] = symbol
    return symbols


def _renamed(example: Example, new: Mapping[str, str]) -> Example:
    return replace(
        example,
        output=new[example.output],
        # In flipped labels, an option that is never an answer is no label and stays.
        options=tuple(new.get(option, option) for option in example.options),
        aliases=tuple(new[alias] for alias in example.aliases if alias in new),
    )
