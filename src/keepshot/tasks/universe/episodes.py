"""Episodes: examples of one task in a row, as the bytes that the bundled model reads."""

from random import Random

from keepshot.tasks.universe.families import SyntheticTask, draw_task

BOS = 1  # the token `<|begin|>` of the bundled model; every other token of an episode is the value of a byte


def episode(
    generator: Random, max_length: int = 512, heldout: bool = False, task: SyntheticTask | None = None
) -> tuple[list[int], list[int]]:
    r"""As many examples of one task as fit, each as `Q: <input>\nA: <output>\n`, after the token BOS.

    Args:
        generator: Where task and inputs are drawn from; it is left where the next episode begins.
        max_length: The most tokens, BOS included.
        heldout: Draw from the tasks that the bundled model was not trained on.
        task: This task instead of a drawn one.

    Returns:
        The token ids, and a mask with 1 at the tokens of the answers: the space before each and the line end after it
        included.

    Example:
        >>> task = SyntheticTask("strings", "upper", lambda random: "ab", str.upper)
        >>> ids, mask = episode(Random(0), max_length=25, task=task)
        >>> bytes(ids[1:]).decode()
        'Q: ab\nA: AB\nQ: ab\nA: AB\n'
        >>> bytes(id for id, answer in zip(ids, mask) if answer).decode()
        ' AB\n AB\n'
    """
    task = task or draw_task(generator, heldout)
    ids, mask = [BOS], [0]
    while True:
        text = task.draw(generator)
        question, answer = f"Q: {text}\nA:".encode(), f" {task.answer(text)}\n".encode()
        if len(ids) + len(question) + len(answer) > max_length:
            return ids, mask
        ids += question
        ids += answer
        mask += [0] * len(question) + [1] * len(answer)
