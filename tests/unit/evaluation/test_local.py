import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES, save_tiny

from keepshot.evaluation import Backend, LocalModel, model_identity
from keepshot.evaluation.generation import generate
from keepshot.evaluation.scorer import score_levels
from keepshot.models.load import attach_adapter, detach_adapter, load_model, load_tokenizer, peft_warnings
from keepshot.prompts import Row

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROWS = [Row((1, 9, 8, 7, *tail), ((4, 6),)) for tail in ((5, 6), (7, 8))]


def adapted(seed=0, base=None, **settings):
    """A tiny llama with an adapter of random numbers on it."""
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, **({"target_modules": MODULES} | settings))
    with peft_warnings(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return get_peft_model(base or ARCHITECTURES["llama"](), lora).eval()


def saved(folder, seed=0):
    """An adapter's folder."""
    adapted(seed).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base_identity():
    return model_identity(ARCHITECTURES["llama"]())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equal_models_have_equal_identities_and_unequal_ones_have_not(name, base_identity):
    first, second = ARCHITECTURES[name](), ARCHITECTURES[name]()
    assert model_identity(first) == model_identity(second)
    assert (model_identity(first) == base_identity) == (name == "llama")


def test_asking_changes_nothing():
    for model in (ARCHITECTURES["llama"](), adapted()):
        backend = LocalModel(model, load_tokenizer("mini"))
        before = backend.identity()
        list(backend.score([ROWS]))
        backend.generate(ROWS, ["x"], 3)
        assert backend.identity() == before == model_identity(model)


@pytest.mark.parametrize("build", [ARCHITECTURES["llama"], adapted], ids=["base", "adapter"])
def test_every_number_counts(build):
    model = build()
    whole = model_identity(model)
    found = {whole}
    parameters = list(model.parameters())
    for parameter in parameters:
        flat = parameter.data.view(-1)
        before = flat[-1].item()
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(torch.inf))
        found.add(model_identity(model))
        flat[-1] = before
    assert len(found) == 1 + len(parameters)
    assert model_identity(model) == whole


def test_the_dtype_counts_even_where_the_numbers_are_the_same(base_identity):
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    rounded = model_identity(model)
    assert len({base_identity, rounded, model_identity(model.to(torch.bfloat16))}) == 3


@pytest.mark.parametrize(("setting", "value"), [("rms_norm_eps", 1e-3), ("hidden_act", "gelu"), ("sliding_window", 8)])
def test_settings_count(base_identity, setting, value):
    model = ARCHITECTURES["llama"]()
    setattr(model.config, setting, value)
    assert model_identity(model) != base_identity


def test_the_end_tokens_count(base_identity):
    model = ARCHITECTURES["llama"]()
    model.generation_config.eos_token_id = [0, 7]
    assert model_identity(model) != base_identity
    model.generation_config.eos_token_id = [0]
    assert model_identity(model) == base_identity


def test_the_mode_in_which_layers_are_makes_no_difference(base_identity):
    model = ARCHITECTURES["llama"]().train().requires_grad_(False)
    assert model_identity(model) == base_identity


def test_where_a_model_lies_makes_no_difference(tmp_path):
    first, second = (save_tiny(ARCHITECTURES["llama"](), tmp_path / name) for name in ("a", "b"))
    identity = model_identity(load_model(str(first), device="cpu"))
    assert model_identity(load_model(str(second), device="cpu")) == identity
    adapter, same, other = saved(tmp_path / "x"), saved(tmp_path / "y"), saved(tmp_path / "z", seed=1)
    found = [
        model_identity(attach_adapter(load_model(str(base), device="cpu"), str(path)))
        for base, path in ((first, adapter), (second, same), (first, other))
    ]
    assert found[0] == found[1]
    assert len({identity, *found}) == 3


def test_a_base_whose_adapter_is_off_is_the_base(base_identity):
    model = adapted()
    on = model_identity(model)
    assert on != base_identity
    with model.disable_adapter():
        assert model_identity(model) == base_identity
    assert model_identity(model) == on
    model.base_model.disable_adapter_layers()
    assert model_identity(model) == base_identity
    model.base_model.enable_adapter_layers()
    assert model_identity(model) == on
    assert model_identity(detach_adapter(model)) == base_identity


def test_an_adapter_that_is_off_in_some_layers_only_is_neither(base_identity):
    model = adapted()
    on = model_identity(model)
    model.base_model.model.model.layers[0].self_attn.q_proj.enable_adapters(False)
    assert model_identity(model) != base_identity
    assert on != base_identity


def test_a_base_keeps_its_identity_through_one_adapter_after_another(tmp_path, base_identity):
    base, found = ARCHITECTURES["llama"](), []
    for seed in (0, 1, 0):
        model = attach_adapter(base, str(saved(tmp_path / str(len(found)), seed)))
        found.append(model_identity(model))
        base = detach_adapter(model)
        assert model_identity(base) == base_identity
    assert found[0] == found[2]
    assert len({base_identity, *found}) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": 3},
        {"alpha_pattern": {"q_proj": 5}},
        {"use_rslora": True},
        {"target_modules": MODULES[:-1]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_how_an_adapter_is_applied_counts(settings):
    assert model_identity(adapted(**settings)) != model_identity(adapted())


def test_how_strongly_an_adapter_is_applied_counts():
    model = adapted()
    whole = model_identity(model)
    for layer in model.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("default", 0.5)
    assert model_identity(model) != whole


def test_of_several_adapters_the_active_one_counts_and_its_name_does_not():
    model, other = adapted(0), adapted(1)
    first = model_identity(model)
    model.add_adapter("second", other.peft_config["default"])
    assert model_identity(model) == first
    numbers = {name.replace(".default.", ".second."): value for name, value in other.state_dict().items()}
    model.load_state_dict({name: value for name, value in numbers.items() if ".second." in name}, strict=False)
    model.set_adapter("second")
    assert model_identity(model) == model_identity(other) != first


class Backwards(set):
    """A set that tells its elements in another order, as sets of strings do in every process."""

    def __iter__(self):
        return iter(sorted(super().__iter__(), reverse=True))


def test_the_order_of_a_set_makes_no_difference():
    model = adapted()
    whole = model_identity(model)
    assert isinstance(model.peft_config["default"].target_modules, set)
    model.peft_config["default"].target_modules = Backwards(MODULES)
    assert model_identity(model) == whole


def test_another_process_finds_the_same_identity(tmp_path):
    base, adapter = save_tiny(ARCHITECTURES["llama"](), tmp_path / "base"), saved(tmp_path / "adapter")
    script = (
        "import sys\n"
        "from keepshot.evaluation import model_identity\n"
        "from keepshot.models.load import attach_adapter, load_model\n"
        "model = load_model(sys.argv[1], device='cpu')\n"
        "print(model_identity(model), model_identity(attach_adapter(model, sys.argv[2])))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, base, adapter],
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.split()
    model = load_model(str(base), device="cpu")
    assert told == [model_identity(model), model_identity(attach_adapter(model, str(adapter)))]


def test_a_local_model_is_a_backend_that_scores_and_writes():
    model, tokenizer = ARCHITECTURES["llama"]().train(), load_tokenizer("mini")
    backend = LocalModel(model, tokenizer)
    assert isinstance(backend, Backend)
    assert not model.training
    assert backend.shares
    assert list(backend.score([ROWS])) == score_levels(model, [ROWS])[0]
    assert backend.generate(ROWS, ["e"], 5) == generate(model, tokenizer, ROWS, ["e"], 5)
    assert not LocalModel(ARCHITECTURES["bloom"](), tokenizer).shares
