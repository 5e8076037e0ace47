import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepshot.errors import ConfigError, DataError
from keepshot.tasks.example import Example, Turn
from keepshot.tasks.formats import (
    FORMATS,
    LINE_ENDS,
    NUMBERS,
    OPTIONS_STRIPPED,
    STRIPPED,
    TRAILING_TURNS,
    check_format,
    detect,
    parse,
)

USER = {"role": "user", "content": "q"}
ASSISTANT = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}


def example_of(format, **values):
    return parse(1, values, format).example


def reason_of(format, **values):
    with pytest.raises(DataError) as caught:
        parse(1, values, format)
    return str(caught.value)


@pytest.mark.parametrize(
    ("columns", "format"),
    [
        (("input", "output", "id"), "input/output"),
        (("input", "output", "options", "aliases"), "input/output"),
        (("instruction", "input", "output"), "alpaca"),
        (("instruction", "output"), "alpaca"),
        (("prompt", "completion"), "prompt/completion"),
        (("prompt", "messages"), "messages"),
        (("id", "conversations"), "sharegpt"),
    ],
)
def test_detection(columns, format):
    assert detect([dict.fromkeys(columns, "x")]).format == format


def test_detection_looks_at_all_rows_so_that_a_first_bad_row_does_not_mislead():
    assert detect([{"input": "a"}, {"output": "b"}]).format == "input/output"


def test_detection_names_what_it_found_and_what_it_wants():
    with pytest.raises(DataError, match=r"columns 'text', 'label'; a format needs .*prompt and completion"):
        detect([{"text": "a", "label": 1}])
    with pytest.raises(DataError, match="fit the formats input/output and messages; choose one"):
        detect([{"input": "a", "output": "b", "messages": []}])


def test_unknown_formats_are_refused():
    check_format("auto")
    with pytest.raises(ConfigError, match=r"'jsonl' is not known; choose auto, input/output"):
        check_format("jsonl")


def test_input_output_with_everything():
    parsed = parse(
        7,
        {"input": " a ", "output": "b\n", "instruction": "i", "options": ["c ", "b"], "aliases": ["B", "b"], "id": 3},
        "input/output",
    )
    assert parsed.example == Example(" a ", "b", "i", ("c", "b"), ("B",))
    assert (parsed.line, parsed.extra) == (7, ("id",))
    assert set(parsed.changes) == {STRIPPED, OPTIONS_STRIPPED}


@pytest.mark.parametrize("format", ["alpaca", "input/output"])
def test_an_instruction_without_an_input_is_the_input(format):
    for values in ({"input": ""}, {"input": None}, {"input": " \n"}, {}):
        assert example_of(format, instruction="Do it.", output="b", **values) == Example("Do it.", "b")
    assert example_of(format, instruction="Do it.", input="x", output="b") == Example("x", "b", "Do it.")
    assert example_of(format, instruction=None, input="x", output="b") == Example("x", "b")


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (-2.50, "-2.5"), (1e-7, "1e-07"), (3.0, "3.0"), (2**70, str(2**70))]
)
def test_numbers_are_written_out(value, text):
    parsed = parse(1, {"input": value, "output": value, "options": [value, 0]}, "input/output")
    assert (parsed.example.input, parsed.example.output, parsed.example.options) == (text, text, (text, "0"))
    assert parsed.changes == (NUMBERS,)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"input": "a"}, "output is missing"),
        ({"input": "a", "output": None}, "output is missing"),
        ({"input": "a", "output": float("nan")}, "output is missing"),
        ({"input": "a", "output": " \t\n"}, "output is empty"),
        ({"output": "b"}, "input is missing"),
        ({"input": "", "output": "b"}, "input is empty"),
        ({"input": "a", "output": True}, "output is a boolean (True), not text"),
        ({"input": "a", "output": float("inf")}, "output is a number (inf), not text"),
        ({"input": ["a"], "output": "b"}, "input is a list (['a']), not text"),
        ({"input": "a", "output": b"b"}, "output is a bytes (b'b'), not text"),
        ({"input": "a\x00", "output": "b"}, "input holds a control character (U+0000 at position 2)"),
        ({"input": "a", "output": "b\r"}, "output holds a control character (U+000D at position 2)"),
        ({"input": "a\udcff", "output": "b"}, "input holds text that is not UTF-8 (U+DCFF at position 2)"),
        ({"input": "a", "output": "b", "options": "b|c"}, "options is text, not a list of texts"),
        ({"input": "a", "output": "b", "options": ["c", "d"]}, "options lacks the output 'b'"),
        ({"input": "a", "output": "b", "options": ["b", "c", " c"]}, "options names 'c' more than once"),
        ({"input": "a", "output": "b", "options": ["b"]}, "options holds one answer only; give at least two or none"),
        ({"input": "a", "output": "b", "options": ["b", None]}, "an entry of options is missing"),
        ({"input": "a", "output": "b", "aliases": ["c", " "]}, "an entry of aliases is empty"),
    ],
)
def test_bad_input_output_rows(values, reason):
    assert reason_of("input/output", **values) == reason


def test_tabs_newlines_and_windows_line_ends_are_no_control_characters():
    parsed = parse(1, {"input": "a\tb\r\nc\n", "output": "b"}, "input/output")
    assert parsed.example.input == "a\tb\nc\n"
    assert parsed.changes == (LINE_ENDS,)


def test_prompt_completion():
    assert example_of("prompt/completion", prompt="q: ", completion=" a\n") == Example("q: ", "a")
    assert example_of("prompt/completion", prompt=[SYSTEM, USER], completion=[ASSISTANT]) == Example("q", "a", "s")
    assert reason_of("prompt/completion", prompt="  ", completion="a") == "prompt is empty"
    assert reason_of("prompt/completion", prompt="q", completion=None) == "completion is missing"
    assert reason_of("prompt/completion", prompt=[USER], completion="a").startswith("prompt is a list but completion")
    # The answer is never taken from the prompt.
    assert "ends with a user turn" in reason_of("prompt/completion", prompt=[USER, ASSISTANT], completion=[USER])


def test_messages_take_the_last_answer_and_keep_what_came_before():
    later_user, later_assistant = {"role": "user", "content": "q2"}, {"role": "assistant", "content": " a2 "}
    parsed = parse(1, {"messages": [SYSTEM, USER, ASSISTANT, later_user, later_assistant, USER]}, "messages")
    assert parsed.example == Example("q2", "a2", "s", history=(Turn("user", "q"), Turn("assistant", "a")))
    assert set(parsed.changes) == {STRIPPED, TRAILING_TURNS}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "messages is missing"),
        ("q", "messages is text, not a list of turns"),
        ([], "messages is empty"),
        (["q"], "turn 1 of messages is text, not an object with role and content"),
        ([USER], "there is no assistant turn to learn"),
        ([ASSISTANT], "the last assistant turn does not follow a user turn"),
        ([SYSTEM, ASSISTANT], "the last assistant turn does not follow a user turn"),
        ([USER, ASSISTANT, ASSISTANT], "the last assistant turn does not follow a user turn"),
        ([USER, SYSTEM, ASSISTANT], "the last assistant turn does not follow a user turn"),
        ([USER, {"role": "assistant", "content": None}], "the content of turn 2 of messages is missing"),
        ([{"role": "user", "content": " "}, ASSISTANT], "turn 1 of messages is empty"),
        (
            [{"role": "tool", "content": "x"}, ASSISTANT],
            "turn 1 of messages has the role 'tool'; known are system, user, human, assistant, gpt",
        ),
    ],
)
def test_bad_messages(messages, reason):
    assert reason_of("messages", messages=messages) == reason


def test_sharegpt():
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert example_of("sharegpt", conversations=turns) == Example("q", "a", "s")


texts = st.text(st.sampled_from("ab \n\t\r\x00\x85\u2028é\ud800"), max_size=4) | st.just("word")
scalars = texts | texts | st.none() | st.booleans() | st.integers() | st.floats()
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": scalars})
)
anything = scalars | st.lists(texts, max_size=3) | turns
COLUMNS = {
    "input/output": {"output": scalars},
    "prompt/completion": {"prompt": scalars | turns, "completion": scalars | turns},
    "messages": {"messages": turns | anything},
    "alpaca": {"output": scalars},
    "sharegpt": {"conversations": turns | anything},
}
OPTIONAL = {"input": scalars, "instruction": anything, "options": anything, "aliases": anything}
rows = st.sampled_from(FORMATS).flatmap(
    lambda format: st.tuples(st.just(format), st.fixed_dictionaries(COLUMNS[format], optional=OPTIONAL))
)


@settings(max_examples=400)
@given(rows)
def test_any_row_is_an_example_or_a_reason_in_one_line(row):
    format, values = row
    try:
        example = parse(1, values, format).example
    except DataError as error:
        reason = str(error)
    else:
        reason = ""
        check_invariants(example)
    assert "\n" not in reason


def check_invariants(example):
    assert example.input.strip()
    assert example.output
    assert example.output == example.output.strip()
    assert not example.options or example.output in example.options
    assert json.dumps([example.input, example.output], ensure_ascii=False).encode()


def test_alpaca_rows_may_have_a_system_prompt_and_earlier_turns():
    """As in LLaMA-Factory: beside a system prompt, instruction and input together are what the user asks."""
    history = [["Hi", "Hello"], ["And?", "Well"]]
    turns = (Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "And?"), Turn("assistant", "Well"))
    row = {"instruction": "Translate.", "input": "cheese", "output": "fromage"}
    assert example_of("alpaca", **row, system=" Be brief. ", history=history) == Example(
        "Translate.\ncheese", "fromage", "Be brief.", history=turns
    )
    assert example_of("alpaca", **row, system="", history=[]) == example_of("alpaca", **row)
    assert example_of("alpaca", instruction="Hm?", output="a", system="s") == Example("Hm?", "a", "s")
    assert example_of("alpaca", **row, history=history) == Example("cheese", "fromage", "Translate.", history=turns)
    assert parse(1, row | {"system": "s", "history": []}, "alpaca").extra == ()


@pytest.mark.parametrize("history", ["Hi", [["Hi"]], [["Hi", "Hello", "x"]], [{"Hi": "Hello"}]])
def test_an_alpaca_history_is_pairs(history):
    reason = reason_of("alpaca", instruction="q", output="a", history=history)
    assert reason == "history is no list of pairs; write [[question, answer], ...]"


def test_an_empty_turn_of_an_alpaca_history_is_refused():
    assert reason_of("alpaca", instruction="q", output="a", history=[["Hi", " "]]) == "a turn of history is empty"


def test_a_sharegpt_row_may_have_its_system_prompt_beside_the_turns():
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert example_of("sharegpt", conversations=turns, system="s") == Example("q", "a", "s")
    assert example_of("sharegpt", conversations=turns, system=None) == Example("q", "a")
    twice = [{"from": "system", "value": "t"}, *turns]
    assert "begin with a system turn" in reason_of("sharegpt", conversations=twice, system="s")
