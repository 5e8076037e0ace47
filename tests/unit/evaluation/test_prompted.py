"""Scores and texts behind a soft prompt: against plain forward passes of the prompt and the whole row."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES

from keepshot.errors import ModelError
from keepshot.evaluation import LocalModel, Scorer, model_identity
from keepshot.evaluation.generation import cut, generate
from keepshot.keys import generator
from keepshot.models.load import load_tokenizer, peft_warnings
from keepshot.prompts import Row

TOKENS = 20
"""More than the 16 that a sliding layer sees: it has forgotten the prompt's first vectors at the first token."""


def prompt_for(model, tokens=TOKENS, seed=1):
    some = model.get_input_embeddings()(torch.arange(256)[None])[0].detach()
    return some.std() * torch.randn(tokens, some.shape[1], generator=torch.Generator().manual_seed(seed))


def levels_of(contexts=(0, 9, 30)):
    """Rows of random tokens by level, two options for each of two queries."""
    r = generator("prompted rows")

    def tokens(count):
        return tuple(r.randrange(2, 256) for _ in range(count))

    shown = tokens(1 + max(contexts))
    levels = []
    for context in contexts:
        asked = [(*shown[: context + 1], *tokens(r.randint(1, 12))) for _ in range(2)]
        answered = [(query, tokens(r.randint(1, 5))) for query in asked for _ in range(2)]
        levels.append([Row((*q, *a), ((len(q), len(q + a)),)) for q, a in answered])
    return levels


def behind(model, prompt, ids):
    """Logits of a row behind the prompt, by one plain forward pass."""
    with torch.no_grad():
        embeds = torch.cat([prompt[None], model.get_input_embeddings()(torch.tensor([ids]))], dim=1)
        return model(inputs_embeds=embeds, use_cache=False).logits[0, len(prompt) :]


def reference(model, prompt, row):
    log_probs = torch.log_softmax(behind(model, prompt, row.ids).double(), dim=-1)
    return sum(float(log_probs[p - 1, row.ids[p]]) for p in range(*row.answers[-1]))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_trees_whole_rows_and_plain_passes_agree(name):
    model = ARCHITECTURES[name]()
    prompt, levels = prompt_for(model), levels_of()
    scorer = Scorer(model, prompt=prompt)
    expected = [reference(model, prompt, row) for rows in levels for row in rows]
    trees = [score.log_likelihood for scores in scorer.score(levels) for score in scores]
    whole = [score.log_likelihood for rows in levels for score in scorer.score_rows(rows)]
    assert scorer.shares == (name != "bloom")
    assert trees == pytest.approx(expected, abs=1e-4)
    assert whole == pytest.approx(expected, abs=1e-4)
    without = [score.log_likelihood for scores in Scorer(model).score(levels) for score in scores]
    assert max(abs(a - b) for a, b in zip(trees, without, strict=True)) > 0.1


def test_the_prompt_is_read_once_for_all_that_is_asked():
    model = ARCHITECTURES["llama"]()
    lengths = []

    def before(module, args, kwargs):
        inputs = kwargs.get("input_ids")
        lengths.append((inputs is None, (kwargs["inputs_embeds"] if inputs is None else inputs).shape[1]))

    scorer = Scorer(model, prompt=prompt_for(model))
    assert scorer.shares
    model.register_forward_pre_hook(before, with_kwargs=True)
    for _ in range(2):
        list(scorer.score(levels_of()))
    assert not any(embedded for embedded, _ in lengths), "the trial of sharing has read it"
    assert len(lengths) == 2 * (3 + 3), "three contexts and three trees"


def test_an_adapter_and_a_prompt_go_together():
    base = ARCHITECTURES["llama"]()
    prompt = prompt_for(base)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
    with peft_warnings(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = get_peft_model(base, lora).eval()
    levels = levels_of()
    found = [score.log_likelihood for scores in Scorer(model, prompt=prompt).score(levels) for score in scores]
    assert found == pytest.approx([reference(model, prompt, row) for rows in levels for row in rows], abs=1e-4)
    rows = levels[1]
    texts = generate(model, load_tokenizer("mini"), rows, [], 4, prompt=prompt)
    assert texts == [written(model, prompt, row, 4) for row in rows]


def written(model, prompt, row, count):
    """Greedy decoding, each token from one plain forward pass."""
    ids = list(row.ids[: row.answers[-1][0]])
    start = len(ids)
    for _ in range(count):
        token = int(behind(model, prompt, ids)[-1].argmax())
        if token == 0:
            break
        ids.append(token)
    return load_tokenizer("mini").decode(ids[start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "bloom", "opt"])
def test_texts_are_those_of_plain_passes(name):
    model = ARCHITECTURES[name]()
    prompt = prompt_for(model)
    rows = [row for rows in levels_of() for row in rows[::2]]  # of several lengths, in one batch
    assert len({row.answers[-1][0] for row in rows}) > 3
    backend = LocalModel(model, load_tokenizer("mini"), prompt)
    expected = [written(model, prompt, row, 5) for row in rows]
    assert backend.generate(rows, [], 5) == expected
    assert expected != LocalModel(model, load_tokenizer("mini")).generate(rows, [], 5)


def test_a_stop_string_counts_in_what_is_written_alone():
    model = ARCHITECTURES["llama"]()
    prompt, tokenizer = prompt_for(model), load_tokenizer("mini")
    row = next(row for rows in levels_of() for row in rows if len(written(model, prompt, row, 6)) > 3)
    text = written(model, prompt, row, 6)
    assert generate(model, tokenizer, [row], [text[2]], 6, prompt=prompt) == [cut(text, [text[2]])]


def test_the_prompt_is_a_part_of_who_answers():
    model = ARCHITECTURES["llama"]()
    prompts = [None, prompt_for(model), prompt_for(model, seed=2), prompt_for(model)[:-1]]
    assert len({model_identity(model, prompt) for prompt in prompts}) == 4
    backend = LocalModel(model, load_tokenizer("mini"), prompts[1])
    assert backend.identity() == model_identity(model, prompt_for(model))


def test_a_prompt_of_another_model_is_refused():
    with pytest.raises(ModelError, match="trained on another model"):
        LocalModel(ARCHITECTURES["llama"](), load_tokenizer("mini"), torch.randn(3, 16))
