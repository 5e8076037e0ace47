"""Suites to choose settings by: they ask nothing that the suite asks on which the choice is reported."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from keepshot import keys
from keepshot.errors import ConfigError
from keepshot.tasks.anchor_functions import ANCHOR_TRANSFORMATIONS
from keepshot.tasks.example import Example, Suite, Task
from keepshot.tasks.own_inputs import FEWEST_INPUTS, OWN_PREDICATES, OWN_TRANSFORMATIONS
from keepshot.tasks.read import as_task, finite_labels
from keepshot.tasks.text_functions import MAJORITY, TextFunction, Value, guessable, input_kind, same
from keepshot.tasks.universe import draw_task, labels

_TASKS = 8
_OF_A_FAMILY = 2
_EXAMPLES = 320  # 4 sets of 80 queries
_FEWEST = 80  # 4 sets of 20 queries
_LOOKS = 150
_TRANSFORMATIONS = 3
_PREDICATES = 2


def universe_suite(apart_from: Sequence[Task]) -> Suite:
    """Eight tasks of the families that the bundled model was trained on, at most two of each.

    Always the same, but for those that `apart_from` asks under whatever labels; the next drawn takes their place.
    Tasks with few inputs are left out, and look-ups, which can only ask about inputs that were shown.

    Args:
        apart_from: The suite that is reported on, and the target.

    Example:
        >>> suite = universe_suite([])
        >>> len(suite.tasks), suite.tasks[0].name
        (8, 'numbers/difference-odd')
    """
    found: dict[str, Task] = {}
    for index in count():
        random = keys.generator("validation suite", index)
        drawn = draw_task(random)
        examples = {text: drawn.answer(text) for text in (drawn.draw(random) for _ in range(_EXAMPLES))}
        name = f"{drawn.family}/{drawn.name}"
        if name in found or drawn.family == "lookup" or len(examples) < _FEWEST or guessable(list(examples.values())):
            continue
        if sum(other.family == drawn.family for other in found.values()) == _OF_A_FAMILY:
            continue
        task = replace(as_task(name, [Example(*pair) for pair in examples.items()]), family=drawn.family)
        if any(_asks_the_same(drawn.answer, bool(task.labels), other) for other in (*apart_from, *found.values())):
            continue
        found[name] = task
        if len(found) == _TASKS:
            break
    return Suite("mini-validation", tuple(found.values()))


def halves(suite: Suite, seed: int) -> tuple[Suite, Suite]:
    """The suite in two: tasks to choose by, and tasks to report on (one more, where the number is odd).

    Args:
        suite: At least two tasks.
        seed: Keys the choice, with the suite's name.

    Raises:
        ConfigError: There is one task.

    Example:
        >>> suite = Suite("s", tuple(Task(name, ()) for name in "abcde"))
        >>> [[task.name for task in half.tasks] for half in halves(suite, seed=0)]
        [['b', 'd'], ['a', 'c', 'e']]
    """
    if len(suite.tasks) < 2:
        raise ConfigError(
            f"suite {suite.name} has {len(suite.tasks)} task, which cannot both be chosen by and reported on; name a "
            "validation suite of other tasks, or a suite of several"
        )
    order = keys.permutation(len(suite.tasks), seed, "validation suite", suite.name)
    chosen = set(order[: len(order) // 2])
    parts = [tuple(task for i, task in enumerate(suite.tasks) if (i in chosen) is wanted) for wanted in (True, False)]
    return Suite(f"{suite.name} (validation half)", parts[0]), Suite(f"{suite.name} (report half)", parts[1])


def other_own_input_tasks(examples: Sequence[Example], reported: Sequence[Task], seed: int) -> tuple[Task, ...]:
    """Up to five in-context tasks over the target's own kind of input: three transformations and two predicates.

    As `own_input_tasks`, of which the functions are that neither the report nor an anchor asks for; none where there
    are too few inputs.

    Args:
        examples: Validation examples of the target; only their inputs are used.
        reported: Tasks that are reported on.
        seed: Keys the label words.

    Example:
        >>> from keepshot.tasks.own_inputs import own_input_tasks
        >>> examples = [Example(f"{a}{b}rin", "x") for a in "bdfgklmpae" for b in "aeiou"]
        >>> [task.name for task in other_own_input_tasks(examples, own_input_tasks(examples, seed=0), seed=0)]
        ['own/drop-last', 'own/rotate', 'own/double-first', 'own/second-before-last']
    """
    inputs = [text for text in dict.fromkeys(example.input for example in examples) if text.strip()]
    if len(inputs) < FEWEST_INPUTS:
        return ()
    kind = input_kind(inputs)
    answers = {answer.casefold() for example in examples for answer in (*example.answers, *example.options)}
    anchors = [[function.apply(text) for text in inputs] for function in ANCHOR_TRANSFORMATIONS[kind]]
    transformations = _others(OWN_TRANSFORMATIONS[kind], reported, anchors, inputs)[:_TRANSFORMATIONS]
    predicates = _others(OWN_PREDICATES[kind], reported, [], inputs)[:_PREDICATES]
    return (
        *(_task(function, [function.apply(text) for text in inputs], inputs) for function in transformations),
        *(_task(function, _labelled(function, inputs, answers, seed), inputs) for function in predicates),
    )


def _others(
    functions: Sequence[TextFunction[Value]], reported: Sequence[Task], taken: list[list[Value]], inputs: Sequence[str]
) -> list[TextFunction[Value]]:
    """The functions that are not reported on, and that say something of their own about the inputs."""
    found: list[TextFunction[Value]] = []
    for function in functions:
        values = [function.apply(text) for text in inputs]
        if guessable(values) or any(same(values, other) for other in taken):
            continue
        labelled = bool(finite_labels(Counter(map(str, values))))
        answer = partial(_as_text, function)
        if not any(_asks_the_same(answer, labelled, task) for task in reported):
            found.append(function)
            taken.append(values)
    return found


def _labelled(function: TextFunction[bool], inputs: Sequence[str], answers: set[str], seed: int) -> list[str]:
    """The answers of a predicate: two words that mean nothing and are no answer of the target."""
    drawn = (labels(keys.generator(seed, "validation labels", function.name, index), 2) for index in count())
    yes, no = next(pair for pair in drawn if not answers & {label.casefold() for label in pair})
    return [yes if function.apply(text) else no for text in inputs]


def _task(function: TextFunction[Value], outputs: Sequence[str], inputs: Sequence[str]) -> Task:
    examples = tuple(Example(text, output) for text, output in zip(inputs, outputs, strict=True))
    return Task(f"own/{function.name}", examples, labels=finite_labels(Counter(outputs)), group="own-input")


def _as_text(function: TextFunction[Value], text: str) -> str:
    return str(function.apply(text))


def _asks_the_same(answer: Callable[[str], str], labelled: bool, task: Task) -> bool:
    """Whether a function mostly gives a task's answers, or what differs from them in the labels' names at most.

    It is asked about what it can answer, if that is half of the task: some of its intents, say.
    """
    examples = task.examples[:_LOOKS]
    answers, outputs = [], []
    for example in examples:
        try:
            answers.append(answer(example.input))
        except (ValueError, LookupError):  # an input of another kind
            continue
        outputs.append(example.output)
    if 2 * len(answers) < len(examples):
        return False
    if labelled and task.labels:
        return min(_told(answers, outputs), _told(outputs, answers)) > MAJORITY
    return same(answers, outputs)


def _told(values: Sequence[str], others: Sequence[str]) -> float:
    """How often one guesses right who answers each value with its commonest partner."""
    pairs: dict[str, Counter[str]] = {}
    for value, other in zip(values, others, strict=True):
        pairs.setdefault(value, Counter())[other] += 1
    return sum(partners.most_common(1)[0][1] for partners in pairs.values()) / len(values)
