"""Trees, contexts and batches against plain forward passes of single rows."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES, HEAD_DIM, RELATIVES
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, GPTNeoConfig, GPTNeoForCausalLM

from keepshot.episodes import demonstration_set
from keepshot.errors import RunError
from keepshot.evaluation import scorer
from keepshot.evaluation.scorer import Scorer, score_levels, score_rows, shared_lengths
from keepshot.keys import generator
from keepshot.models.load import load_model, load_tokenizer, peft_warnings
from keepshot.prompts import PLAIN, Row, encode
from keepshot.tasks.builtin import builtin_suite

CONTEXTS = (0, 9, 30, 70)
"""Shared tokens of each level after the first token: within, and well beyond, the 16 that a sliding layer sees."""


def levels_of(contexts=CONTEXTS, queries=3, options=2):
    """Rows of random tokens by level; queries and answers differ in length, and the options of a query share it."""
    r = generator("rows")

    def tokens(count):
        return tuple(r.randrange(2, 256) for _ in range(count))

    shown = tokens(1 + max(contexts))
    levels = []
    for context in contexts:
        asked = [(*shown[: context + 1], *tokens(r.randint(1, 20))) for _ in range(queries)]
        answered = [(query, tokens(r.randint(1, 6))) for query in asked for _ in range(options)]
        levels.append([Row((*q, *a), ((len(q), len(q + a)),)) for q, a in answered])
    return levels


def reference(model, row):
    """Log-likelihood of the last answer by one plain forward pass of the row alone."""
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    start, end = row.answers[-1]
    log_probs = torch.log_softmax(logits.double(), dim=-1)
    return sum(float(log_probs[place - 1, row.ids[place]]) for place in range(start, end))


def greedy(model, row):
    """What the model writes in place of the last answer, token by token, each from the whole text before it."""
    start, end = row.answers[-1]
    ids = list(row.ids[:start])
    with torch.no_grad():
        while len(ids) < end:
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return tuple(ids[start:])


def with_answer(row, answer):
    start, _ = row.answers[-1]
    return Row((*row.ids[:start], *answer), (*row.answers[:-1], (start, start + len(answer))))


def likelihoods(levels):
    return [[score.log_likelihood for score in level] for level in levels]


def assert_right(model, levels, found):
    """Scores are those of plain forward passes."""
    for rows, scores in zip(levels, found, strict=True):
        assert [s.log_likelihood for s in scores] == pytest.approx([reference(model, row) for row in rows], abs=1e-4)
        assert [s.num_tokens for s in scores] == [end - start for row in rows for start, end in row.answers[-1:]]


def own_prefixes(rows, done):
    """What must be computed of rows beyond their context: every distinct beginning, up to what predicts the answer."""
    return {row.ids[:n] for row in rows for n in range(done + 1, row.answers[-1][1])}


@contextmanager
def passes(model, most=None, at=None, refuse=torch.OutOfMemoryError):
    """Token ids of every pass that succeeds, in order, and of those refused: above `most` tokens, or at place `at`."""
    done, refused = [], []

    def before(module, args, kwargs):
        ids = kwargs["input_ids"]
        if (most is not None and ids.numel() > most) or len(done) + len(refused) == at:
            refused.append(ids)
            raise refuse("no memory")
        done.append(ids)

    handle = model.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield done, refused
    finally:
        handle.remove()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    return ARCHITECTURES[request.param]()


@pytest.fixture(scope="module")
def llama():
    return ARCHITECTURES["llama"]()


@pytest.fixture(scope="module")
def mini():
    return load_model("mini", device="cpu")


@pytest.fixture(scope="module")
def mini_levels():
    """Rows of a built-in task with 0, 1 and 4 demonstrations."""
    drawn = demonstration_set(builtin_suite().tasks[0], 0, sets=1, shots=4, queries=5, seed=0)
    prompts = [[PLAIN.render([*drawn.demonstrations[:n], query]) for query in drawn.queries] for n in (0, 1, 4)]
    return [encode(level, load_tokenizer("mini")) for level in prompts]


# --- The numbers


def test_trees_rows_and_plain_forward_passes_agree(model):
    levels = levels_of()
    found, shares = score_levels(model, levels)
    assert shares == (model.config.model_type != "bloom")  # whose positions are read off a mask of two dimensions
    assert_right(model, levels, found)
    assert_right(model, levels, [score_rows(model, rows) for rows in levels])


@pytest.mark.parametrize("name", RELATIVES)
def test_related_model_types_agree_too(name):
    model, levels = RELATIVES[name](), levels_of()
    found, shares = score_levels(model, levels)
    assert shares
    assert_right(model, levels, found)


SLIDING = {"use_sliding_window": True, "sliding_window": 16}
LANGUAGE = ARCHITECTURES["gemma3"]().config.to_dict()
IMAGES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
OTHERS = {
    "some layers slide": ("qwen2", SLIDING | {"max_window_layers": 1}),
    "no layer slides after all": ("qwen2", SLIDING | {"max_window_layers": 1, "use_sliding_window": False}),
    "all layers slide, without being listed": ("starcoder2", {"sliding_window": 16}),
    "the language model stands below one for images": (
        "gemma3",
        {"text_config": LANGUAGE, "vision_config": IMAGES | {"image_size": 28, "patch_size": 14}},
    ),
}


def built(model_type, settings):
    """A tiny model as in `tests.architectures`, of any model type."""
    plain = ARCHITECTURES["qwen2"]().config.to_dict()
    kept = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    common = {} if "text_config" in settings else {key: plain[key] for key in (*kept, "intermediate_size")}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = AutoConfig.for_model(model_type, **common | {"initializer_range": 0.2, "eos_token_id": 0} | settings)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("case", OTHERS)
def test_other_ways_of_configuring_layers_agree_too(case):
    model, levels = built(*OTHERS[case]), levels_of()
    found, shares = score_levels(model, levels)
    assert shares
    assert_right(model, levels, found)


def test_an_adapter_is_scored_and_so_is_its_base_when_it_is_off(llama):
    levels = levels_of()
    base = likelihoods(score_levels(llama, levels)[0])
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with peft_warnings(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        adapted = get_peft_model(ARCHITECTURES["llama"](), lora).eval()
    one = Scorer(adapted)
    found = list(one.score(levels))
    assert one.shares
    assert_right(adapted, levels, found)
    assert likelihoods(found)[0] != pytest.approx(base[0], abs=1e-2)
    with adapted.disable_adapter():
        for some, more in zip(likelihoods(one.score(levels)), base, strict=True):
            assert some == pytest.approx(more, abs=1e-4)


def test_levels_agree_with_plain_forward_passes_on_the_bundled_model(mini, mini_levels):
    found, shares = score_levels(mini, mini_levels)
    assert shares
    assert shared_lengths(mini_levels)[-1] > 30
    assert_right(mini, mini_levels, found)


def test_sixteen_bits_are_shared_too_and_normalised_in_32():
    model, levels = ARCHITECTURES["gemma2"]().to(torch.bfloat16), levels_of()
    found, shares = score_levels(model, levels)
    assert shares
    for rows, scores in zip(levels, found, strict=True):
        expected = [reference(model, row) for row in rows]
        assert [score.log_likelihood for score in scores] == pytest.approx(expected, rel=0.05, abs=0.2)
    peaked = torch.tensor([[20.0, 12.0]], dtype=torch.bfloat16)  # whose log-softmax bfloat16 would round to 0
    [score] = scorer._read(peaked, [[0]], [[0]])
    assert score.log_likelihood == pytest.approx(-3.354e-4, rel=1e-3)


def test_rows_of_one_level_come_back_in_their_order(llama):
    [level] = levels_of((30,), queries=9, options=1)
    straight, backwards = (score_levels(llama, [rows])[0][0] for rows in (level, level[::-1]))
    assert [s.num_tokens for s in straight] == [s.num_tokens for s in backwards[::-1]]
    expected = [s.log_likelihood for s in backwards[::-1]]
    assert [s.log_likelihood for s in straight] == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 9


def test_equal_rows_and_rows_that_are_the_beginning_of_others(llama):
    [[row]] = levels_of((30,), queries=1, options=1)
    row = with_answer(row, (5, 6, 7, 8))
    rows = [row, with_answer(row, (5, 6)), row, with_answer(row, (5,)), with_answer(row, (9,)), with_answer(row, (9,))]
    assert_right(llama, [rows], score_levels(llama, [rows])[0])


def test_levels_that_share_nothing(llama):
    r = generator("apart")
    levels = [[Row(tuple(r.randrange(2, 256) for _ in range(12)), ((8, 12),)) for _ in range(3)] for _ in range(2)]
    assert shared_lengths(levels) == [0, 0]
    assert_right(llama, levels, score_levels(llama, levels)[0])


def test_only_the_last_answer_counts(llama):
    [[row]] = levels_of((30,), queries=1, options=1)
    more = replace(row, answers=((3, 5), (9, 12), *row.answers))
    assert score_rows(llama, [more]) == score_rows(llama, [row])
    assert score_levels(llama, [[more]]) == score_levels(llama, [[row]])


def test_tokens_behind_the_answer_change_nothing(llama):
    [rows] = levels_of((30,))
    longer = [replace(row, ids=(*row.ids, 3, 4)) for row in rows]
    assert score_levels(llama, [longer]) == score_levels(llama, [rows])


def test_the_value_of_padding_changes_nothing(model):
    [level] = levels_of((30,))
    zeros, others = ([s.log_likelihood for s in score_rows(model, level, pad_id=pad)] for pad in (0, 77))
    assert zeros == pytest.approx(others, abs=1e-5)


def test_nothing_is_asked(llama):
    assert list(Scorer(llama).score([])) == []
    assert score_rows(llama, []) == []


# --- Greedy decoding


def test_exact_is_what_greedy_decoding_writes(model):
    rows = levels_of((0, 30), queries=2, options=1)
    rows = [[with_answer(row, greedy(model, row)) for row in level] for level in rows]
    found, _ = score_levels(model, rows)
    for level, scores in zip(rows, found, strict=True):
        for row, score in zip(level, scores, strict=True):
            assert score.exact
            assert score.written == row.ids[slice(*row.answers[-1])]


def test_written_ends_with_the_first_token_that_greedy_decoding_writes_otherwise(model):
    [[row]] = levels_of((30,), queries=1, options=1)
    right = greedy(model, with_answer(row, (1, 2, 3, 4, 5)))
    wrong = [(*right[:place], (right[place] + 1) % 256, *right[place + 1 :]) for place in range(5)]
    [scores], _ = score_levels(model, [[with_answer(row, answer) for answer in wrong]])
    assert not any(score.exact for score in scores)
    assert [score.written for score in scores] == [right[: place + 1] for place in range(5)]


def test_exact_equals_greedy_decoding_on_the_bundled_model(mini, mini_levels):
    found, _ = score_levels(mini, mini_levels)
    exact = []
    for level, scores in zip(mini_levels, found, strict=True):
        for row, score in zip(level, scores, strict=True):
            written = greedy(mini, row)
            assert score.exact == (written == row.ids[slice(*row.answers[-1])])
            assert score.written == written[: len(score.written)]
            exact.append(score.exact)
    assert True in exact
    assert False in exact


# --- What is computed


def test_neither_a_context_nor_a_query_is_computed_twice(llama):
    levels = levels_of(queries=4, options=3)
    one = Scorer(llama)
    assert one.shares
    with passes(llama) as (done, _):
        found = list(one.score(levels))
    lengths = shared_lengths(levels)
    needed = [len(own_prefixes(rows, length)) for rows, length in zip(levels, lengths, strict=True)]
    assert max(needed) <= scorer.TREE_NODES["cpu"]  # so that one tree holds all rows of a level
    assert sum(ids.numel() for ids in done) == lengths[-1] + sum(needed)
    assert sum(ids.numel() for ids in done) < sum(len(row.ids) for rows in levels for row in rows) / 3
    assert_right(llama, levels, found)


def test_only_what_predicts_an_answer_reaches_the_head(llama):
    levels = levels_of()
    one = Scorer(llama)
    assert one.shares
    seen = []
    handle = llama.get_output_embeddings().register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape[:-1].numel())
    )
    try:
        list(one.score(levels))
        list(map(one.score_rows, levels))
    finally:
        handle.remove()
    trees, whole = [], []
    for rows, length in zip(levels, shared_lengths(levels), strict=True):
        trees.append(len({row.ids[:place] for row in rows for place in range(*row.answers[-1])}))
        whole.append(sum(end - start for row in rows for start, end in row.answers))
        if length:
            trees.insert(-1, 1)  # a context's last token, which nothing reads
    assert seen[: len(trees)] == trees
    assert sum(seen[len(trees) :]) == sum(whole)


@pytest.mark.parametrize("name", ["llama", "bloom"])
def test_a_level_is_computed_only_when_it_is_wanted(name):
    model, levels = ARCHITECTURES[name](), levels_of((9, 30))
    one = Scorer(model)
    assert one.shares == (name == "llama")
    found = one.score(levels)
    with passes(model) as (done, _):
        first = next(found)
    with passes(model) as (alone, _):
        list(one.score(levels[:1]))
    assert sum(ids.numel() for ids in done) <= sum(ids.numel() for ids in alone)
    assert_right(model, levels, [first, *found])


@pytest.mark.parametrize("budget", [1, 30])
def test_small_trees_give_the_same_numbers(llama, monkeypatch, budget):
    levels = levels_of()
    monkeypatch.setitem(scorer.TREE_NODES, "cpu", budget)
    one = Scorer(llama)
    assert one.shares
    with passes(llama) as (done, _):
        found = list(one.score(levels))
    own = [len(row.ids) - length for level, length in zip(levels, shared_lengths(levels), strict=True) for row in level]
    assert len(done) > 2 * len(levels)
    assert all(ids.shape[0] == 1 for ids in done)
    assert all(ids.numel() <= max(budget, *own, 40) for ids in done)  # a part of the context holds up to 40
    assert_right(llama, levels, found)


def test_small_batches_of_whole_rows_give_the_same_numbers(llama, monkeypatch):
    [level] = levels_of((70,))
    monkeypatch.setattr(scorer, "BATCH_TOKENS", 200)
    with passes(llama) as (done, _):
        found = score_rows(llama, level)
    assert all(ids.numel() <= 200 for ids in done)
    assert 1 < len(done) < len(level)
    assert_right(llama, [level], [found])


# --- Where nothing can be shared


def test_an_attention_that_leaves_a_mask_of_its_own_aside_is_found_out():
    model, levels = ARCHITECTURES["llama"](), levels_of()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"attention_mask": None}), with_kwargs=True
    )
    found, shares = score_levels(model, levels)
    assert not shares
    assert_right(model, levels, found)


def test_masks_by_the_index_of_a_key_are_left_alone():
    """GPT-Neo's local layers see 256 keys by their index; nodes of a tree stand elsewhere than their positions."""
    config = GPTNeoConfig(
        vocab_size=256, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
        window_size=256, max_position_embeddings=512, bos_token_id=1, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPTNeoForCausalLM(config).eval()
    levels = levels_of((0, 300), queries=12)
    found, shares = score_levels(model, levels)
    assert not shares
    assert_right(model, levels, found)


def test_a_bias_that_matters_at_a_distance_alone_is_found_out():
    """As that of ALiBi, of which a short probe sees nothing in few bits."""
    model = ARCHITECTURES["llama"]()

    def far_apart(module, args, kwargs):
        ids = kwargs.get("position_ids")
        return args, kwargs if ids is None or ids.max() < 100 else kwargs | {"position_ids": ids.sort().values}

    model.register_forward_pre_hook(far_apart, with_kwargs=True)
    assert not score_levels(model, levels_of())[1]


@pytest.mark.parametrize("share", [True, False])
def test_a_model_that_gives_all_logits_is_read_at_the_right_places(share):
    """As xLSTM, which takes `logits_to_keep` and ignores it."""
    model, levels = ARCHITECTURES["llama"](), levels_of()
    model.register_forward_pre_hook(
        lambda module, args, kwargs: (args, kwargs | {"logits_to_keep": 0}), with_kwargs=True
    )
    found = score_levels(model, levels)[0] if share else [score_rows(model, rows) for rows in levels]
    assert_right(model, levels, found)


def test_a_cache_that_holds_something_else_is_left_alone(monkeypatch):
    model, levels = ARCHITECTURES["llama"](), levels_of()

    class State:
        """Not keys and values."""

    class Cache(DynamicCache):
        def __init__(self, config):
            super().__init__(config=config)
            self.layers[1] = State()

    monkeypatch.setattr(scorer, "DynamicCache", Cache)
    found, shares = score_levels(model, levels)
    assert not shares
    assert_right(model, levels, found)


def long_rope(original):
    factors = {"short_factor": [1.0] * (HEAD_DIM // 2), "long_factor": [4.0] * (HEAD_DIM // 2)}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": original, "factor": 8.0}
    limits = {"original_max_position_embeddings": original, "max_position_embeddings": 8 * original}
    return built("phi3", {"pad_token_id": 0, "rope_parameters": rope | factors, **limits})


def test_positions_that_long_prompts_turn_otherwise_are_not_shared_with_short_ones():
    model, levels = long_rope(original=32), levels_of()
    one = Scorer(model)
    short = levels[:1]
    assert_right(model, short, list(one.score(short)))
    assert one.shares
    found = list(one.score(levels))
    assert not one.shares
    assert_right(model, levels, found)
    mixed = [row for rows in levels for row in rows]  # short and long in one call
    assert_right(model, [mixed], [one.score_rows(mixed)])


# --- Memory


def test_what_does_not_fit_the_memory_is_halved_and_nothing_is_computed_again(llama):
    levels = levels_of(queries=8, options=1)
    one = Scorer(llama)
    assert one.shares
    with passes(llama, most=25) as (done, refused):
        found = list(one.score(levels))
    assert_right(llama, levels, found)
    lengths = shared_lengths(levels)
    needed = [len(own_prefixes(rows, length)) for rows, length in zip(levels, lengths, strict=True)]
    most = sum(len(row.ids) - n - 1 for rows, n in zip(levels, lengths, strict=True) for row in rows)
    assert lengths[-1] + sum(needed) <= sum(ids.numel() for ids in done) <= lengths[-1] + most < 1.01 * sum(needed) + 70
    assert 2 <= len(refused) <= 6  # 100 and more nodes, and 40 tokens of context: what was learnt is kept
    assert sum(ids.numel() == 1 for ids in done) <= 1  # of context, at the first level: parts are halves
    with passes(llama, most=25) as (_, refused):
        list(one.score(levels))
    assert refused == []


def test_whole_rows_that_do_not_fit_the_memory_are_halved_and_none_is_computed_again(llama):
    rows = [row for level in levels_of(queries=8, options=1) for row in level]
    one = Scorer(llama)
    with passes(llama, most=220) as (done, refused):
        found = one.score_rows(rows)
    assert_right(llama, [rows], [found])
    computed = [tuple(ids) for batch in done for ids in batch.tolist()]
    assert len(computed) == len(rows)
    for row in rows:
        assert any(ids[: row.answers[-1][1] - 1] == row.ids[: row.answers[-1][1] - 1] for ids in computed)
    sizes = [ids.numel() for ids in refused]
    assert sizes
    assert all(b <= max(a // 2, 100) for a, b in pairwise(sizes))


@pytest.mark.parametrize("at", range(6))
def test_what_is_done_when_the_memory_ends_stays_done(llama, monkeypatch, at):
    levels = levels_of((30, 70), queries=6, options=1)
    monkeypatch.setitem(scorer.TREE_NODES, "cpu", 40)
    monkeypatch.setattr(scorer, "BATCH_TOKENS", 200)
    one = Scorer(llama)
    assert one.shares
    with passes(llama, at=at) as (done, refused):
        found = list(one.score(levels))
    assert_right(llama, levels, found)
    assert len(refused) == 1
    lengths = shared_lengths(levels)
    own = [len(row.ids) - n - 1 for rows, n in zip(levels, lengths, strict=True) for row in rows]
    assert sum(ids.numel() for ids in done) == lengths[-1] + sum(own)
    whole = [row for rows in levels for row in rows]
    with passes(llama, at=min(at, 4)) as (done, refused):
        found = one.score_rows(whole)
    assert_right(llama, [whole], [found])
    assert len(refused) == 1
    assert sum(ids.shape[0] for ids in done) == len(whole)


def test_a_batch_of_short_rows_is_halved_even_where_a_row_is_longer_than_any_batch(llama, monkeypatch):
    rows = [row for level in levels_of((0, 70), queries=3, options=1) for row in level]
    monkeypatch.setattr(scorer, "BATCH_TOKENS", 60)

    def single(module, args, kwargs):
        if kwargs["input_ids"].shape[0] > 1:
            raise torch.OutOfMemoryError("two rows")

    handle = llama.register_forward_pre_hook(single, with_kwargs=True)
    try:
        found = score_rows(llama, rows)
    finally:
        handle.remove()
    assert_right(llama, [rows], [found])


def test_a_pass_that_fails_half_way_leaves_no_trace_in_the_context():
    model, levels = ARCHITECTURES["gemma2"](), levels_of()
    one = Scorer(model)
    assert one.shares

    def before(module, args, kwargs):
        if args[0].shape[1] > 18:
            raise torch.OutOfMemoryError("no memory")

    # After the first layer has put its keys and values into the cache.
    handle = model.model.layers[1].register_forward_pre_hook(before, with_kwargs=True)
    try:
        levels = [
            [row for row in rows if len(row.ids) - n < 18] for rows, n in zip(levels, (0, 9, 30, 70), strict=True)
        ]
        found = list(one.score(levels))
    finally:
        handle.remove()
    assert_right(model, levels, found)


def test_a_row_that_does_not_fit_the_memory_is_an_error(llama):
    levels = levels_of((30,))
    one = Scorer(llama)
    assert one.shares
    for ask in (lambda: list(one.score(levels)), lambda: one.score_rows(levels[0])):
        with passes(llama, most=4), pytest.raises(RunError, match="does not hold a single prompt"):
            ask()
    with passes(llama, most=0), pytest.raises(RunError, match="does not hold a single prompt"):
        list(Scorer(llama).score(levels))


def test_an_error_that_is_not_about_memory_is_not_swallowed(llama):
    levels = levels_of((30,))
    one = Scorer(llama)
    assert one.shares
    for ask in (lambda: list(one.score(levels)), lambda: one.score_rows(levels[0])):
        with passes(llama, most=0, refuse=RuntimeError), pytest.raises(RuntimeError, match="no memory"):
            ask()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_an_error(value):
    model = ARCHITECTURES["qwen2"]()
    one = Scorer(model)
    assert one.shares
    model.get_output_embeddings().register_forward_hook(lambda layer, inputs, logits: torch.full_like(logits, value))
    with pytest.raises(RunError, match="NaN or infinite logits"):
        list(one.score(levels_of((0,))))
    with pytest.raises(RunError, match="NaN or infinite logits"):
        score_levels(model, levels_of((0,)))


# --- Contexts


ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=2, max_size=12), st.integers(1, 11)), min_size=1, max_size=4
)


@settings(max_examples=300)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_shared_lengths_are_nested_common_prefixes_that_leave_a_token_before_each_answer(drawn):
    levels = [[Row(tuple(ids), ((min(start, len(ids) - 1), len(ids)),)) for ids, start in rows] for rows in drawn]
    lengths = shared_lengths(levels)
    following = [*lengths[1:], None]
    for i, (rows, length) in enumerate(zip(levels, lengths, strict=True)):
        assert length >= 0
        assert len({row.ids[:length] for row in rows}) == 1
        assert all(length <= row.answers[-1][0] - 1 for row in rows)
        if following[i] is not None:
            assert length <= following[i]
            assert levels[i + 1][0].ids[:length] == rows[0].ids[:length]
        # One token more would break one of these.
        longer = length + 1
        limit = min(row.answers[-1][0] - 1 for row in rows)
        if longer <= limit and (following[i] is None or longer <= following[i]):
            heads = (
                {row.ids[:longer] for row in (*rows, *levels[i + 1][:1])}
                if following[i] is not None
                else {row.ids[:longer] for row in rows}
            )
            assert len(heads) > 1
