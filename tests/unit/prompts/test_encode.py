import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from keepshot.errors import DataError, ModelError
from keepshot.models.load import load_tokenizer
from keepshot.prompts import INSTRUCTION, PLAIN, Prompt, Row, VerbatimTemplate, encode
from keepshot.tasks.example import Example, Wording

BYTES = load_tokenizer("mini")
# Ids 0 and 1 of the byte tokenizer are its special tokens; `encode` refuses the control characters of these codes.
TEXTS = st.text(st.characters(codec="utf-8", min_codepoint=2), max_size=10)
BLOCKS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)
ANSWERS = st.text("ab1 .:)\n\t", min_size=1, max_size=8).map(str.strip).filter(bool)

MERGES = [(" ", "y"), (" y", "e"), (" ye", "s"), (" ", "n"), (" n", "o"), (".", "\n"), ("\n", "Q"), (".\n", "Q")]


def straddling(*merges, processor=None):
    """A tokenizer of characters and of `merges`, which cross spaces and line ends."""
    pieces = ["<s>", "</s>", "\n", *map(chr, range(32, 127)), *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, list(merges)))
    if processor:
        tokenizer.post_processor = processor
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def byte_level(cuts):
    """Bytes, cut into pieces by `cuts` and then merged greedily: runs of white space, and line ends after a stop."""
    merges = [
        ("Ċ", "Ċ"),
        ("Ċ", "Ġ"),
        ("Ġ", "Ċ"),
        ("Ġ", "Ġ"),
        (".", "Ċ"),
        (":", "Ċ"),
        (")", "Ċ"),
        (".", "ĊĊ"),
        (":", "ĊĊ"),
    ]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = cuts
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


GPT2 = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
LLAMA3 = byte_level(
    pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(
                Regex(
                    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
                    r"\s*[\r\n]+|\s+(?!\S)|\s+"
                ),
                "isolated",
            ),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
)


def examples_of(pairs):
    return [Example(*pair) for pair in pairs]


def pieces(row, tokenizer):
    """The tokens of every answer, as strings."""
    return [tokenizer.convert_ids_to_tokens(list(row.ids[start:end])) for start, end in row.answers]


@given(BLOCKS, st.sampled_from([PLAIN, INSTRUCTION]))
def test_a_span_decodes_to_lead_answer_and_end(pairs, template):
    examples = examples_of(pairs)
    [row] = encode([template.render(examples)], BYTES)
    assert row.ids[0] == BYTES.bos_token_id
    for example, (start, end) in zip(examples, row.answers, strict=True):
        assert BYTES.decode(row.ids[start:end]) == template.lead + example.output + template.end
    assert row.answers[-1][1] == len(row.ids)
    assert all(a[1] < b[0] for a, b in zip(row.answers, row.answers[1:], strict=False))


@given(st.lists(BLOCKS, min_size=1, max_size=4))
def test_prompts_encoded_together_are_those_encoded_alone(batch):
    prompts = [PLAIN.render(examples_of(pairs)) for pairs in batch]
    assert encode(prompts, BYTES) == [row for prompt in prompts for row in encode([prompt], BYTES)]


@pytest.mark.parametrize("template", [PLAIN, INSTRUCTION], ids=lambda template: template.name)
@pytest.mark.parametrize("tokenizer", [GPT2, LLAMA3], ids=["gpt2", "llama3"])
@given(answer=ANSWERS, instructions=st.sampled_from([("", ""), ("Add.", "Add."), ("Add.", "Double."), ("", "Add.")]))
def test_a_demonstration_s_answer_has_the_tokens_of_the_query_s(template, tokenizer, answer, instructions):
    [row] = encode([template.render([Example("a", answer, own) for own in instructions])], tokenizer)
    demonstration, query = pieces(row, tokenizer)
    assert demonstration == query


@pytest.mark.parametrize("template", [PLAIN, INSTRUCTION], ids=lambda template: template.name)
@pytest.mark.parametrize("tokenizer", [GPT2, LLAMA3], ids=["gpt2", "llama3"])
@given(answer=ANSWERS, asked=ANSWERS, instruction=st.sampled_from(["", "Add."]))
def test_the_next_block_that_ends_an_answer_has_the_same_tokens_before_an_input_and_at_the_end(
    template, tokenizer, answer, asked, instruction
):
    rows = [Example(asked, answer, instruction, several_lines=True)] * 2
    [row] = encode([template.render(rows)], tokenizer)
    demonstration, query = pieces(row, tokenizer)
    assert demonstration == query
    assert "".join(query).endswith(template.following.replace(" ", "Ġ"))


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        (INSTRUCTION, "### Input:\na\n\n### Response:\n", ["5", "Ċ"]),
        (VerbatimTemplate(Wording("\n", "\n\n")), "a:\n", ["5"]),
        (VerbatimTemplate(Wording(" ", "\n\n")), "a:", ["Ġ", "5"]),
    ],
    ids=["instruction", "wording with a line end", "wording with a blank"],
)
def test_a_line_end_that_goes_with_the_header_is_no_part_of_the_answer(template, prompt, answer):
    """Llama 3's and Qwen's tokenizers make one token of a colon and a line end; it is given, not asked."""
    text = "a:" if isinstance(template, VerbatimTemplate) else "a"
    [row] = encode([template.render([Example(text, "5")])], LLAMA3)
    start, _ = row.answers[-1]
    given = "".join(LLAMA3.convert_ids_to_tokens(list(row.ids[:start])))
    assert given.replace("Ċ", "\n").replace("Ġ", " ") == prompt
    assert pieces(row, LLAMA3) == [answer]


@pytest.mark.parametrize("character", ["\x00", "\x01"])
def test_a_character_that_a_tokenizer_drops_is_an_error(character):
    dropped = BYTES(f"a{character}b", return_offsets_mapping=True, add_special_tokens=False)
    assert dropped["input_ids"] == [ord("a"), ord("b")]
    rows = [
        PLAIN.render([Example("fine", "yes")]),
        PLAIN.render([Example("some", "1"), Example(f"a{character}b", "no")]),
    ]
    with pytest.raises(
        DataError, match=rf"row that starts 'Q: some.*control character U\+000{ord(character)} \(at 17\)"
    ):
        encode(rows, BYTES)


@pytest.mark.parametrize(
    ("merges", "expected"),
    [
        (MERGES[:6], [[" yes", "\n"], [" no", ".\n"]]),
        (MERGES[:7], [[" yes", "\nQ"], [" no", ".\n"]]),  # the line end comes with the next question's first letter
        ([(":", " "), ("a", "b")], [["y", "e", "s", "\n"], ["n", "o", ".", "\n"]]),  # what holds the header is its own
        ([(":", " "), (": ", "y"), ("a", "b")], [[": y", "e", "s", "\n"], ["n", "o", ".", "\n"]]),
    ],
    ids=["space and stop", "into the next question", "from the header", "from the header into the answer"],
)
def test_a_token_belongs_to_an_answer_if_any_of_its_characters_does(merges, expected):
    tokenizer = straddling(*merges)
    prompt = PLAIN.render([Example("ab", "yes"), Example("b", "no.")])
    [row] = encode([prompt], tokenizer)
    assert pieces(row, tokenizer) == expected
    assert "".join(tokenizer.convert_ids_to_tokens(list(row.ids))) == prompt.text


def test_white_space_that_a_processor_trims_off_the_offsets_still_belongs_to_the_answer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    [row] = encode([PLAIN.render([Example("a", "5"), Example("b", "6 7")])], fast)
    assert pieces(row, fast) == [["Ġ", "5", "Ċ"], ["Ġ", "6", "Ġ", "7", "Ċ"]]


def test_an_end_token_that_the_tokenizer_appends_is_taken_off():
    ends = processors.TemplateProcessing(single="<s> $A </s> </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = straddling(*MERGES, processor=ends)
    [row] = encode([PLAIN.render([Example("b", "yes"), Example("b", "no")])], tokenizer)
    assert tokenizer.convert_ids_to_tokens([row.ids[0], row.ids[-1]]) == ["<s>", "\n"]
    assert pieces(row, tokenizer) == [[" yes", "\nQ"], [" no", "\n"]]


def test_a_text_that_brings_its_begin_token_gets_no_second_one():
    [row] = encode([Prompt("<|begin|>a b", ((10, 12),), add_special_tokens=False)], BYTES)
    assert row == Row((1, ord("a"), ord(" "), ord("b")), ((2, 4),))


def test_an_answer_that_nothing_predicts_is_an_error():
    tokenizer = straddling(*MERGES)  # no begin token
    with pytest.raises(DataError, match="no token that could be predicted"):
        encode([Prompt("yes", ((0, 3),))], tokenizer)
    with pytest.raises(DataError, match="no token that could be predicted"):
        encode([Prompt("a yes", ((1, 1),))], tokenizer)


def test_a_tokenizer_without_offsets_is_an_error(monkeypatch):
    tokenizer = straddling(*MERGES)
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        encode([Prompt("a yes", ((1, 5),))], tokenizer)


def test_no_prompts_are_no_rows():
    assert encode([], BYTES) == []
