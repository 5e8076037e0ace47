from dataclasses import dataclass, replace

import pytest

from keepshot.errors import ConfigError, ModelError
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN, ChatTemplate, choose_template, encode
from keepshot.tasks.example import Example, Turn


@dataclass(frozen=True)
class Style:
    """A chat template in the manner of a model family.

    Attributes:
        source: In Jinja.
        tokens: Its special tokens.
        end: What stands between an answer and the end of its span.
        trims: Whether contents lose the white space around them.
        header: What stands before an answer that is not the last.
        last_header: What stands before the last answer.
    """

    source: str
    tokens: tuple[str, ...]
    end: str
    trims: bool
    header: str
    last_header: str


CHATML = Style(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
    False,
    "<|im_start|>assistant\n",
    "<|im_start|>assistant\n",
)
LLAMA2 = Style(
    "{% if messages[0].role == 'system' %}{% set top = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set top = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '<s>[INST] ' + ((top if loop.first else '') + m.content).strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' </s>' }}{% endif %}{% endfor %}",
    ("<s>", "</s>"),
    " </s>",
    True,
    "[/INST] ",
    "[/INST] ",
)
LLAMA3 = Style(
    "{{ '<|bos|>' }}{% for m in messages %}{{ '<|header|>' + m.role + '<|/header|>\n\n' + m.content | trim"
    " + '<|eot|>' }}{% endfor %}",
    ("<|bos|>", "<|header|>", "<|/header|>", "<|eot|>"),
    "<|eot|>",
    True,
    "<|header|>assistant<|/header|>\n\n",
    "<|header|>assistant<|/header|>\n\n",
)
GEMMA = Style(
    "{{ '<bos>' }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}",
    ("<bos>", "<start_of_turn>", "<end_of_turn>"),
    "<end_of_turn>",
    True,
    "<start_of_turn>model\n",
    "<start_of_turn>model\n",
)
QWEN3 = Style(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ (m.content.split('</think>') | last) if m.role == 'assistant' else m.content }}"
    "{{ '<|im_end|>\n' }}{% endfor %}",
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
    False,
    "<|im_start|>assistant\n",
    "<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
NO_TOKENS = Style(
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}",
    (),
    "\n",
    False,
    "assistant: ",
    "assistant: ",
)
STYLES = {
    "chatml": CHATML,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "gemma": GEMMA,
    "qwen3": QWEN3,
    "no tokens": NO_TOKENS,
}
ANSWERS = {
    "plain": ["blue", "green", "red"],
    "as headers": ["assistant", "user", "model"],
    "repeated": ["x", "x", "x"],
    "empty": ["", "a", ""],
    "with white space": [" blue", "green ", "\tred "],
    "as special text": ["[INST]", "{{ m }}", "<<SYS>>"],
}


def tokenizer_of(source, tokens=()):
    tokenizer = load_tokenizer("mini")
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    tokenizer.chat_template = source
    return tokenizer


def rendered(tokenizer, messages):
    """What the tokenizer itself makes of `(role, content)` pairs."""
    return tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in messages], tokenize=False)


@pytest.fixture(params=STYLES, scope="module")
def style(request):
    return STYLES[request.param]


@pytest.fixture(scope="module")
def tokenizer(style):
    return tokenizer_of(style.source, style.tokens)


def test_a_turn_ends_as_the_template_ends_it(style, tokenizer):
    ending = style.end.strip() or "\n"
    assert ChatTemplate(tokenizer).stop(several_lines=False) == (ending,)
    assert ChatTemplate(tokenizer).stop(several_lines=True) == (() if ending == "\n" else (ending,))
    assert ChatTemplate(tokenizer).turn_end() == (() if ending == "\n" else (ending,))


def test_a_prompt_is_the_same_on_every_day():
    """As templates of Llama 3 and SmolLM3 write the date; the library's function for it reads the clock."""
    source = (
        "{{{{ {} }}}} {{{{ {} }}}}{{% for m in messages %}}\n{{{{ m.role }}}}: {{{{ m.content }}}}<end>{{% endfor %}}"
    )
    dated = source.format("strftime_now('%d %B %Y')", "strftime_now('%A, %-d %b %y')")
    fixed = source.format("'26 July 2024'", "'Friday, 26 Jul 24'")
    texts = [ChatTemplate(tokenizer_of(one, ["<end>"])).render([Example("a", "b")]).text for one in (dated, fixed)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("26 July 2024 Friday, 26 Jul 24")


@pytest.mark.parametrize("outputs", ANSWERS.values(), ids=ANSWERS)
def test_text_is_the_template_s_own_and_spans_hold_answers(style, tokenizer, outputs):
    examples = [Example(f"{output} number {i}", output) for i, output in enumerate(outputs)]
    prompt = ChatTemplate(tokenizer).render(examples)
    messages = [part for e in examples for part in (("user", e.input), ("assistant", e.output))]
    assert prompt.text == rendered(tokenizer, messages)
    assert not prompt.add_special_tokens
    expected = [(output.strip() if style.trims else output) + style.end for output in outputs]
    assert [prompt.text[start:end] for start, end in prompt.answers] == expected
    headers = [style.header] * (len(outputs) - 1) + [style.last_header]
    for (start, _), header in zip(prompt.answers, headers, strict=True):
        assert prompt.text[:start].endswith(header)
    [row] = encode([prompt], tokenizer)
    assert tokenizer.decode(row.ids) == prompt.text
    assert [tokenizer.decode(row.ids[start:end]) for start, end in row.answers] == expected


def test_more_than_ten_answers_are_told_apart(style, tokenizer):
    examples = [Example(str(i), f"answer {i}") for i in range(12)]
    prompt = ChatTemplate(tokenizer).render(examples)
    assert [prompt.text[a:b] for a, b in prompt.answers] == [e.output + style.end for e in examples]


def test_a_shared_instruction_is_the_system_turn(style, tokenizer):
    examples = [Example("1", "one", "Spell."), Example("2", "two", "Spell.")]
    prompt = ChatTemplate(tokenizer).render(examples)
    turns = [("user", "1"), ("assistant", "one"), ("user", "2"), ("assistant", "two")]
    if style is GEMMA:
        expected = rendered(tokenizer, [("user", "Spell.\n\n1"), *turns[1:]])
    else:
        expected = rendered(tokenizer, [("system", "Spell."), *turns])
    assert prompt.text == expected
    assert [prompt.text[a:b] for a, b in prompt.answers] == ["one" + style.end, "two" + style.end]


def test_differing_instructions_stand_in_their_user_turns(tokenizer):
    prompt = ChatTemplate(tokenizer).render([Example("1", "one", "Spell."), Example("2", "4", "Double.")])
    assert prompt.text == rendered(
        tokenizer, [("user", "Spell.\n\n1"), ("assistant", "one"), ("user", "Double.\n\n2"), ("assistant", "4")]
    )


def test_history_is_rendered_and_not_scored(style, tokenizer):
    history = (Turn("user", "Hello"), Turn("assistant", "4"))
    prompt = ChatTemplate(tokenizer).render([Example("2", "4", history=history)])
    assert prompt.text == rendered(
        tokenizer, [("user", "Hello"), ("assistant", "4"), ("user", "2"), ("assistant", "4")]
    )
    [(start, end)] = prompt.answers
    assert prompt.text[start:end] == "4" + style.end
    assert prompt.text[start:].count("4") == 1
    assert start > prompt.text.index("Hello")


def test_without_a_system_role_every_system_turn_joins_the_user_turn_after_it():
    tokenizer = tokenizer_of(GEMMA.source, GEMMA.tokens)
    examples = [Example(str(i), "yes", history=(Turn("system", f"Rule {i}."),)) for i in range(2)]
    expected = [("user", "Rule 0.\n\n0"), ("assistant", "yes"), ("user", "Rule 1.\n\n1"), ("assistant", "yes")]
    assert ChatTemplate(tokenizer).render(examples).text == rendered(tokenizer, expected)
    both = [replace(examples[0], instruction="Say.")]
    assert ChatTemplate(tokenizer).render(both).text == rendered(
        tokenizer, [("user", "Say.\n\nRule 0.\n\n0"), ("assistant", "yes")]
    )


def test_a_system_turn_without_a_user_turn_after_it_is_a_model_error():
    tokenizer = tokenizer_of(GEMMA.source, GEMMA.tokens)
    history = (Turn("system", "a"), Turn("assistant", "b"))
    with pytest.raises(ModelError, match="plain"):
        ChatTemplate(tokenizer).render([Example("1", "x", history=history)])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{{ m.content | replace('blue', 'BLUE') }}", "changes an answer's text"),
        ("{{ m.content | upper }}", "leaves out an assistant turn"),
        ("{% if m.role == 'user' %}{{ m.content }}{% endif %}", "leaves out an assistant turn"),
        ("{{ raise_exception('no demonstrations, please') }}", "no demonstrations, please"),
        ("{{ m.content }}{% if loop.last %}{{ m.content }}{% endif %};", "changes an answer's text"),
    ],
)
def test_templates_whose_answers_cannot_be_located(body, message):
    tokenizer = tokenizer_of("{% for m in messages %}" + body + "\n{% endfor %}")
    with pytest.raises(ModelError, match=message) as error:
        ChatTemplate(tokenizer).render([Example("1", "blue"), Example("2", "blue")])
    assert "plain" in str(error.value)


@pytest.mark.parametrize(
    ("body", "turn"),
    [
        ("{% if m.role == 'assistant' %}{{ m.content }}{% endif %}", "system turn 'Name it.'"),
        ("{% if m.role != 'system' %}{{ m.content }}{% endif %}", "system turn 'Name it.'"),
        ("{% if m.role != 'user' or loop.last %}{{ m.content }}{% endif %}", "user turn 'question 1'"),
        ("{{ m.content | replace('question', 'Q') }}", "user turn 'question 1'"),
    ],
)
def test_templates_that_leave_out_what_is_asked(body, turn):
    template = ChatTemplate(tokenizer_of("{% for m in messages %}" + body + "\n{% endfor %}"))
    with pytest.raises(ModelError, match=rf"leaves out or changes the {turn}; .*plain"):
        template.render([Example(f"question {i}", "blue", "Name it.") for i in (1, 2)])


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}",
        "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}",  # only the next turn's token ends a turn
        "{% for m in messages %}{{ m.content }} {% endfor %}",
    ],
)
def test_an_answer_without_an_end_is_a_model_error(source):
    with pytest.raises(ModelError, match=r"writes nothing after an answer.*plain"):
        ChatTemplate(tokenizer_of(source, ["<|user|>"])).render([Example("1", "blue"), Example("2", "red")])


def test_the_longest_token_ends_a_turn_and_added_tokens_are_looked_up_once(monkeypatch):
    tokenizer = tokenizer_of(CHATML.source.replace("<|im_end|>", "<end><2>"), ["<end>", "<end><2>", "<|im_start|>"])
    template = ChatTemplate(tokenizer)
    monkeypatch.setattr(type(tokenizer), "get_added_vocab", lambda self: pytest.fail("looked up again"))
    for answer in ("blue", "red"):
        prompt = template.render([Example("1", answer)])
        assert [prompt.text[a:b] for a, b in prompt.answers] == [answer + "<end><2>"]


OFFER = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


@pytest.mark.parametrize(
    ("source", "differs"),
    [
        (CHATML.source + OFFER, False),
        (QWEN3.source + OFFER, True),  # answers stand behind an empty block of reasoning
        (QWEN3.source + OFFER.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n"), False),
        (CHATML.source + OFFER.replace("assistant\n", "assistant\n<think>\n"), True),
        (CHATML.source, True),  # offers nothing at all
        (GEMMA.source + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}", False),
        (LLAMA2.source, False),  # but for the space before the answer
    ],
    ids=["chatml", "qwen3", "qwen3 without thinking", "forced thinking", "no offer", "gemma", "llama2"],
)
@pytest.mark.parametrize("instruction", ["", "Spell."])
def test_generation_prompt_is_compared_with_what_stands_before_the_last_answer(source, differs, instruction):
    template = ChatTemplate(tokenizer_of(source, ("<|im_start|>", "<|im_end|>", "<end_of_turn>", "</s>")))
    examples = [Example("1", "one", instruction), Example("2", " two", instruction)]
    assert template.generation_prompt_differs(examples) is differs
    assert template.generation_prompt_differs(examples[:1]) is differs


def test_choice_of_template():
    plain, chat = load_tokenizer("mini"), tokenizer_of(CHATML.source, CHATML.tokens)
    assert choose_template("auto", plain) is PLAIN
    assert choose_template("plain", chat) is PLAIN
    assert [choose_template(name, chat).name for name in ("auto", "chat", "instruction")] == [
        "chat",
        "chat",
        "instruction",
    ]
    with pytest.raises(ConfigError, match="no chat template"):
        choose_template("chat", plain)
