"""How documents become examples: columns, Jinja templates and constants, evaluated as the harness evaluates them."""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from keepshot.errors import DataError
from keepshot.tasks.example import Example
from keepshot.tasks.lm_eval.source import Document
from keepshot.tasks.lm_eval.task_file import TaskFile
from keepshot.tasks.rows import BadRow, kind


@dataclass(frozen=True, slots=True)
class Field:
    """What a key of a task file makes of a document.

    Attributes:
        key: Of the file.
        read: From a document to whatever it gives.
    """

    key: str
    read: Callable[[Document], object]

    def __call__(self, document: Document) -> object:
        """What it gives.

        Raises:
            DataError: The document has not what is needed.
        """
        try:
            return self.read(document)
        except (
            TemplateError,
            ArithmeticError,
            AttributeError,
            LookupError,
            SyntaxError,
            TypeError,
            ValueError,
        ) as error:
            raise DataError(f"{self.key}: {error}") from None


@dataclass(frozen=True, slots=True)
class Form:
    """How a document becomes an example.

    Attributes:
        text: Gives what is asked.
        target: Gives the answer, or its index among the choices.
        choices: Gives the choices; None if there are none.
        has_options: Whether the choices are scored as options.
    """

    text: Field
    target: Field
    choices: Field | None
    has_options: bool

    def example(self, document: Document) -> Example:
        """The document as an example.

        Raises:
            DataError: It makes none; the message is the reason alone.
        """
        asked, target = self.text(document), self.target(document)
        if isinstance(asked, int) and self.choices:
            raise DataError("doc_to_text gives a number: an input for every option, which is not supported")
        if not isinstance(asked, str) or not asked.strip():
            raise DataError(f"doc_to_text gives {_what(asked)}; it must give text")
        if self.choices is None:
            answer, *others = _answers(target)
            return Example(asked, answer, aliases=tuple(dict.fromkeys(text for text in others if text != answer)))
        choices = _choices(self.choices(document))
        answer = choices[_index(target, choices, self.has_options)]
        return Example(asked, answer, options=choices if self.has_options else ())

    def examples(self, documents: Sequence[Document], where: str) -> tuple[tuple[Example, ...], tuple[BadRow, ...]]:
        """All that can be made of `documents`, and the others.

        Raises:
            DataError: There is none.
        """
        examples, bad = [], []
        for number, document in enumerate(documents, start=1):
            try:
                examples.append(self.example(document))
            except DataError as error:
                bad.append(BadRow(where, number, str(error)))
        if not examples:
            raise DataError(f"{where}: none of {len(documents)} documents is usable, the first because {bad[0].reason}")
        return tuple(examples), tuple(bad)


def read_form(file: TaskFile, columns: Sequence[str], *, has_options: bool) -> Form:
    """What `doc_to_text`, `doc_to_target` and `doc_to_choice` of a file say.

    Args:
        file: The task file.
        columns: Of the queries' documents; the text under a key that is one of them names it, else it is a template.
        has_options: Whether answers are chosen among options.

    Raises:
        DataError: A key is missing or is no such thing.

    Example:
        >>> from pathlib import Path
        >>> file = TaskFile(Path("sums.yaml"), {"doc_to_text": "{{a}} + {{a}} =", "doc_to_target": "sum"})
        >>> found = read_form(file, ("a", "sum"), has_options=False).example({"a": 2, "sum": "4"})
        >>> found.input, found.output
        ('2 + 2 =', '4')
    """
    if file.config.get("doc_to_choice") is None:
        if has_options:
            raise file.refusal("doc_to_choice", "is missing, which multiple_choice needs")
        text, choices = read_field(file, "doc_to_text", columns), None
        target = read_field(file, "doc_to_target", columns, _literal_list, (list,))
    else:
        text = read_field(file, "doc_to_text", columns, _number)
        target = read_field(file, "doc_to_target", columns, lambda text: _literal_list(_number(text)), (int, list))
        choices = read_field(file, "doc_to_choice", columns, ast.literal_eval, (list, dict))
    return Form(text, target, choices, has_options)


def read_field(
    file: TaskFile,
    key: str,
    columns: Sequence[str],
    after: Callable[[str], object] = str,
    constants: tuple[type, ...] = (),
) -> Field:
    """What stands under a key: a column, a template, or a value that is the same for every document.

    Args:
        file: The task file.
        key: One of its keys.
        columns: As for `read_form`.
        after: What becomes of a template's output.
        constants: Types of constants that may stand there.

    Raises:
        DataError: It is none of the three.
    """
    value = file.config.get(key)
    if isinstance(value, str) and value in columns:
        return Field(key, itemgetter(value))
    if isinstance(value, str):
        try:
            template = _JINJA.from_string(value)
        except TemplateSyntaxError as error:
            raise file.refusal(key, f"is no Jinja template: {error}") from None
        return Field(key, lambda document: after(template.render(document)))
    if isinstance(value, bool) or not isinstance(value, constants):
        raise file.refusal(key, f"is {kind(value)}; it must be a column or a Jinja template")
    constant = list(value.values()) if isinstance(value, dict) else value
    return Field(key, lambda _: constant)


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, replacement, text, count=count)


# Templates come with foreign files: in the sandbox they reach no Python but methods of the document's values.
_JINJA = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_JINJA.filters["regex_replace"] = _regex_replace


def _number(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _literal_list(text: int | str) -> object:
    """Text in brackets that reads as a Python list is one."""
    if not isinstance(text, str) or len(text) < 2 or text[0] != "[" or text[-1] != "]":
        return text
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _answers(target: object) -> list[str]:
    texts = []
    for text in (target or [None]) if isinstance(target, list) else [target]:
        if not isinstance(text, str) or not text.strip():
            hint = '; write "{{column}}" to have it as text' if isinstance(text, int | float) else ""
            raise DataError(f"doc_to_target gives {_what(text)}, not the answer's text{hint}")
        texts.append(text)
    return texts


def _choices(choices: object) -> tuple[str, ...]:
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice for choice in choices):
        raise DataError(f"doc_to_choice gives {_what(choices)}, not a list of texts")
    if len(choices) < 2 or len(set(choices)) < len(choices):
        raise DataError(f"doc_to_choice gives {choices}; it must give two texts or more, each once")
    return tuple(choices)


def _index(target: object, choices: Sequence[str], may_be_text: bool) -> int:
    if isinstance(target, int) and 0 <= target < len(choices):
        return target
    if isinstance(target, str) and may_be_text and target in choices:
        return choices.index(target)
    raise DataError(f"doc_to_target gives {_what(target)}, which is not one of the {len(choices)} choices")


def _what(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | list) else kind(value)
