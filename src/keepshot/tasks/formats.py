"""Row formats: which one a file has, and a raw row as an `Example`."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Role, Turn
from keepshot.tasks.rows import kind

Values = Mapping[str, object]

# Columns that make the format, then those that it may have besides.
_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "input/output": (("input", "output"), ("instruction", "options", "aliases")),
    "prompt/completion": (("prompt", "completion"), ()),
    "messages": (("messages",), ()),
    "alpaca": (("instruction", "output"), ("input", "options", "aliases")),
    "sharegpt": (("conversations",), ()),
}
FORMATS = tuple(_COLUMNS)

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}

# Columns that a message names; tables may have thousands.
_SHOWN_COLUMNS = 10

# Control characters but for tab and newline, and the surrogates that bytes outside UTF-8 are read as.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

STRIPPED = "white space around the output removed"
OPTIONS_STRIPPED = "white space around options or aliases removed"
NUMBERS = "numbers written as text"
LINE_ENDS = "Windows line ends turned into newlines"
TRAILING_TURNS = "turns after the last assistant turn left out"


@dataclass(frozen=True, slots=True)
class Detection:
    """The format of a source.

    Attributes:
        format: One of `FORMATS`.
        reason: Why this one, in words.
    """

    format: str
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row that can be used.

    Attributes:
        line: As in `RawRow`.
        example: What it says.
        changes: In what the example differs from the row's own text.
        extra: Columns that the format has no use for.
    """

    line: int
    example: Example
    changes: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def detect(rows: Iterable[Values]) -> Detection:
    """The one format whose columns all occur in `rows`.

    Raises:
        DataError: No format fits, or more than one.

    Example:
        >>> detect([{"prompt": "2 + 2 =", "completion": "4", "id": 7}])
        Detection(format='prompt/completion', reason='the first rows have prompt and completion')
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    fitting = [name for name, (needed, _) in _COLUMNS.items() if set(needed) <= set(columns)]
    if "alpaca" in fitting and "input/output" in fitting:
        fitting.remove("input/output")  # The same columns read in the same way, and alpaca names one more of them.
    if not fitting:
        wanted = "; ".join(f"{name}: {_and(needed)}" for name, (needed, _) in _COLUMNS.items())
        found = ", ".join(map(_short, columns[:_SHOWN_COLUMNS])) + (", …" if len(columns) > _SHOWN_COLUMNS else "")
        raise DataError(f"the first rows have the columns {found or '(none)'}; a format needs ({wanted})")
    if len(fitting) > 1:
        raise DataError(f"the first rows fit the formats {_and(fitting)}; choose one with data.format (--format)")
    return Detection(fitting[0], f"the first rows have {_and(_COLUMNS[fitting[0]][0])}")


def check_format(name: str) -> None:
    """Refuse a format name that is neither `auto` nor one of `FORMATS`.

    Raises:
        ConfigError: It is not.
    """
    if name != "auto" and name not in FORMATS:
        raise ConfigError(f"format {name!r} is not known; choose auto, {', '.join(FORMATS)}")


def parse(line: int, values: Values, format: str) -> Parsed:
    """The row as an example.

    Raises:
        DataError: The row is bad; the message is the reason alone, without the place.

    Example:
        >>> parse(1, {"instruction": "Name a colour.", "input": "", "output": "red "}, "alpaca").example
        Example(input='Name a colour.', output='red', instruction='', options=(), aliases=(), history=())
    """
    changes: dict[str, None] = {}
    readers: dict[str, Callable[[Values, dict[str, None]], Example]] = {
        "prompt/completion": _prompt_completion,
        "messages": lambda row, notes: _conversation(_turns(row, "messages", notes), notes),
        "sharegpt": lambda row, notes: _conversation(_turns(row, "conversations", notes), notes),
    }
    example = readers.get(format, _input_output)(values, changes)
    needed, optional = _COLUMNS[format]
    extra = tuple(column for column in values if column not in needed and column not in optional)
    return Parsed(line, example, tuple(changes), extra)


def _input_output(row: Values, changes: dict[str, None]) -> Example:
    """`input/output` and `alpaca`: an instruction without an input is itself what is asked."""
    instruction = "" if _missing(row.get("instruction")) else _text(row["instruction"], "instruction", changes)
    asked = "" if instruction.strip() and _missing(row.get("input")) else _text(row.get("input"), "input", changes)
    if not asked.strip():
        asked, instruction = instruction, ""
    if not asked.strip():
        raise DataError("input is empty")
    output = _answer(row.get("output"), "output", changes)
    options = _texts(row.get("options"), "options", changes)
    if len(set(options)) < len(options):
        raise DataError(f"options names {next(text for text in options if options.count(text) > 1)!r} more than once")
    if len(options) == 1:
        raise DataError("options holds one answer only; give at least two or none")
    if options and output not in options:
        raise DataError(f"options lacks the output {_short(output)}")
    # Lists of accepted answers often repeat the main one, which changes nothing.
    aliases = dict.fromkeys(text for text in _texts(row.get("aliases"), "aliases", changes) if text != output)
    return Example(asked, output, instruction, options, tuple(aliases))


def _prompt_completion(row: Values, changes: dict[str, None]) -> Example:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, list) and not isinstance(completion, list):
        asked = _text(prompt, "prompt", changes)
        if not asked.strip():
            raise DataError("prompt is empty")
        return Example(asked, _answer(completion, "completion", changes))
    if not isinstance(prompt, list) or not isinstance(completion, list):
        raise DataError(f"prompt is {kind(prompt)} but completion is {kind(completion)}; both must be text or lists")
    answer = _turns(row, "completion", changes)
    if answer[-1].role != "assistant":
        raise DataError(f"completion ends with a {answer[-1].role} turn, not with the assistant's")
    return _conversation([*_turns(row, "prompt", changes), *answer], changes)


def _turns(row: Values, column: str, changes: dict[str, None]) -> list[Turn]:
    """The turns in `column`, written as role and content or as from and value."""
    turns = row.get(column)
    if not isinstance(turns, list):
        raise DataError(f"{column} is missing" if turns is None else f"{column} is {kind(turns)}, not a list of turns")
    if not turns:
        raise DataError(f"{column} is empty")
    return [_turn(turn, f"turn {number} of {column}", changes) for number, turn in enumerate(turns, start=1)]


def _turn(turn: object, where: str, changes: dict[str, None]) -> Turn:
    if not isinstance(turn, dict):
        raise DataError(f"{where} is {kind(turn)}, not an object with role and content")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role not in _ROLES:
        raise DataError(f"{where} has the role {role!r}; known are {', '.join(_ROLES)}")
    content = _text(turn.get("content", turn.get("value")), f"the content of {where}", changes)
    if not content.strip() and role != "system":
        raise DataError(f"{where} is empty")
    return Turn(_ROLES[role], content)


def _conversation(turns: list[Turn], changes: dict[str, None]) -> Example:
    """The last assistant turn with the user turn before it; a leading system turn is the instruction."""
    last = max((index for index, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise DataError("there is no assistant turn to learn")
    if last == 0 or turns[last - 1].role != "user":
        raise DataError("the last assistant turn does not follow a user turn")
    if last < len(turns) - 1:
        changes[TRAILING_TURNS] = None
    first = 1 if turns[0].role == "system" else 0
    return Example(
        input=turns[last - 1].content,
        output=_answer(turns[last].content, "the last assistant turn", changes),
        instruction=turns[0].content.strip() if first else "",
        history=tuple(turns[first : last - 1]),
    )


def _answer(value: object, where: str, changes: dict[str, None]) -> str:
    text = _text(value, where, changes)
    stripped = text.strip()
    if not stripped:
        raise DataError(f"{where} is empty")
    if stripped != text:
        changes[STRIPPED] = None
    return stripped


def _texts(value: object, column: str, changes: dict[str, None]) -> tuple[str, ...]:
    if _missing(value):
        return ()
    if not isinstance(value, list):
        raise DataError(f"{column} is {kind(value)}, not a list of texts")
    texts = [_text(item, f"an entry of {column}", changes) for item in value]
    stripped = tuple(text.strip() for text in texts)
    if not all(stripped):
        raise DataError(f"an entry of {column} is empty")
    if list(stripped) != texts:
        changes[OPTIONS_STRIPPED] = None
    return stripped


def _text(value: object, where: str, changes: dict[str, None]) -> str:
    """`value` as text; numbers are written out, everything else but text is refused."""
    if _missing(value):
        raise DataError(f"{where} is missing")
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        changes[NUMBERS] = None
        return repr(value)
    if not isinstance(value, str):
        raise DataError(f"{where} is {kind(value)} ({_short(value)}), not text")
    if "\r\n" in value:
        changes[LINE_ENDS] = None
        value = value.replace("\r\n", "\n")
    found = _FORBIDDEN.search(value)
    if found:
        code = ord(found[0])
        what = "text that is not UTF-8" if 0xD800 <= code <= 0xDFFF else "a control character"
        raise DataError(f"{where} holds {what} (U+{code:04X} at position {found.start() + 1})")
    return value


def _missing(value: object) -> bool:
    """Null, or NaN, which is how tables that came through pandas write it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _short(value: object) -> str:
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _and(names: Iterable[str]) -> str:
    return " and ".join(names)
