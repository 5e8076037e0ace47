"""Every named method on several families: one real step moves what it says, and what is saved is what was trained."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tests.anchored import sampler_of
from tests.architectures import ARCHITECTURES, save_tiny
from tests.training import byte_tokenizer, plan, plan_of, trainer_of
from torch import Tensor

from keepshot.errors import ConfigError
from keepshot.models.interpolate import pull_back
from keepshot.models.load import CausalLM, base_dtype, load_model, load_tokenizer
from keepshot.runs.folder import RunFolder
from keepshot.runs.penalties import held_numbers, prompt_rows
from keepshot.runs.references import fixed_rows, references
from keepshot.runs.training import save_trained
from keepshot.strategies import (
    ADDITIONS,
    METHODS,
    Strategy,
    TrainableSet,
    apply_trainable,
    fingerprint,
    resolve_method,
    verify_frozen,
)
from keepshot.strategies.soft_prompt import (
    initial_prompt,
    load_prompt,
    prompt_digest,
    prompt_set,
    save_prompt,
    without_prompt,
)
from keepshot.train import KeepTrainer, Stream, training_arguments

FAMILIES = ("llama", "gpt2", "gpt_neox", "phi3", "gemma3", "opt")
WITHOUT_ROLES = ("full", "lora", "dora", "corda")
MATRIX = [(name, family) for name in METHODS for family in FAMILIES] + [(name, "bloom") for name in WITHOUT_ROLES]
IDS = torch.randint(2, 256, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models; those of odd place are stored in bfloat16."""
    root = tmp_path_factory.mktemp("bases")
    for place, name in enumerate((*FAMILIES, "bloom")):
        dtype = torch.bfloat16 if place % 2 else torch.float32
        save_tiny(ARCHITECTURES[name]().to(dtype), root / name)
    return root


def prompts(count: int) -> list[list[int]]:
    """For the trainables that start from some."""
    return [[1, *range(40 + i, 80 + i)] for i in range(min(count, 8))]


def logits(model: CausalLM) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize(("method", "family"), MATRIX)
def test_a_method_moves_its_numbers_and_is_saved_as_trained(
    method: str, family: str, bases: Path, tmp_path: Path
) -> None:
    _, strategy, _ = resolve_method(method)
    base = str(bases / family)
    dtype = base_dtype(base)
    trained = apply_trainable(load_model(base, device="cpu"), strategy.trainable, 0, prompts)
    untouched = logits(trained.model)
    frozen = fingerprint(trained.model, trained.parts, dtype)
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters() if p.requires_grad}
    assert before.keys() == trained.parts.keys()
    trainer = trainer_of(trained, plan_of(strategy), tmp_path, {"max_steps": 2, "weight_decay": 0.1})
    trainer.train()

    still = [name for name, p in trained.model.named_parameters() if name in before and torch.equal(p, before[name])]
    assert not still
    verify_frozen(frozen, fingerprint(trained.model, trained.parts, dtype))
    tuned = logits(trained.model)
    assert float((tuned - untouched).abs().max()) > 0.05

    def unchanged(folder: Path) -> None:
        verify_frozen(frozen, fingerprint(load_model(str(folder), device="cpu"), trained.parts, dtype))

    save_trained(trained, byte_tokenizer(), tmp_path / "saved", dtype, check=unchanged)
    assert base_dtype(str(tmp_path / "saved")) == dtype
    again = logits(load_model(str(tmp_path / "saved"), device="cpu"))
    assert float((again - tuned).norm() / tuned.norm()) < (1e-5 if dtype == torch.float32 else 1e-2)
    assert load_tokenizer(str(tmp_path / "saved"))("hi")["input_ids"] == [1, 104, 105]


# Every addition with every family, and every trainable with some of them: pairs, not all triples.
TRAINABLES = ("full", "value", "lora", "query-key", "dora", "corda")
PAIRS = [
    (TRAINABLES[(i + j) % len(TRAINABLES)], addition, family)
    for i, addition in enumerate(
        name for name, value in ADDITIONS.items() if value.prompt is None and value.merge is None
    )
    for j, family in enumerate(FAMILIES)
]


@pytest.mark.parametrize(("method", "addition", "family"), PAIRS)
def test_an_addition_trains_beside_the_target(method: str, addition: str, family: str, tmp_path: Path) -> None:
    value = ADDITIONS[addition]
    added = value.stream is not None and value.stream.name != "target"
    options = {"share": 0.5} if added else {}  # so that both steps have rows of it
    if value.penalty is not None and value.penalty.prompts is not None:
        options |= {"rows": 2}
    _, strategy, _ = resolve_method([method, {addition: options}])
    trained = apply_trainable(ARCHITECTURES[family](), strategy.trainable, 0, prompts)
    frozen = fingerprint(trained.model, trained.parts)
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters() if p.requires_grad}
    trainer = with_references(trained, strategy, tmp_path)
    trainer.train()
    verify_frozen(frozen, fingerprint(trained.model, trained.parts))
    assert any(not torch.equal(p, before[n]) for n, p in trained.model.named_parameters() if n in before)
    states = trainer.plan_state.streams
    stream = addition if added else "target"
    assert states.keys() == {"target", stream}
    assert all(state.drawn > 0 for state in states.values())
    first, *_, last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert first[f"nll/{stream}"] > 0
    measured = {f"{term.kind}/{term.stream}" for term in strategy.terms if term.kind != "nll"}
    measured |= {f"penalty/{penalty.kind}" for penalty in strategy.penalties}
    for name in ("kl", "masked-kl"):
        assert (f"{name}/{stream}" in first) == (f"{name}/{stream}" in measured)
    for name in measured:
        # But for dropout: GPT-2 and OPT have it everywhere, and the base is asked without.
        assert (family in ("gpt2", "opt") and "kl" in name) or abs(first[name]) < 1e-6
        assert last[name] > 1e-6


@pytest.mark.parametrize(("method", "family"), list(zip(TRAINABLES, FAMILIES, strict=True)))
def test_a_prompt_and_then_weights_are_trained_and_saved(method: str, family: str, bases: Path, tmp_path: Path) -> None:
    _, strategy, _ = resolve_method([method, {"promot": {"tokens": 4}}, {"icl-mix": {"share": 0.5}}])
    base, dtype = str(bases / family), base_dtype(str(bases / family))
    first = load_model(base, device="cpu")
    weights = fingerprint(first, {})
    start = initial_prompt(first, range(40, 80), strategy.prompt.tokens, 0)
    stage = prompt_set(first, start)
    trainer_of(stage, plan(), tmp_path / "first", {"max_steps": 2, "weight_decay": 0.0}).train()
    prompt = without_prompt(stage)
    verify_frozen(weights, fingerprint(first, {}))
    assert not bool((prompt == start).any())
    save_prompt(prompt, tmp_path, base)

    trained = apply_trainable(load_model(base, device="cpu"), strategy.trainable, 0, prompts)
    frozen = fingerprint(trained.model, trained.parts, dtype)
    trained = replace(trained, prompt=load_prompt(tmp_path))
    trainer = trainer_of(trained, plan_of(strategy), tmp_path / "second", {"max_steps": 2, "weight_decay": 0.1})
    trainer.train()
    assert trainer.plan_state.streams["icl-mix"].drawn > 0
    assert prompt_digest(trained.prompt) == prompt_digest(load_prompt(tmp_path)) == prompt_digest(prompt)
    tuned = logits(trained.model)

    def unchanged(folder: Path) -> None:
        verify_frozen(frozen, fingerprint(load_model(str(folder), device="cpu"), trained.parts, dtype))

    save_trained(trained, byte_tokenizer(), tmp_path / "saved", dtype, check=unchanged)
    again = logits(load_model(str(tmp_path / "saved"), device="cpu"))
    assert float((again - tuned).norm() / tuned.norm()) < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize(("method", "family"), [*zip(TRAINABLES, FAMILIES, strict=True), ("full", "bloom")])
def test_a_merge_saves_a_point_between_base_and_tuned(method: str, family: str, bases: Path, tmp_path: Path) -> None:
    if method == "dora":
        with pytest.raises(ConfigError, match="not linear in its scale"):
            resolve_method([method, "wise-ft"])
        return
    _, strategy, _ = resolve_method([method, {"wise-ft": {"coefficient": 0.3}}])
    dtype = base_dtype(str(bases / family))
    first = load_model(str(bases / family), device="cpu")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.view(-1)[0] = -0.0  # which a sum makes +0 of
    base = str(save_tiny(first.to(dtype), tmp_path / "base"))
    trained = apply_trainable(load_model(base, device="cpu"), strategy.trainable, 0, prompts)
    frozen = fingerprint(trained.model, trained.parts, dtype)
    trainer_of(trained, plan_of(strategy), tmp_path, {"max_steps": 2, "weight_decay": 0.1}).train()
    start, tuned = whole_weights(load_model(base, device="cpu")), whole_weights(trained.model)

    pull_back(trained.model, base, strategy.merge.coefficient)

    def unchanged(folder: Path) -> None:
        verify_frozen(frozen, fingerprint(load_model(str(folder), device="cpu"), trained.parts, dtype))

    save_trained(trained, byte_tokenizer(), tmp_path / "saved", dtype, check=unchanged)
    saved = whole_weights(load_model(str(tmp_path / "saved"), device="cpu"))
    assert saved.keys() == start.keys() == tuned.keys()
    rounding = 1e-5 if dtype == torch.float32 else 2**-8
    for name, number in saved.items():
        torch.testing.assert_close(number, 0.7 * start[name] + 0.3 * tuned[name], rtol=rounding, atol=rounding)
    moved = sum(float((tuned[name] - start[name]).abs().sum()) for name in start)
    assert sum(float((saved[name] - start[name]).abs().sum()) for name in start) / moved == pytest.approx(0.3, rel=0.02)


def whole_weights(model: CausalLM) -> dict[str, Tensor]:
    """Every weight in float32, an adapter merged into it."""
    model = copy.deepcopy(model).float()
    whole = model.merge_and_unload() if isinstance(model, PeftModel) else model
    return {name: parameter.detach() for name, parameter in whole.named_parameters()}


def with_references(trained: TrainableSet, strategy: Strategy, folder: Path) -> KeepTrainer:
    """A trainer of two steps, its references asked as a run asks them."""
    planner = plan(
        *(Stream(spec.name, sampler_of(spec), spec.share, strategy.weight(spec.name)) for spec in strategy.streams)
    )
    planner = fixed_rows(planner, strategy, 400.0, 0)
    fields = {"use_cpu": True, "bf16": False}
    args = training_arguments(fields, folder=folder, seed=0, learning_rate=0.01, max_steps=2, steps_per_epoch=2)
    kept = references(trained.model, strategy, planner, args, RunFolder(folder), 400)
    asked = [penalty.prompts for penalty in strategy.penalties if penalty.prompts is not None]
    prompts = prompt_rows(planner, strategy, {spec.name: sampler_of(spec) for spec in asked})
    penalties = held_numbers(trained, strategy, prompts, args, RunFolder(folder))
    objective = replace(kept.objective, penalties=penalties)
    return trainer_of(trained, planner, folder, {"max_steps": 2, "weight_decay": 0.1}, objective=objective)
