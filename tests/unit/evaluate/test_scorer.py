from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES
from transformers import GenerationConfig

from keepshot.episodes import demonstration_set
from keepshot.errors import RunError
from keepshot.evaluate import scorer
from keepshot.evaluate.scorer import score_levels, score_rows, shared_lengths
from keepshot.keys import generator
from keepshot.models.load import load_model, load_tokenizer
from keepshot.prompts import PLAIN, Row, encode
from keepshot.tasks.builtin import builtin_suite

CONTEXTS = (0, 9, 30, 70)
"""Shared tokens of each level after the first token: within, and well beyond, the 16 that a sliding layer sees."""


def levels_of(contexts=CONTEXTS, rows=4):
    """Rows of random tokens by level; the queries and answers of a level differ in length."""
    r = generator("rows")

    def tokens(count):
        return tuple(r.randrange(2, 256) for _ in range(count))

    shown = tokens(1 + max(contexts))
    levels = []
    for context in contexts:
        queries = [(shown[: context + 1], tokens(r.randint(1, 20)), tokens(r.randint(1, 6))) for _ in range(rows)]
        levels.append([Row((*c, *q, *a), ((len(c + q), len(c + q + a)),)) for c, q, a in queries])
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
    """What the model writes in place of the last answer."""
    start, end = row.answers[-1]
    ids = torch.tensor([row.ids[:start]])
    settings = GenerationConfig(max_new_tokens=end - start, do_sample=False, eos_token_id=None, pad_token_id=0)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    return tuple(written[0, start:].tolist())


def with_answer(row, answer):
    start, _ = row.answers[-1]
    return Row((*row.ids[:start], *answer), (*row.answers[:-1], (start, start + len(answer))))


def likelihoods(levels):
    return [[score.log_likelihood for score in level] for level in levels]


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


def test_levels_rows_and_plain_forward_passes_agree(model):
    levels = levels_of()
    found, shared = score_levels(model, levels)
    assert shared
    for level, rows in zip(levels, found, strict=True):
        expected = [reference(model, row) for row in level]
        assert [score.log_likelihood for score in rows] == pytest.approx(expected, abs=1e-4)
        assert [score.log_likelihood for score in score_rows(model, level)] == pytest.approx(expected, abs=1e-4)
        assert [score.num_tokens for score in rows] == [end - start for row in level for start, end in row.answers]


def test_levels_agree_with_plain_forward_passes_on_the_bundled_model(mini, mini_levels):
    found, shared = score_levels(mini, mini_levels)
    assert shared
    assert shared_lengths(mini_levels)[-1] > 30
    for level, rows in zip(mini_levels, found, strict=True):
        assert [score.log_likelihood for score in rows] == pytest.approx(
            [reference(mini, row) for row in level], abs=1e-4
        )


def test_exact_is_what_greedy_decoding_writes(model):
    rows = levels_of((0, 30), rows=2)
    rows = [[with_answer(row, greedy(model, row)) for row in level] for level in rows]
    found, _ = score_levels(model, rows)
    for level, scores in zip(rows, found, strict=True):
        for row, score in zip(level, scores, strict=True):
            assert score.exact
            assert score.written == row.ids[slice(*row.answers[-1])]


def test_written_ends_with_the_first_token_that_greedy_decoding_writes_otherwise(model):
    [row] = levels_of((30,), rows=1)[0]
    row = with_answer(row, (1, 2, 3, 4, 5))
    right = greedy(model, row)
    for place in range(5):
        wrong = (*right[:place], (right[place] + 1) % 256, *right[place + 1 :])
        [[score]], _ = score_levels(model, [[with_answer(row, wrong)]])
        assert not score.exact
        assert score.written == right[: place + 1]


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


def test_rows_of_one_level_come_back_in_their_order(llama):
    [level] = levels_of((30,), rows=9)
    straight, backwards = (score_levels(llama, [rows])[0][0] for rows in (level, level[::-1]))
    assert [s.num_tokens for s in straight] == [s.num_tokens for s in backwards[::-1]]
    expected = [s.log_likelihood for s in backwards[::-1]]
    assert [s.log_likelihood for s in straight] == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 3) for value in expected}) == 9


def test_the_value_of_padding_changes_nothing(model):
    levels = levels_of()
    zeros, others = (score_levels(model, levels, pad_id=pad)[0] for pad in (0, 77))
    for some, more in zip(likelihoods(zeros), likelihoods(others), strict=True):
        assert some == pytest.approx(more, abs=1e-5)


@pytest.mark.parametrize("bound", ["BATCH_TOKENS", "CACHED_TOKENS"])
def test_small_batches_give_the_same_numbers(llama, monkeypatch, bound):
    levels = levels_of(rows=7)
    expected = likelihoods(score_levels(llama, levels)[0])
    batches = []
    answer_logits = scorer._answer_logits
    monkeypatch.setattr(
        scorer,
        "_answer_logits",
        lambda model, ids, *rest: batches.append(ids.shape) or answer_logits(model, ids, *rest),
    )
    monkeypatch.setattr(scorer, bound, 100)
    for some, more in zip(likelihoods(score_levels(llama, levels)[0]), expected, strict=True):
        assert some == pytest.approx(more, abs=1e-4)
    assert len(batches) > len(levels)
    assert all(len(shape) == 1 or shape.numel() <= 100 for shape in batches)


def test_the_shared_context_is_computed_once(llama, monkeypatch):
    computed = []
    forward = llama.forward
    monkeypatch.setattr(
        llama,
        "forward",
        lambda *args, **settings: computed.append(settings["input_ids"].shape) or forward(*args, **settings),
    )
    levels = levels_of((30, 70), rows=3)
    score_levels(llama, levels)
    contexts = [shape[1] for shape in computed if shape[0] == 1]
    assert sum(contexts) >= 70
    own = [len(row.ids) - length for level, length in zip(levels, shared_lengths(levels), strict=True) for row in level]
    assert sum(shape.numel() for shape in computed) <= sum(contexts) + 2 * 3 * max(own)
    assert len(computed) == 4


def test_where_a_cache_cannot_be_forked_rows_are_computed_whole(llama, monkeypatch):
    levels = levels_of()
    expected = likelihoods(score_levels(llama, levels)[0])
    monkeypatch.setattr(scorer, "FORKABLE_LAYERS", ())
    found, shared = score_levels(llama, levels)
    assert not shared
    for some, more in zip(likelihoods(found), expected, strict=True):
        assert some == pytest.approx(more, abs=1e-4)


def test_levels_that_share_nothing(llama):
    r = generator("apart")
    levels = [[Row(tuple(r.randrange(2, 256) for _ in range(12)), ((8, 12),)) for _ in range(3)] for _ in range(2)]
    assert shared_lengths(levels) == [0, 0]
    for level, scores in zip(levels, likelihoods(score_levels(llama, levels)[0]), strict=True):
        assert scores == pytest.approx([reference(llama, row) for row in level], abs=1e-4)


def test_only_the_last_answer_counts(llama):
    [row] = levels_of((30,), rows=1)[0]
    more = replace(row, answers=((3, 5), (9, 12), *row.answers))
    assert score_rows(llama, [more]) == score_rows(llama, [row])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_are_an_error(value):
    model = ARCHITECTURES["qwen2"]()
    model.get_output_embeddings().register_forward_hook(lambda layer, inputs, logits: torch.full_like(logits, value))
    with pytest.raises(RunError, match="NaN or infinite logits"):
        score_levels(model, levels_of((0,)))


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
