"""Documents and rows: examples of tasks as the bytes that the bundled model reads."""

from random import Random

from keepshot.tasks.universe.families import draw_instructed, draw_task
from keepshot.tasks.universe.problems import NO_PROBLEMS, ProblemShares, problem_task
from keepshot.tasks.universe.task import SyntheticTask

BOS = 1  # the token `<|begin|>` of the bundled model; every other token of an episode is the value of a byte

# Most episodes are short, so that a row shows several tasks; some fill it, so that long contexts are practised.
_LENGTHS, _LENGTH_WEIGHTS = (256, 512, 1024), (3, 4, 3)
_INSTRUCTED_SHARE = 0.18  # of rows: as many short instructed documents as fit
_EXAMPLES, _EXAMPLE_WEIGHTS = (1, 2, 4, 16), (16, 2, 1, 1)  # of an instructed document
_LEAST_ROOM = 64  # where less than that is left, a row ends


def episode(
    generator: Random,
    max_length: int = 1024,
    heldout: bool = False,
    task: SyntheticTask | None = None,
    most_examples: int | None = None,
) -> tuple[list[int], list[int]]:
    r"""As many examples of one task as fit, such as `Q: <input>\nA: <output>\n`, after BOS and the task's instruction.

    Args:
        generator: Where task and inputs are drawn from; it is left where the next episode begins.
        max_length: The most tokens, BOS included.
        heldout: Draw from the tasks that the bundled model was not trained on.
        task: This task instead of a drawn one.
        most_examples: End after so many.

    Returns:
        The token ids, and a mask with 1 at the tokens of the answers: the space before each and the line end after it
        included.

    Example:
        >>> task = SyntheticTask("strings", "upper", lambda random: "ab", str.upper, "Use capitals.")
        >>> ids, mask = episode(Random(0), max_length=40, task=task)
        >>> bytes(ids[1:]).decode()
        'Use capitals.\n\nQ: ab\nA: AB\nQ: ab\nA: AB\n'
        >>> bytes(id for id, answer in zip(ids, mask) if answer).decode()
        ' AB\n AB\n'
    """
    task = task or draw_task(generator, heldout)
    ids = [BOS, *(task.form.instruction.format(task.instruction).encode() if task.instruction else b"")]
    mask = [0] * len(ids)
    examples = 0
    while most_examples is None or examples < most_examples:
        text = task.draw(generator)
        question, answer = task.form.question.format(text).encode(), f" {task.answer(text)}\n".encode()
        if len(ids) + len(question) + len(answer) > max_length:
            break
        ids += question
        ids += answer
        mask += [0] * len(question) + [1] * len(answer)
        examples += 1
    return ids[:max_length], mask[:max_length]  # an instruction alone may be longer


def row(generator: Random, length: int, shares: ProblemShares = NO_PROBLEMS) -> tuple[list[int], list[int]]:
    """Documents one after the other, each beginning anew with BOS: what the bundled model is trained on.

    Args:
        generator: Its state moves on.
        length: The most tokens.
        shares: Of rows whose tasks are those of `problem_task`; none in the bundled model's training.

    Returns:
        Token ids and answer mask, as of `episode`.

    Example:
        >>> ids, mask = row(Random(0), length=1024)
        >>> ids[0], len(ids) == len(mask) <= 1024
        (1, True)
    """
    ids: list[int] = []
    mask: list[int] = []
    about = shares.drawn(generator)
    instructed = about is None and generator.random() < _INSTRUCTED_SHARE
    while not ids or len(ids) + _LEAST_ROOM <= length:
        room = length - len(ids)
        if instructed:
            examples = generator.choices(_EXAMPLES, _EXAMPLE_WEIGHTS)[0]
            document = episode(generator, room, task=draw_instructed(generator), most_examples=examples)
        else:
            task = problem_task(generator, written=about) if about else None
            document = episode(generator, min(room, generator.choices(_LENGTHS, _LENGTH_WEIGHTS)[0]), task=task)
        ids += document[0]
        mask += document[1]
    return ids, mask
