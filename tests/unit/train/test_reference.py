import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from tests.anchored import (
    TWO_KINDS,
    anchored_plan,
    full_step,
    objective_of,
    perturbed,
    row_logits,
    rows_of,
    strategy_loss,
)
from tests.architectures import ARCHITECTURES
from tests.training import few_shot, plan, prepared, target
from transformers import Gemma3Config, LlamaConfig
from transformers.utils import logging

from keepshot.errors import RunError
from keepshot.prompts import Row
from keepshot.strategies import Everything, Lora, Roles, Strategy, StreamSpec, Term, Trainable
from keepshot.strategies.terms import Reference, reference, token_kl
from keepshot.train import (
    PlannedRow,
    ReferenceBank,
    bank_key,
    collate,
    load_bank,
    mean_kl,
    micro_batches,
    reference_bank,
    save_bank,
)
from keepshot.train.reference import _batches

TRAINABLES: dict[str, Trainable] = {"full": Everything(), "value": Roles(roles=("value",)), "lora": Lora(dropout=0.5)}
WHOLE = 256
FIELDS = ("ids", "log_probs", "log_tail")
SMALL = {"kept": 4, "temperature": 1.0, "budget": 500}


@pytest.fixture(scope="module")
def rows() -> list[PlannedRow]:
    """Few-shot rows of several lengths."""
    stream = few_shot()
    found = plan(target(), stream).rows("few-shot", [stream.sampler.draw(index) for index in range(7)])
    assert len({len(row.row.ids) for row in found}) > 3, "rows of one length would hide padding"
    assert all(len(row.scored) > 1 for row in found)
    return found


def test_a_config_of_several_parts_tells_its_padding_by_the_text_s(rows: list[PlannedRow]) -> None:
    """Gemma-3's has no `pad_token_id` of its own; its text's is 0, which no filler may be."""
    short, model = sorted(rows, key=lambda row: len(row.row.ids)), ARCHITECTURES["llama"]()
    for config, filler in ((Gemma3Config(), 1), (LlamaConfig(pad_token_id=5), 0), (LlamaConfig(), 0)):
        model.config = config
        [batch] = _batches(model, short, 100_000)
        assert batch.input_ids[0, len(short[0].row.ids) :].unique().tolist() == [filler]


@pytest.fixture(scope="module")
def bank(rows: list[PlannedRow]) -> ReferenceBank:
    return reference_bank(ARCHITECTURES["llama"](), rows, kept=8, temperature=1.0, budget=200)


def same(one: Reference, other: Reference) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_is_what_the_base_says_before_each_scored_token(rows: list[PlannedRow], temperature: float) -> None:
    model = ARCHITECTURES["llama"]()
    found = reference_bank(model, rows, kept=8, temperature=temperature, budget=200)
    assert found.temperature == temperature
    for row in rows:
        logits, _ = row_logits(model, row)
        expected, mine = reference(logits.detach(), 8, temperature), found.of([row])
        assert torch.equal(mine.ids, expected.ids)
        torch.testing.assert_close(mine.log_probs, expected.log_probs, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.log_tail, expected.log_tail, rtol=1e-5, atol=1e-5)
    tails = torch.cat([found.of([row]).log_tail.exp() for row in rows])
    assert found.mean_tail == pytest.approx(float(tails.mean()))
    assert 0.01 < found.mean_tail < 0.99


@pytest.mark.parametrize("budget", [1, 120, 10_000])
def test_batches_change_nothing(rows: list[PlannedRow], bank: ReferenceBank, budget: int) -> None:
    found = reference_bank(ARCHITECTURES["llama"](), rows[::-1], kept=8, temperature=1.0, budget=budget)
    for row in rows:
        mine, other = found.of([row]), bank.of([row])
        torch.testing.assert_close(mine.log_probs, other.log_probs, rtol=1e-5, atol=1e-5)
        assert (mine.ids == other.ids).float().mean() > 0.99  # but for ties


def test_tokens_come_in_row_order_whatever_the_batch(rows: list[PlannedRow], bank: ReferenceBank) -> None:
    """A batch sorts rows by length; every token must meet its own reference, so that the KL is 0 at each."""
    model = ARCHITECTURES["llama"]()
    lengths = [len(row.row.ids) for row in rows]
    assert lengths != sorted(lengths)
    for order in (rows, rows[::-1], [*rows[3:], *rows[:3], rows[1]]):
        for batch in micro_batches(order, ("few-shot",), budget=250):
            with torch.no_grad():
                logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
            assert token_kl(logits, bank.of(batch.rows)).abs().max() < 1e-6
    taken = bank.of([rows[4], rows[0]])
    first, second = bank.of([rows[4]]), bank.of([rows[0]])
    assert same(taken, Reference(*(torch.cat([getattr(first, n), getattr(second, n)]) for n in FIELDS)))


def test_it_is_asked_without_dropout_and_leaves_the_model_as_it_was(rows: list[PlannedRow]) -> None:
    model = ARCHITECTURES["gpt2"]()  # with dropout of its own
    expected = reference_bank(model, rows, kept=8, temperature=1.0, budget=200)
    model.train()
    state = torch.get_rng_state()
    found = reference_bank(model, rows, kept=8, temperature=1.0, budget=200)
    assert same(found.reference, expected.reference)
    assert mean_kl(model, rows, found, 200) < 1e-6
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    model.eval()
    mean_kl(model, rows, found, 200)
    assert not model.training
    assert not found.reference.log_probs.requires_grad


@pytest.mark.parametrize("trainable", TRAINABLES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_before_the_first_step_every_kl_is_0(name: str, trainable: str, rows: list[PlannedRow]) -> None:
    if (name, trainable) == ("bloom", "value"):
        pytest.skip("bloom has no roles")
    base = reference_bank(ARCHITECTURES[name](), rows[:4], kept=16, temperature=1.0, budget=150)
    trained = prepared(ARCHITECTURES[name](), TRAINABLES[trainable])
    trained.model.train()
    assert abs(mean_kl(trained.model, rows[:4], base, 10_000)) < 1e-6
    assert mean_kl(perturbed(ARCHITECTURES[name]()), rows[:4], base, 10_000) > 1e-3


def test_mean_kl_is_the_mean_over_rows_of_the_mean_over_tokens(rows: list[PlannedRow]) -> None:
    base, model = ARCHITECTURES["llama"](), perturbed(ARCHITECTURES["llama"]())
    bank = reference_bank(base, rows, kept=WHOLE, temperature=2.0, budget=200)
    expected = []
    with torch.no_grad():
        for row in rows:
            p0, p = ((row_logits(some, row)[0] / 2).softmax(-1) for some in (base, model))
            expected.append(float(4 * (p0 * (p0 / p).log()).sum(-1).mean()))
    assert mean_kl(model, rows, bank, 150) == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert len({row.scored for row in rows}) > 1


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma3"])
def test_the_cached_reference_trains_as_a_frozen_copy_of_the_base_does(name: str) -> None:
    """Value and gradient of a whole step, every term with all tokens kept."""
    terms = tuple(term if term.kind == "nll" else term.model_copy(update={"kept": WHOLE}) for term in TWO_KINDS.terms)
    strategy = TWO_KINDS.model_copy(update={"terms": terms})
    planner = anchored_plan(strategy)
    base = ARCHITECTURES[name]()
    objective = objective_of(base, strategy, planner)
    model = perturbed(ARCHITECTURES[name]())
    step = full_step(planner)
    expected = strategy_loss(strategy, model, base, step, progress=0.25)
    expected.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    batch = collate(step.rows, [stream.name for stream in planner.streams])
    logits = model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits
    loss = objective.weighted(objective.losses(logits, batch), batch, progress=0.25)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.cat([p.grad.flatten() for n, p in model.named_parameters() if n in gradients])
    whole = torch.cat([gradient.flatten() for gradient in gradients.values()])
    assert float((found - whole).norm() / whole.norm()) < 1e-5


def test_two_rows_of_one_name_are_a_bug(rows: list[PlannedRow]) -> None:
    with pytest.raises(AssertionError, match="names of their own"):
        reference_bank(ARCHITECTURES["llama"](), [rows[0], replace(rows[1], name=rows[0].name)], **SMALL)


def test_transformers_has_nothing_to_warn_of(rows: list[PlannedRow], caplog: pytest.LogCaptureFixture) -> None:
    """It advises a mask where the padding token ends a row, which right padding does not need."""
    logging.warning_once.cache_clear()
    model = ARCHITECTURES["llama"]()
    mean_kl(model, rows, reference_bank(model, rows, kept=4, temperature=1.0, budget=10_000), 10_000)
    assert not caplog.records


def row(
    ids: tuple[int, ...] = (1, 5, 6, 7), scored: tuple[tuple[int, int], ...] = ((2, 4),), name: str = "a"
) -> PlannedRow:
    return PlannedRow("s", name, Row(ids, scored), scored, 1.0)


PLAIN_KEY = (["w1", "w2"], [row(), row(name="b")], 8, 1.0, "torch.float32")


def test_the_key_depends_on_all_that_the_answers_depend_on() -> None:
    weights, rows, kept, temperature, dtype = PLAIN_KEY
    others = [
        (["w1", "w3"], rows, kept, temperature, dtype),
        (["w2", "w1"], rows, kept, temperature, dtype),
        (weights, rows, 9, temperature, dtype),
        (weights, rows, kept, 2.0, dtype),
        (weights, rows, kept, temperature, "torch.bfloat16"),
        (weights, rows[:1], kept, temperature, dtype),
        (weights, rows[::-1], kept, temperature, dtype),
        (weights, [row((1, 5, 6, 8)), rows[1]], kept, temperature, dtype),
        (weights, [row((1, 4, 6, 7)), rows[1]], kept, temperature, dtype),  # what is not scored is read
        (weights, [row((1, 5, 6, 7, 9)), rows[1]], kept, temperature, dtype),
        (weights, [row(scored=((3, 4),)), rows[1]], kept, temperature, dtype),
        (weights, [row(scored=((2, 3), (3, 4))), rows[1]], kept, temperature, dtype),
        (weights, [row(name="c"), rows[1]], kept, temperature, dtype),
    ]
    keys = [bank_key(*PLAIN_KEY), *(bank_key(*other) for other in others)]
    assert len(set(keys)) == len(keys)


def test_the_key_is_one_of_content() -> None:
    """Not of coefficients, nor of the process that computes it."""
    weights, rows, *others = PLAIN_KEY
    assert bank_key(iter(weights), [replace(r, coefficient=0.3) for r in rows], *others) == bank_key(*PLAIN_KEY)
    assert bank_key(*PLAIN_KEY) == "778c4bd2e005d03f0a0a713509ab66a3"


@given(
    kept=st.integers(1, 5), temperature=st.sampled_from([0.3, 1.0, 2.0]), sizes=st.lists(st.integers(1, 4), min_size=1)
)
@settings(max_examples=20)
def test_a_bank_comes_back_as_it_was_saved(
    kept: int, temperature: float, sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokens = sum(sizes)
    draw = torch.Generator().manual_seed(tokens)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    places = {f'row {i}, \u00e4 "b"': (end - size, end) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))}
    content = Reference(
        torch.randint(150_000, (tokens, kept), generator=draw, dtype=torch.int32),
        torch.randn(tokens, kept, generator=draw),
        torch.full((tokens,), -torch.inf),
    )
    path = tmp_path_factory.mktemp("bank") / "s-kl.safetensors"
    save_bank(ReferenceBank(places, content, temperature), path, "key")
    found = load_bank(path, "key")
    assert found is not None
    assert found.places == places
    assert found.temperature == temperature
    assert same(found.reference, content)
    assert all(getattr(found.reference, name).dtype == getattr(content, name).dtype for name in FIELDS)


def test_another_key_or_no_file_is_no_bank(bank: ReferenceBank, tmp_path: Path) -> None:
    path = tmp_path / "s-kl.safetensors"
    assert load_bank(path, "key") is None
    save_bank(bank, path, "key")
    assert load_bank(path, "another") is None
    assert load_bank(path, "key") is not None
    save_file({"ids": torch.zeros(1)}, path)  # safetensors, and nobody's bank
    assert load_bank(path, "key") is None


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "without tails"])
def test_a_broken_file_is_named_in_one_line(damage: str, bank: ReferenceBank, tmp_path: Path) -> None:
    path = tmp_path / "s-kl.safetensors"
    save_bank(bank, path, "key")
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-5])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no tensors here")
        case _:
            save_file(
                {"ids": bank.reference.ids.contiguous()}, path, {"key": "key", "places": "{}", "temperature": "1"}
            )
    with pytest.raises(RunError, match=r"s-kl.safetensors is no cached reference: .*; delete it, and") as caught:
        load_bank(path, "key")
    assert "\n" not in str(caught.value)


def test_a_file_is_complete_or_absent(bank: ReferenceBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s-kl.safetensors"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_bank(bank, path, "key")
    assert load_bank(path, "key") is None
    assert not path.exists()
    save_bank(bank, path, "key")  # what was left aside is in nobody's way
    assert load_bank(path, "key") is not None
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_file_is_safetensors_and_as_small_as_promised(bank: ReferenceBank, tmp_path: Path) -> None:
    path = tmp_path / "s-kl.safetensors"
    save_bank(bank, path, "key")
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    tokens, kept = bank.reference.ids.shape
    assert kept == 8
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) == (8 * kept + 4) * tokens


def test_a_kl_on_the_target_uses_its_own_examples() -> None:
    strategy = Strategy(
        trainable=Everything(),
        streams=(StreamSpec(name="target"),),
        terms=(Term(weight=0.5), Term(kind="kl", weight=0.5)),
    )
    planner = anchored_plan(strategy)
    bank = objective_of(ARCHITECTURES["llama"](), strategy, planner).banks["target", "kl"]
    steps = planner.steps(planner.start())
    seen = {row.name for _ in range(3) for row in next(steps).rows}
    assert seen == set(bank.places) == {row.name for row in rows_of(planner, "target")}
