"""Every named method on several families: one real step moves what it says, and what is saved is what was trained."""

import json
from pathlib import Path

import pytest
import torch
from tests.anchored import sampler_of
from tests.architectures import ARCHITECTURES, save_tiny
from tests.training import byte_tokenizer, plan, plan_of, trainer_of
from torch import Tensor

from keepshot.models.load import CausalLM, base_dtype, load_model, load_tokenizer
from keepshot.runs.folder import RunFolder
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
from keepshot.train import KeepTrainer, Stream, training_arguments

FAMILIES = ("llama", "gpt2", "gpt_neox", "phi3", "gemma3", "opt")
MATRIX = [(name, family) for name in METHODS for family in FAMILIES] + [("full", "bloom"), ("lora", "bloom")]
IDS = torch.randint(2, 256, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models; those of odd place are stored in bfloat16."""
    root = tmp_path_factory.mktemp("bases")
    for place, name in enumerate((*FAMILIES, "bloom")):
        dtype = torch.bfloat16 if place % 2 else torch.float32
        save_tiny(ARCHITECTURES[name]().to(dtype), root / name)
    return root


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
    trained = apply_trainable(load_model(base, device="cpu"), strategy.trainable, seed=0)
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
TRAINABLES = ("full", "value", "lora", "query-key")
PAIRS = [
    (TRAINABLES[(i + j) % len(TRAINABLES)], addition, family)
    for i, addition in enumerate(ADDITIONS)
    for j, family in enumerate(FAMILIES)
]


@pytest.mark.parametrize(("method", "addition", "family"), PAIRS)
def test_an_addition_trains_beside_the_target(method: str, addition: str, family: str, tmp_path: Path) -> None:
    _, strategy, _ = resolve_method([method, {addition: {"share": 0.5}}])  # so that both steps have rows of it
    trained = apply_trainable(ARCHITECTURES[family](), strategy.trainable, seed=0)
    frozen = fingerprint(trained.model, trained.parts)
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters() if p.requires_grad}
    trainer = with_references(trained, strategy, tmp_path)
    trainer.train()
    verify_frozen(frozen, fingerprint(trained.model, trained.parts))
    assert any(not torch.equal(p, before[n]) for n, p in trained.model.named_parameters() if n in before)
    states = trainer.plan_state.streams
    assert states.keys() == {"target", addition}
    assert all(state.drawn > 0 for state in states.values())
    first, *_, last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    term = ADDITIONS[addition].term
    assert first[f"nll/{addition}"] > 0
    assert (f"kl/{addition}" in first) == (term.kind == "kl")
    if term.kind == "kl":
        # But for dropout: GPT-2 and OPT have it everywhere, and the base is asked without.
        assert family in ("gpt2", "opt") or abs(first[f"kl/{addition}"]) < 1e-6
        assert last[f"kl/{addition}"] > 1e-6


def with_references(trained: TrainableSet, strategy: Strategy, folder: Path) -> KeepTrainer:
    """A trainer of two steps, its references asked as a run asks them."""
    planner = plan(
        *(Stream(spec.name, sampler_of(spec), spec.share, strategy.weight(spec.name)) for spec in strategy.streams)
    )
    planner = fixed_rows(planner, strategy, 400.0, 0)
    fields = {"use_cpu": True, "bf16": False}
    args = training_arguments(fields, folder=folder, seed=0, learning_rate=0.01, max_steps=2, steps_per_epoch=2)
    kept = references(trained.model, strategy, planner, args, RunFolder(folder), 400)
    return trainer_of(trained, planner, folder, {"max_steps": 2, "weight_decay": 0.1}, objective=kept.objective)
