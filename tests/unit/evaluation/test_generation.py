import copy
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES, HEAD_DIM
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from keepshot.episodes import demonstration_set
from keepshot.errors import RunError
from keepshot.evaluation import generation
from keepshot.evaluation.generation import cut, end_tokens, generate, takes_padding
from keepshot.evaluation.local import LocalModel
from keepshot.evaluation.scorer import score_rows
from keepshot.keys import generator
from keepshot.models.load import load_model, load_tokenizer, peft_warnings
from keepshot.prompts import PLAIN, Row, encode
from keepshot.tasks.builtin import builtin_suite

LENGTHS = (1, 40, 3, 17, 40, 8, 25)
"""Of prompts: within, and well beyond, the 16 that a sliding layer sees."""


def rows_of(lengths=LENGTHS):
    """Prompts of random tokens, each with an answer that generation must not look at."""
    r = generator("prompts")
    prompts = [tuple(r.randrange(2, 256) for _ in range(length)) for length in lengths]
    return [Row((*prompt, 5, 5, 5), ((len(prompt), len(prompt) + 3),)) for prompt in prompts]


def reference(model, row, count, ends=(0,)):
    """Tokens that greedy decoding writes, each from one plain forward pass of the row alone; no end token."""
    ids = list(row.ids[: row.answers[-1][0]])
    start = len(ids)
    with torch.no_grad():
        for _ in range(count):
            token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token in ends:
                break
            ids.append(token)
    return ids[start:]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom", "opt", "qwen3"])
def test_models_of_keys_and_values_take_padding(name):
    assert takes_padding(ARCHITECTURES[name]())


def test_a_model_that_reads_its_padding_writes_rows_of_one_length_together(tokenizer):
    """As architectures with a state, which know no mask; what is written must not depend on the rest of the batch."""
    model = ARCHITECTURES["llama"]()
    unmasked = {"attention_mask": None, "position_ids": None}
    model.register_forward_pre_hook(lambda module, args, kwargs: (args, kwargs | unmasked), with_kwargs=True)
    assert not takes_padding(model)
    rows = rows_of((9, 3, 9, 17))
    alone = [LocalModel(model, tokenizer).generate([row], (), 6)[0] for row in rows]
    assert LocalModel(model, tokenizer).generate(rows, (), 6) == alone


def test_a_long_row_turns_no_short_one_s_positions(tokenizer):
    """LongRoPE turns all rows of a batch as its longest asks."""
    rotary = {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
        "short_factor": [1.0] * (HEAD_DIM // 2), "long_factor": [9.0] * (HEAD_DIM // 2),
    }  # fmt: skip
    base = ARCHITECTURES["phi3"]()
    head = base.config.hidden_size // base.config.num_attention_heads
    rotary |= {name: rotary[name][:1] * (head // 2) for name in ("short_factor", "long_factor")}
    config = type(base.config).from_dict(base.config.to_dict() | {"rope_parameters": rotary})
    model = type(base)(config).eval()
    model.load_state_dict(base.state_dict(), strict=False)
    rows = rows_of((5, 60, 9))
    alone = [generate(model, tokenizer, [row], (), 6)[0] for row in rows]
    assert generate(model, tokenizer, rows, (), 6) == alone


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "bloom", "opt"])
def model(request):
    return ARCHITECTURES[request.param]()


@pytest.fixture(scope="module")
def llama():
    return ARCHITECTURES["llama"]()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("mini")


@contextmanager
def reading(model, most=None):
    """Shapes of what is read at once of prompts, and of what is refused: above `most` tokens."""
    done, refused = [], []

    def before(module, args, kwargs):
        shape = kwargs["input_ids"].shape
        if most is not None and shape.numel() > most:
            refused.append(shape)
            raise torch.OutOfMemoryError("no memory")
        if shape[1] > 1:
            done.append(shape)

    handle = model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield done, refused
    finally:
        handle.remove()


def test_rows_of_different_lengths_are_written_as_each_by_itself(model, tokenizer):
    rows = rows_of()
    expected = [tokenizer.decode(reference(model, row, 10)).strip() for row in rows]
    assert generate(model, tokenizer, rows, [], 10) == expected
    assert len(set(expected)) > 4
    assert generate(model, tokenizer, rows[::-1], [], 10) == expected[::-1]


def test_the_model_s_own_settings_do_not_reach_greedy_decoding(tokenizer):
    model, rows = ARCHITECTURES["llama"](), rows_of()
    expected = [tokenizer.decode(reference(model, row, 10)).strip() for row in rows]
    own = {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "num_beams": 3, "min_length": 60}
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    settings = model.generation_config
    assert generate(model, tokenizer, rows, [], 10) == expected
    assert model.generation_config is settings
    assert {name: getattr(settings, name) for name in own} == own


def test_an_adapter_writes_what_it_would_write_alone(tokenizer):
    rows = rows_of()
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with peft_warnings(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = get_peft_model(ARCHITECTURES["llama"](), lora).eval()
    settings = model.get_base_model().generation_config
    settings.repetition_penalty = 5.0
    expected = [tokenizer.decode(reference(model, row, 10)).strip() for row in rows]
    assert generate(model, tokenizer, rows, [], 10) == expected
    with model.disable_adapter():
        assert generate(model, tokenizer, rows, [], 10) != expected
    assert model.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize("count", [1, 4])
def test_no_more_is_written_than_asked_for(llama, tokenizer, count):
    rows = rows_of()
    texts = generate(llama, tokenizer, rows, [], count)
    assert texts == [tokenizer.decode(reference(llama, row, count)).strip() for row in rows]


def test_writing_ends_at_each_row_s_first_stop_string(llama, tokenizer):
    rows = rows_of()
    whole = [tokenizer.decode(reference(llama, row, 12)).strip() for row in rows]
    stops = [whole[0][3:5], whole[1][5]]
    texts = generate(llama, tokenizer, rows, stops, 12)
    assert texts == [cut(text, stops) for text in whole]
    assert texts[0] == whole[0][: min(whole[0].find(stop) for stop in stops if stop in whole[0])].rstrip()
    assert any(text != written for text, written in zip(texts, whole, strict=True))


def test_nothing_is_computed_once_all_rows_have_stopped(llama, tokenizer):
    rows = rows_of()[:1]
    first = tokenizer.decode(reference(llama, rows[0], 12))[3]
    steps = []
    handle = llama.register_forward_pre_hook(lambda *_, **__: steps.append(1), with_kwargs=True)
    try:
        generate(llama, tokenizer, rows, [first], 200)
    finally:
        handle.remove()
    assert len(steps) <= 12


def test_end_tokens_end_a_row_and_leave_no_trace(tokenizer):
    model, rows = ARCHITECTURES["llama"](), rows_of()
    written = [reference(model, row, 10) for row in rows]
    ends = [written[0][4], written[1][0]]  # tokens with a text of their own, unlike the tokenizer's end token
    model.generation_config.eos_token_id = ends
    expected = [tokenizer.decode(reference(model, row, 10, ends)).strip() for row in rows]
    assert generate(model, tokenizer, rows, [], 10) == expected
    assert expected[1] == ""
    model.generation_config.eos_token_id = ends[0]
    expected = [tokenizer.decode(reference(model, row, 10, ends[:1])).strip() for row in rows]
    assert generate(model, tokenizer, rows, [], 10) == expected


def test_a_model_that_names_no_end_token_has_its_tokenizer_s(tokenizer):
    model, [row] = ARCHITECTURES["llama"](), rows_of((20,))
    assert end_tokens(model) == [0]
    model.generation_config.eos_token_id = None
    assert end_tokens(model) == []
    dictate(model, ["ab"], {"a": 97, "b": 98}, then=tokenizer.eos_token_id)
    assert generate(model, tokenizer, [row], [], 6) == ["ab"]


def dictate(model, texts, vocabulary, then=0):
    """Make a model write these tokens, one list for every row of a batch, and `then` afterwards."""
    step = 0

    def after(module, args, logits):
        nonlocal step
        logits = torch.zeros_like(logits)
        for row, text in enumerate(texts):
            logits[row, -1, vocabulary[text[step]] if step < len(text) else then] = 1.0
        step += 1
        return logits

    return model.get_output_embeddings().register_forward_hook(after)


PIECES = {"<end>": 0, "\n\n": 1, " 4": 2, "2\nQ": 3, ": no": 4, "Q": 5, "1.": 6}


@pytest.fixture(scope="module")
def pieces():
    """A tokenizer whose tokens are several characters long."""
    inner = Tokenizer(models.WordLevel(PIECES, unk_token="<end>"))
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<end>")


@pytest.mark.parametrize(
    ("written", "stop", "expected"),
    [
        ([" 4", "2\nQ", ": no"], ["\n"], "42"),  # in the middle of a token
        (["\n\n", " 4", "2\nQ", ": no"], ["\n"], "42"),  # white space before the answer does not end it
        ([" 4", "Q", ": no", "1."], ["Q: "], "4"),  # over two tokens
        ([" 4", "2\nQ", ": no"], ["no", "Q", ":"], "42"),  # the first in the text, not in the list
        (["1.", " 4", "<end>", "1."], ["\n"], "1. 4"),
        (["<end>", "1."], ["\n"], ""),
        (["1.", " 4", "1."], [], "1. 41."),
    ],
)
def test_where_writing_ends(pieces, written, stop, expected):
    model, [row] = ARCHITECTURES["llama"](), rows_of((5,))
    dictate(model, [written], PIECES, then=PIECES["Q"])
    assert generate(model, pieces, [row], stop, len(written)) == [expected]


def test_a_token_among_the_stops_ends_writing(pieces):
    """As a base model writes in a chat template whose turns end by a token that its own settings do not name."""
    tokenizer = copy.deepcopy(pieces)
    tokenizer.add_tokens(["<|im_end|>"], special_tokens=True)
    vocabulary = PIECES | {"<|im_end|>": tokenizer.convert_tokens_to_ids("<|im_end|>")}
    written = [" 4", "<|im_end|>", "1.", "Q"]
    model, [row] = ARCHITECTURES["llama"](), rows_of((5,))
    dictate(model, [written], vocabulary)
    assert generate(model, tokenizer, [row], [], 6) == ["41.Q"]
    model = ARCHITECTURES["llama"]()
    dictate(model, [written], vocabulary)
    assert generate(model, tokenizer, [row], ["<|im_end|>"], 6) == ["4"]


def test_an_added_token_that_is_text_stops_as_text_does(pieces):
    """As a tokenizer's own token for line ends: before the answer it does not end it."""
    tokenizer = copy.deepcopy(pieces)
    tokenizer.add_tokens(["\n"])
    vocabulary = PIECES | {"\n": tokenizer.convert_tokens_to_ids("\n")}
    model, [row] = ARCHITECTURES["llama"](), rows_of((5,))
    dictate(model, [["\n", " 4", "\n", "1."]], vocabulary)
    assert generate(model, tokenizer, [row], ["\n"], 6) == ["4"]


def test_a_row_that_ends_early_is_not_disturbed_by_those_that_write_on(pieces):
    model, rows = ARCHITECTURES["llama"](), rows_of((9, 8, 7))
    dictate(model, [[" 4", "2\nQ"], ["<end>"], ["1.", " 4", "1.", " 4", "1.", "\n\n"]], PIECES, then=PIECES[": no"])
    assert generate(model, pieces, rows, ["\n"], 8) == ["42", "", "1. 41. 41."]


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        (" \n 42 \nQ: next", ["\n"], "42"),
        ("42", [], "42"),
        (" 42 ", ["x"], "42"),
        ("a b c", ["c", "b"], "a"),
        ("\n\n", ["\n"], ""),
        ("", ["\n"], ""),
    ],
)
def test_cut(text, stop, expected):
    assert cut(text, stop) == expected


def test_batches_hold_as_many_tokens_as_they_may(llama, tokenizer, monkeypatch):
    rows = rows_of()
    expected = generate(llama, tokenizer, rows, [], 6)
    monkeypatch.setattr(generation, "BATCH_TOKENS", 100)
    with reading(llama) as (done, _):
        assert generate(llama, tokenizer, rows, [], 6) == expected
    assert [shape[0] for shape in done] == [2, 3, 2]  # 46, 31 and 9 tokens wide with what is written


def test_what_does_not_fit_the_memory_is_halved_and_nothing_is_written_twice(llama, tokenizer):
    rows = rows_of()
    expected = generate(llama, tokenizer, rows, [], 6)
    with reading(llama, most=90) as (done, refused):
        assert generate(llama, tokenizer, rows, [], 6) == expected
    assert sum(shape[0] for shape in done) == len(rows)
    assert len(refused) == 2  # seven rows of 40, three of 40, and then two


def test_a_row_that_does_not_fit_the_memory_is_an_error(llama, tokenizer):
    with reading(llama, most=30), pytest.raises(RunError, match="does not hold a single prompt"):
        generate(llama, tokenizer, rows_of(), [], 6)


def test_nothing_is_asked(llama, tokenizer):
    assert generate(llama, tokenizer, [], ["\n"], 5) == []


def test_teacher_forcing_equals_greedy_decoding(tokenizer):
    mini = load_model("mini", device="cpu")
    exact = []
    for task in [task for task in builtin_suite().tasks if task.scoring == "exact_match"][1:6]:
        drawn = demonstration_set(task, 0, sets=4, shots=1, queries=6, seed=0)
        prompts = [PLAIN.render([*drawn.demonstrations, query]) for query in drawn.queries]
        rows = encode(prompts, tokenizer)
        answers = [query.output for query in drawn.queries]
        longest = max(end - start for row in rows for start, end in row.answers[-1:])
        texts = generate(mini, tokenizer, rows, PLAIN.stop(several_lines=False), longest)
        found = [score.exact for score in score_rows(mini, rows)]
        assert [text == answer for text, answer in zip(texts, answers, strict=True)] == found
        exact += found
    assert exact.count(True) >= 5
    assert exact.count(False) >= 5
