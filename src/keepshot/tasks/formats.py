"""Row formats: which one a file has, and a raw row as an `Example`."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Role, Turn
from keepshot.tasks.rows import kind

Values = Mapping[str, object]

# Columns that make the format, then those that it may have besides.
_COLUMNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "input/output": (("input", "output"), ("instruction", "options", "aliases")),
    "prompt/completion": (("prompt", "completion"), ()),
    "messages": (("messages",), ()),
    "alpaca": (("instruction", "output"), ("input", "options", "aliases", "system", "history")),
    "sharegpt": (("conversations",), ("system",)),
}
FORMATS = tuple(_COLUMNS)
COLUMNS = tuple(dict.fromkeys(name for needed, optional in _COLUMNS.values() for name in (*needed, *optional)))

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


def detect(rows: Iterable[Values], named: Iterable[str] = ()) -> Detection:
    """The one format whose columns all occur in `rows`.

    Args:
        rows: The first ones.
        named: Columns that the format must have a use for.

    Raises:
        DataError: No format fits, or more than one.

    Example:
        >>> detect([{"prompt": "2 + 2 =", "completion": "4", "id": 7}])
        Detection(format='prompt/completion', reason='the first rows have prompt and completion')
    """
    rows = list(rows)
    columns = {column for row in rows for column in row}
    fitting = [
        name
        for name, (needed, optional) in _COLUMNS.items()
        if set(needed) <= columns and set(named) <= {*needed, *optional}
    ]
    if "alpaca" in fitting and "input/output" in fitting:
        fitting.remove("input/output")  # The same columns read in the same way, and alpaca names one more of them.
    if not fitting:
        wanted = "; ".join(f"{name}: {_and(needed)}" for name, (needed, _) in _COLUMNS.items())
        raise DataError(f"the first rows have the columns {column_names(rows)}; a format needs ({wanted})")
    if len(fitting) > 1:
        raise DataError(f"the first rows fit the formats {_and(fitting)}; choose one with data.format (--format)")
    return Detection(fitting[0], f"the first rows have {_and(_COLUMNS[fitting[0]][0])}")


def column_names(rows: Iterable[Values]) -> str:
    """The columns of rows in words, of many the first.

    Example:
        >>> column_names([{"question": "2 + 2", "id": 7}])
        "'question', 'id'"
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    further = ", …" if len(columns) > _SHOWN_COLUMNS else ""
    return ", ".join(map(_short, columns[:_SHOWN_COLUMNS])) + further or "(none)"


def check_format(name: str, named: Iterable[str] = ()) -> None:
    """Refuse a format name that is neither `auto` nor one of `FORMATS`, and columns that the format has no use for.

    Raises:
        ConfigError: It is not, or a column in `named` is none of the format's (of any format's, with `auto`).
    """
    if name != "auto" and name not in FORMATS:
        raise ConfigError(f"format {name!r} is not known; choose auto, {', '.join(FORMATS)}")
    known = COLUMNS if name == "auto" else tuple(chain(*_COLUMNS[name]))
    for column in named:
        if column not in known:
            of = "rows have" if name == "auto" else f"rows of the format {name} have"
            raise ConfigError(f"columns says where {column!r} stands; {of} {', '.join(known)}")


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
        "alpaca": _alpaca,
        "sharegpt": lambda row, notes: _conversation(_with_system(row, notes), notes),
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


def _alpaca(row: Values, changes: dict[str, None]) -> Example:
    """`alpaca`: beside a system prompt, instruction and input together are what the user asks."""
    example = replace(_input_output(row, changes), history=tuple(_pairs(row.get("history"), changes)))
    system = _system(row, changes)
    if not system:
        return example
    asked = f"{example.instruction}\n{example.input}" if example.instruction else example.input
    return replace(example, instruction=system, input=asked)


def _pairs(value: object, changes: dict[str, None]) -> list[Turn]:
    """Earlier turns of `alpaca` rows: lists of what the user said and what was answered."""
    if _missing(value):
        return []
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise DataError("history is no list of pairs; write [[question, answer], ...]")
    roles: tuple[Role, Role] = ("user", "assistant")
    texts = [
        (role, _text(text, "a turn of history", changes))
        for pair in value
        for role, text in zip(roles, pair, strict=True)
    ]
    if not all(text.strip() for _, text in texts):
        raise DataError("a turn of history is empty")
    return [Turn(role, text) for role, text in texts]


def _system(row: Values, changes: dict[str, None]) -> str:
    return "" if _missing(row.get("system")) else _text(row["system"], "system", changes).strip()


def _with_system(row: Values, changes: dict[str, None]) -> list[Turn]:
    """The turns of a `sharegpt` row, behind the system prompt that may stand beside them."""
    turns, system = _turns(row, "conversations", changes), _system(row, changes)
    if not system:
        return turns
    if turns[0].role == "system":
        raise DataError("system stands beside conversations that begin with a system turn; remove one")
    return [Turn("system", system), *turns]


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
