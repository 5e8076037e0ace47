"""Patching finds a circuit that was planted, and only it; everything patched at once is the whole model."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES
from transformers import GPT2Config, GPT2LMHeadModel

from keepshot.errors import DataError, ModelError
from keepshot.models.load import peft_warnings
from keepshot.probes.circuit_shift import noise_floor, normalised, scores, shift
from keepshot.probes.patching import Component, Pair, Patched, components, patch

TOKENS, PLACES, HEADS = 8, 16, 4
WIDTH = 3 * TOKENS + PLACES  # token | place | token before | what is said
SHARP = 60.0
FAMILIES = ("llama", "gpt2", "gpt_neox", "phi3", "gemma3", "opt", "qwen2")


def planted() -> GPT2LMHeadModel:
    """Two layers of four heads, all silent but two: head 0.1 looks one token back, head 1.2 is an induction head.

    Head 0.1 writes the token before into a part of the stream of its own; head 1.2 looks for where the token before
    equals the present token and says the token there.
    """
    config = GPT2Config(
        vocab_size=TOKENS, n_positions=PLACES, n_embd=2 * WIDTH, n_layer=2, n_head=HEADS, n_inner=8,
        tie_word_embeddings=False, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
        bos_token_id=None, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    size = 2 * WIDTH // HEADS
    token, place, before, said = 0, TOKENS, TOKENS + PLACES, 2 * TOKENS + PLACES
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in [block_norm for block in model.transformer.h for block_norm in (block.ln_1, block.ln_2)]:
            norm.weight.fill_(1)
        model.transformer.ln_f.weight.fill_(1)
        # Every number stands there twice, once with the other sign: the mean is 0, so that norms only scale.
        for start, count, table in ((token, TOKENS, model.transformer.wte), (place, PLACES, model.transformer.wpe)):
            for one in range(count):
                table.weight[one, start + one], table.weight[one, WIDTH + start + one] = 1.0, -1.0

        def write(layer: int, head: int, part: int, pairs: list[tuple[int, int]], weight: float) -> None:
            """A head's query (0), key (1) or value (2): from numbers of the stream to its own."""
            matrix = model.transformer.h[layer].attn.c_attn.weight
            for source, goal in pairs:
                matrix[source, part * 2 * WIDTH + head * size + goal] = weight

        def read(layer: int, head: int, start: int) -> None:
            matrix = model.transformer.h[layer].attn.c_proj.weight
            for one in range(TOKENS):
                matrix[head * size + one, start + one], matrix[head * size + one, WIDTH + start + one] = 1.0, -1.0

        write(0, 1, 0, [(place + one, one - 1) for one in range(1, PLACES)], SHARP)
        write(0, 1, 1, [(place + one, one) for one in range(PLACES)], SHARP)
        write(0, 1, 2, [(token + one, one) for one in range(TOKENS)], 1.0)
        read(0, 1, before)
        write(1, 2, 0, [(token + one, one) for one in range(TOKENS)], SHARP)
        write(1, 2, 1, [(before + one, one) for one in range(TOKENS)], SHARP)
        write(1, 2, 2, [(token + one, one) for one in range(TOKENS)], 1.0)
        read(1, 2, said)
        for one in range(TOKENS):
            model.lm_head.weight[one, said + one] = 1.0
    return model


# ... A B ... A: B. Corrupt: the first A is another token, so that nothing says what follows A.
PAIRS = [
    Pair((3, 1, 2, 4, 0, 1), (3, 5, 2, 4, 0, 1), 0, right=2, wrong=4),
    Pair((6, 0, 7, 3, 2, 0), (6, 4, 7, 3, 2, 0), 0, right=7, wrong=3),
    Pair((5, 4, 4, 6, 1, 0, 5), (2, 4, 4, 6, 1, 0, 5), 0, right=4, wrong=6),
]


def test_the_planted_model_repeats_what_followed() -> None:
    model = planted()
    for pair in PAIRS:
        said = model(input_ids=torch.tensor([pair.clean])).logits[0, -1]
        assert int(said.argmax()) == pair.right


def test_the_planted_circuit_is_found_and_nothing_else() -> None:
    found = patch(planted(), PAIRS)
    assert len(found.components) == 2 * (HEADS + 1)
    circuit = {Component(0, 1), Component(1, 2)}
    for component, effects in zip(found.components, found.effects, strict=True):
        if component in circuit:
            assert effects.min() > 0.9
        else:
            assert effects.abs().max() < 1e-6
    assert torch.allclose(found.whole, torch.ones(3), atol=1e-3)
    assert bool((found.clean > found.corrupt + 0.5).all())
    assert scores(found, "MLPs") == {Component(0): pytest.approx(0, abs=1e-6), Component(1): pytest.approx(0, abs=1e-6)}


def test_what_stands_before_the_query_is_left() -> None:
    """The first head's part is done at the token behind A: a patch that begins later cannot reach it."""
    later = [Pair(pair.clean, pair.corrupt, len(pair.clean) - 1, pair.right, pair.wrong) for pair in PAIRS]
    found = dict(zip(patch(planted(), later).components, patch(planted(), later).effects, strict=True))
    assert found[Component(0, 1)].abs().max() < 1e-6
    assert found[Component(1, 2)].min() > 0.9


def random_pairs(count: int = 6) -> list[Pair]:
    draw = torch.Generator().manual_seed(3)
    pairs = []
    for number in range(count):
        clean = torch.randint(2, 256, (12 + number % 2,), generator=draw).tolist()
        corrupt = list(clean)
        corrupt[5] = (clean[5] + 7) % 250 + 2
        pairs.append(Pair(tuple(clean), tuple(corrupt), 2, right=10, wrong=20))
    return pairs


@pytest.mark.parametrize("family", FAMILIES)
def test_all_components_at_once_are_the_whole(family: str) -> None:
    model = ARCHITECTURES[family]()
    found = patch(model, random_pairs(), chosen=components(model)[:3], batch=2)
    assert len(components(model)) == 2 * (4 + 1)
    assert torch.allclose(found.whole, torch.ones(6), atol=1e-3)
    again = patch(model, random_pairs(), chosen=components(model)[:3], batch=64)
    assert torch.allclose(found.effects, again.effects, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_pairs_begin_with_is_computed_once_and_nothing_changes(family: str) -> None:
    """A pair that differs in its first token leaves its batch nothing to share."""
    model = ARCHITECTURES[family]()
    pairs = random_pairs(3)[::2]
    apart = Pair((9, *pairs[0].clean[1:]), (4, *pairs[0].clean[1:]), 0, right=10, wrong=20)
    alone, together = patch(model, pairs), patch(model, [*pairs, apart])
    assert torch.allclose(alone.effects, together.effects[:, :2], atol=1e-3)
    for name in ("clean", "corrupt"):
        assert torch.allclose(getattr(alone, name), getattr(together, name)[:2], atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapters_stay_in_place(family: str) -> None:
    torch.manual_seed(0)
    targets = ["q_proj", "o_proj", "down_proj"] if family == "llama" else ["c_attn", "c_proj"]
    lora = LoraConfig(r=2, target_modules=targets, init_lora_weights=False, fan_in_fan_out=family == "gpt2")
    with peft_warnings():
        tuned = get_peft_model(ARCHITECTURES[family](), lora).eval()
    pairs = random_pairs()
    adapted = patch(tuned, pairs)
    with peft_warnings():
        whole = tuned.merge_and_unload()
    merged = patch(whole, pairs)
    assert adapted.components == merged.components
    assert torch.allclose(adapted.whole, torch.ones(6), atol=1e-3)
    assert torch.allclose(adapted.effects, merged.effects, atol=2e-3)


def test_a_silent_head_has_no_effect() -> None:
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.model.layers[1].self_attn.o_proj.weight[:, 8:16] = 0
    found = patch(model, random_pairs())
    assert scores(found, "heads")[Component(1, 1)] < 1e-6
    assert scores(found, "heads")[Component(1, 0)] > 1e-4


def test_shifts() -> None:
    model, pairs = ARCHITECTURES["qwen2"](), random_pairs()
    first = patch(model, pairs)
    for which in ("heads", "MLPs"):
        itself = shift(first, patch(model, pairs), which)  # type: ignore[arg-type]
        assert itself.l1 == pytest.approx(0, abs=1e-6)
        assert itself.jaccard == (0, 0)
        assert itself.rank == pytest.approx(0, abs=1e-6)
    assert 0 < noise_floor(first).l1 < 1
    # All effect in one head against all in another: as far apart as can be.
    apart = [_concentrated(first.components, head) for head in (0, 3)]
    assert shift(*apart).l1 == pytest.approx(1)
    assert shift(*apart).jaccard == (1, 1)
    assert shift(apart[0], apart[0]).l1 == 0


def test_pairs_that_nothing_tells_apart_do_not_decide() -> None:
    """m divides by the span: a pair with hardly any has effects of any size, and hardly a part in the scores."""
    every = (Component(0, 0), Component(0, 1), Component(0))
    effects = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 500.0], [0.0, 0.0, 0.0]])
    found = Patched(every, effects, torch.tensor([2.0, 2.0, 1e-4]), torch.zeros(3), torch.ones(3))
    assert normalised(found, "heads") == {every[0]: pytest.approx(4 / 4.05), every[1]: pytest.approx(0.05 / 4.05)}
    assert normalised(found, "MLPs") == {every[2]: 1}


def test_the_noise_floor_is_what_halves_of_one_state_rarely_exceed() -> None:
    every = tuple(Component(0, head) for head in range(16))
    ones, noise = torch.ones(16, 40), torch.rand(16, 40, generator=torch.Generator().manual_seed(0))
    steady, noisy = (Patched(every, e, torch.ones(40), torch.zeros(40), torch.ones(40)) for e in (ones, ones + noise))
    assert noise_floor(steady).l1 == pytest.approx(0, abs=1e-6)
    assert 0.01 < noise_floor(noisy, splits=1).l1 <= noise_floor(noisy).l1 < 0.1


def _concentrated(every: tuple[Component, ...], head: int) -> Patched:
    effects = torch.tensor([[float(component.head == head and component.layer == 0)] * 2 for component in every])
    return Patched(every, effects, torch.ones(2), torch.zeros(2), torch.ones(2))


def test_what_cannot_be_patched() -> None:
    with pytest.raises(DataError, match="as many tokens"):
        Pair((1, 2), (1, 2, 3), 0, 4, 5)
    with pytest.raises(DataError, match="end with the same one"):
        Pair((1, 2), (1, 3), 0, 4, 5)
    with pytest.raises(DataError, match="begins at token 2 of 2"):
        Pair((1, 2), (3, 2), 2, 4, 5)
    model = ARCHITECTURES["llama"]()
    with pytest.raises(DataError, match="no pairs"):
        patch(model, [])
    still = Pair((5, 6, 7), (5, 6, 7), 0, 4, 8)
    with pytest.raises(DataError, match="nothing can be restored"):
        patch(model, [still])
    both = patch(model, [still, Pair((5, 6, 7), (9, 6, 7), 0, 4, 8)])
    assert float(both.effects[:, 0].abs().max()) == 0  # a pair that nothing moves has no part in the scores
    alone = patch(model, [Pair((5, 6, 7), (9, 6, 7), 0, 4, 8)])
    assert scores(both, "heads") == pytest.approx(scores(alone, "heads"), rel=1e-3)
    with pytest.raises(ModelError, match="'bloom' has no roles"):
        patch(ARCHITECTURES["bloom"](), random_pairs())
    one = patch(model, random_pairs(1))
    with pytest.raises(DataError, match="at least 2 pairs"):
        noise_floor(one)
    with pytest.raises(DataError, match="different components"):
        shift(one, patch(model, random_pairs(1), chosen=one.components[:2]))
