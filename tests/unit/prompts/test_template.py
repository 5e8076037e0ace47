from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError
from keepshot.prompts import INSTRUCTION, PLAIN, BlockTemplate
from keepshot.prompts.template import AS_WRITTEN
from keepshot.tasks.example import Example, Turn, ending_alike

TEXTS = st.text(max_size=8)
HISTORIES = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=3)
EXAMPLES = st.tuples(TEXTS, TEXTS, st.sampled_from(["", "Add.", "Q: "]), HISTORIES)


def answers(prompt):
    return [prompt.text[start:end] for start, end in prompt.answers]


@given(st.lists(EXAMPLES, min_size=1, max_size=5), st.sampled_from([PLAIN, INSTRUCTION, AS_WRITTEN]))
def test_spans_hold_lead_answer_and_end_whatever_the_texts_are(drawn, template):
    examples = [Example(i, o, instruction, history=tuple(Turn(*turn) for turn in h)) for i, o, instruction, h in drawn]
    prompt = template.render(examples)
    assert answers(prompt) == [template.lead + example.output + template.end for example in examples]
    assert prompt.answers[-1][1] == len(prompt.text)
    assert prompt.add_special_tokens
    for example, (start, _) in zip(examples, prompt.answers, strict=True):
        asked = template.question[0] + example.input + template.question[1] + template.answer
        assert prompt.text[:start].endswith(asked)


def test_a_shared_instruction_stands_once_on_top():
    examples = [Example("2 3", "5", "Add."), Example("4 4", "8", "Add.")]
    assert PLAIN.render(examples).text == "Add.\n\nQ: 2 3\nA: 5\nQ: 4 4\nA: 8\n"
    assert INSTRUCTION.render(examples[:1]).text == ("### Instruction:\nAdd.\n\n### Input:\n2 3\n\n### Response:\n5\n")


def test_verbatim_writes_nothing_around_a_row():
    prompt = AS_WRITTEN.render([Example("2 + 3 =", "5", "Add."), Example("4 + 4 =", "8", "Add.")])
    assert prompt.text == "Add.\n2 + 3 = 5\n4 + 4 = 8\n"
    assert answers(prompt) == [" 5\n", " 8\n"]
    assert AS_WRITTEN.stop(several_lines=False) == ("\n",)
    with pytest.raises(ConfigError, match="with the template verbatim a line end is an answer's end; choose plain"):
        AS_WRITTEN.stop(several_lines=True)


def test_differing_instructions_stand_with_their_blocks():
    examples = [Example("2 3", "5", "Add."), Example("2 3", "6", "Multiply."), Example("1", "1")]
    assert PLAIN.render(examples).text == "Add.\n\nQ: 2 3\nA: 5\nMultiply.\n\nQ: 2 3\nA: 6\nQ: 1\nA: 1\n"
    # Without its own instruction a query must not seem to be under that of its demonstrations.
    assert PLAIN.render([examples[2], examples[0]]).text == "Q: 1\nA: 1\nAdd.\n\nQ: 2 3\nA: 5\n"


def test_earlier_turns_are_blocks_that_are_not_scored():
    history = (Turn("system", "Be brief."), Turn("user", "Hello"), Turn("assistant", "Hi"))
    prompt = PLAIN.render([Example("2 3", "5", history=history)])
    assert prompt.text == "Be brief.\n\nQ: Hello\nA: Hi\nQ: 2 3\nA: 5\n"
    assert answers(prompt) == [" 5\n"]


@pytest.mark.parametrize(
    ("template", "following", "text"),
    [
        (PLAIN, "Q:", "Q: a\nA: 1\n2\nQ: b\nA: 3\nQ:"),
        (
            INSTRUCTION,
            "### Input",
            "### Input:\na\n\n### Response:\n1\n2\n### Input:\nb\n\n### Response:\n3\n### Input",
        ),
    ],
)
def test_an_answer_that_may_hold_line_ends_ends_where_the_next_block_begins(template, following, text):
    """In a demonstration as in the query, whose answer nothing follows; short answers of the same task too."""
    prompt = template.render(ending_alike([Example("a", "1\n2"), Example("b", "3")], True))
    assert prompt.text == text
    lead, end = template.lead, f"\n{following}"
    assert answers(prompt) == [f"{lead}1\n2{end}", f"{lead}3{end}"]
    assert template.stop(several_lines=True) == (end,)


def test_what_stands_between_blocks_is_no_answer_s_end():
    told = Example("b", "3", "Add.", several_lines=True)
    prompt = PLAIN.render([Example("a", "1\n2", several_lines=True), told])
    assert answers(prompt) == [" 1\n2\n", " 3\nQ:"]


def test_verbatim_rows_have_no_such_end():
    assert AS_WRITTEN.render([Example("a", "1\n2", several_lines=True)]).text == "a 1\n2\n"


@pytest.mark.parametrize("template", [PLAIN, INSTRUCTION, AS_WRITTEN])
def test_demonstrations_make_a_growing_prefix(template: BlockTemplate):
    examples = [Example(str(i), str(2 * i), "Double.") for i in range(4)]
    texts = [template.render(examples[:n]).text for n in range(1, 5)]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(texts))
