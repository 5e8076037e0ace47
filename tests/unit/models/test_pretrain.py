import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from keepshot.errors import ConfigError, RunError
from keepshot.models import pretrain as module
from keepshot.models.pretrain import DRY_RUN, RECIPE, PretrainProgress, pretrain, schedule
from keepshot.models.pretrain_state import SIZES, new_state, size_of
from keepshot.tasks.universe.problems import LAYOUTS


class Stopped(Exception):
    pass


def stop_at(step: int):
    def report(progress: PretrainProgress) -> None:
        if progress.step == step:
            raise Stopped

    return report


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PretrainProgress]]:
    output = tmp_path_factory.mktemp("pretrain") / "model"
    reports: list[PretrainProgress] = []
    pretrain(output, minutes=1.0, dry_run=True, report=reports.append)
    return output, reports


def test_the_saved_model_loads_and_reads_bytes(straight) -> None:
    output, _ = straight
    model = AutoModelForCausalLM.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert model.dtype == torch.bfloat16
    ids = tokenizer("Q: ab\nA:", return_tensors="pt").input_ids
    assert ids[0].tolist() == [1, *b"Q: ab\nA:"]
    assert model(ids).logits.shape == (1, 9, 256)
    assert not output.with_name("model.checkpoint").exists()


def test_the_dry_run_learns(straight) -> None:
    _, reports = straight
    assert [progress.step for progress in reports] == list(range(1, DRY_RUN.steps + 1))
    assert reports[0].loss_nats == pytest.approx(math.log(256), abs=0.2)
    assert reports[-1].loss_nats < reports[0].loss_nats - 0.1


def test_a_resumed_run_ends_where_the_straight_one_does(
    straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    with pytest.raises(Stopped):
        pretrain(output, minutes=1.0, dry_run=True, report=stop_at(4))
    assert not output.exists()
    assert json.loads((tmp_path / "model.checkpoint" / "state.json").read_text())["step"] == 3
    with pytest.raises(RunError, match=r"unfinished run: resume"):
        pretrain(output, minutes=1.0, dry_run=True)
    with pytest.raises(RunError, match="belongs to a run with other seed: resume"):
        pretrain(output, minutes=1.0, seed=1, dry_run=True, resume=True)
    with pytest.raises(RunError, match="belongs to a run with other problems, released: resume"):
        pretrain(output, minutes=1.0, recipe=replace(RECIPE, problems=0.5, released=0.5), dry_run=True, resume=True)
    # It may be measured elsewhere, by as many episodes as there is time for.
    monkeypatch.setattr(module, "DRY_RUN", replace(DRY_RUN, measured_episodes=2, workers=1))
    # A kill amid the replacement of a checkpoint leaves it under another name.
    checkpoint = tmp_path / "model.checkpoint"
    checkpoint.rename(tmp_path / ".model.checkpoint.old")
    reports: list[PretrainProgress] = []
    pretrain(output, minutes=1.0, dry_run=True, resume=True, report=reports.append)
    assert [progress.step for progress in reports] == [4, 5, 6]
    resumed, expected = (load_file(path / "model.safetensors") for path in (output, straight[0]))
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)


def test_what_is_in_the_way_or_missing_is_said(straight, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already"):
        pretrain(straight[0], minutes=1.0, dry_run=True)
    with pytest.raises(RunError, match="no checkpoint"):
        pretrain(tmp_path / "model", minutes=1.0, dry_run=True, resume=True)
    with pytest.raises(ConfigError, match=r"minutes is 0"):
        pretrain(tmp_path / "model", minutes=0.0, dry_run=True)
    with pytest.raises(ConfigError, match=r"no size 'huge'; the sizes are: small, middle, large"):
        size_of("huge")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_only_answers_are_learned(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "computing_dtype", lambda device: dtype)
    state = new_state(DRY_RUN, 0, torch.device("cpu"))
    ids = torch.randint(2, 256, (2, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    answers = torch.zeros(2, 16, dtype=torch.bool)
    answers[:, 5] = True
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):  # as it trains
        chances = state.model(ids.long()).logits[:, 4].float().log_softmax(-1)
    expected = -chances.gather(1, ids[:, 5:6].long()).mean()
    loss = module._update(state, state.model, (ids.numpy(), answers.numpy()), (1e-3, 1e-3))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_bundled_model_has_the_sizes_of_the_recipe() -> None:
    config = json.loads((module._BUNDLED / "config.json").read_text())
    made = new_state(RECIPE, 0, torch.device("cpu")).model
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        assert getattr(made.config, name) == config[name]
    assert made.config.max_position_embeddings == config["max_position_embeddings"] == RECIPE.length
    shipped = load_file(module._BUNDLED / "model.safetensors")
    assert {name: p.shape for name, p in made.named_parameters()} == {name: t.shape for name, t in shipped.items()}


def test_the_learning_rate_rises_and_falls() -> None:
    rising = [schedule(RECIPE, step, 0.0) for step in range(RECIPE.warmup_steps)]
    assert all(left < right for left, right in itertools.pairwise(rising))
    assert rising[-1] == 1
    falling = [schedule(RECIPE, 1000, done / 10) for done in range(11)]
    assert all(left > right for left, right in itertools.pairwise(falling))
    assert falling[-1] == pytest.approx(0.03)


def test_each_optimizer_has_its_parameters_and_rate() -> None:
    state = new_state(DRY_RUN, 0, torch.device("cpu"))
    muon, adamw = ({id(p) for group in o.param_groups for p in group["params"]} for o in state.optimisers)
    named = dict(state.model.named_parameters())
    assert {name for name, p in named.items() if id(p) in adamw} == {
        name for name, p in named.items() if "embed" in name or "norm" in name
    }
    assert not muon & adamw
    assert len(muon | adamw) == len(named)
    batch = (np.full((1, 8), 65, np.uint8), np.ones((1, 8), np.bool_))
    before = {name: p.clone() for name, p in named.items()}
    module._update(state, state.model, batch, (1e-3, 0.0))
    assert {name for name, p in named.items() if not torch.equal(p, before[name])} == {
        name for name, p in named.items() if id(p) in muon
    }


def test_the_sizes_are_those_that_are_said() -> None:
    parameters = {
        name: new_state(replace(RECIPE, size=size), 0, torch.device("cpu")).model.num_parameters()
        for name, size in SIZES.items()
    }
    assert parameters == {"small": 1640576, "middle": 6492416, "large": 25829888}


def test_the_seed_keys_the_weights_and_leaves_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (next(new_state(DRY_RUN, seed, torch.device("cpu")).model.parameters()) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_goes_on_from_a_model(straight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = str(straight[0])
    monkeypatch.setattr(module, "DRY_RUN", replace(DRY_RUN, start=start, steps=2))
    pretrain(tmp_path / "more", minutes=1.0, recipe=replace(RECIPE, problems=0.5, released=0.5), dry_run=True)
    card = json.loads((tmp_path / "more" / "card.json").read_text())
    assert [card["settings"][name] for name in ("start", "problems", "released")] == [start, 0.5, 0.5]
    assert card["curves"]["problems"].keys() == {*LAYOUTS["repaired"]}
    assert card["curves"]["released problems"].keys() == {*LAYOUTS["released"]}
    begun = new_state(replace(DRY_RUN, start=start), 0, torch.device("cpu")).model
    shipped = load_file(straight[0] / "model.safetensors")
    assert all(torch.equal(p.bfloat16(), shipped[name]) for name, p in begun.named_parameters())
    with pytest.raises(ConfigError, match="other parameters than the size"):
        new_state(replace(RECIPE, start=start), 0, torch.device("cpu"))
    more_heads = replace(DRY_RUN, start=start, size=replace(DRY_RUN.size, heads=4))  # of the same shapes
    with pytest.raises(ConfigError, match="has num_attention_heads 2, and the size that is asked for 4"):
        new_state(more_heads, 0, torch.device("cpu"))


def test_minutes_end_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which every look takes a second, two a step; time before a resumption counts."""
    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(module, "DRY_RUN", replace(DRY_RUN, steps=None, warmup_steps=1))
    output = tmp_path / "model"
    with pytest.raises(Stopped):
        pretrain(output, minutes=0.5, dry_run=True, report=stop_at(4))
    state = json.loads((tmp_path / "model.checkpoint" / "state.json").read_text())
    with pytest.raises(RunError, match="belongs to a run with other minutes: resume"):
        pretrain(output, minutes=0.6, dry_run=True, resume=True)
    reports: list[PretrainProgress] = []
    pretrain(output, minutes=0.5, dry_run=True, resume=True, report=reports.append)
    assert reports[0].step == state["step"] + 1
    assert state["elapsed_s"] < reports[0].elapsed_s
    assert reports[-2].elapsed_s < 30 <= reports[-1].elapsed_s < 34
    rates = [progress.rate for progress in reports]
    assert all(left > right for left, right in itertools.pairwise(rates))
    assert rates[-1] < 0.1 * DRY_RUN.peak_rate


def test_a_dry_run_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    asked = replace(RECIPE, size=size_of("small"), rows=4, start="mini", problems=0.9)
    with pytest.raises(ConfigError, match="of its own; leave out: size, rows, start"):
        pretrain(tmp_path / "model", minutes=1.0, recipe=asked, dry_run=True)
    assert not any(tmp_path.iterdir())


def test_a_recipe_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    for problems, released in ((1.5, 0.0), (-0.5, 0.0), (0.6, 0.5)):
        told = f"problems is {problems}, released {released} and rows 256; shares are 0 or more and at most 1 together"
        with pytest.raises(ConfigError, match=told):
            pretrain(tmp_path / "model", minutes=1.0, recipe=replace(RECIPE, problems=problems, released=released))
