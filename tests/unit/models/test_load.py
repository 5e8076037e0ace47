import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.architectures import ARCHITECTURES, save_tiny
from transformers import AutoConfig, BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration, logging

from keepshot.errors import ConfigError, ModelError
from keepshot.models.load import DEFAULT_CONTEXT, base_dtype, context_length, load_model, load_tokenizer, peft_warnings
from keepshot.models.source import base_name, model_source

IDS = torch.tensor([[1, 104, 105, 32, 98]])


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(ARCHITECTURES["llama"](), tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def folder(llama: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(llama, tmp_path / "broken"))


def adapter(base: str, folder: Path) -> Path:
    with peft_warnings():
        wrapped = get_peft_model(load_model(base, device="cpu"), LoraConfig(target_modules=["v_proj"], r=2))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    return folder


def edit_config(folder: Path, changes: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    model = ARCHITECTURES[name]()
    folder = save_tiny(model, tmp_path / name)
    loaded = load_model(str(folder), device="cpu")
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training
    assert context_length(loaded) == (DEFAULT_CONTEXT if name == "bloom" else 256)
    assert base_dtype(str(folder)) == torch.float32


def test_buffers_that_are_no_numbers_do_not_tell_the_dtype(tmp_path: Path) -> None:
    """Masks as bytes stand first in files of older models, whose configs state no dtype."""
    folder = save_tiny(ARCHITECTURES["llama"]().to(torch.bfloat16), tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({k: v for k, v in settings.items() if k not in ("dtype", "torch_dtype")})
    )
    weights = load_file(folder / "model.safetensors")
    few = {"b.scale": torch.ones(3), "a.mask": torch.ones(512, 512, dtype=torch.uint8)}
    save_file(weights | few, folder / "model.safetensors", {"format": "pt"})
    assert base_dtype(str(folder)) == torch.bfloat16


def test_mini_is_read_from_the_package_and_keeps_its_name() -> None:
    model = load_model("mini", device="cpu")
    assert model.name_or_path == "mini"
    assert base_name("mini") == "mini"
    assert Path(model_source("mini"), "config.json").is_file()
    assert base_dtype("mini") == torch.bfloat16
    assert model.dtype == torch.float32


def test_a_folder_called_mini_is_reached_by_its_path(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(llama, tmp_path / "mini")
    monkeypatch.chdir(tmp_path)
    assert model_source("./mini") == "mini"
    assert base_name("./mini") == str(tmp_path / "mini")
    assert load_model("./mini", device="cpu").config.hidden_size == 32


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), (torch.float16, torch.float16)])
def test_dtype_is_taken_as_named(llama: Path, dtype: str | torch.dtype, expected: torch.dtype) -> None:
    assert load_model(str(llama), dtype=dtype, device="cpu").dtype == expected


def test_attention_is_taken_as_named(llama: Path) -> None:
    assert load_model(str(llama), device="cpu", attention="eager").config._attn_implementation == "eager"


def test_stored_dtype_is_read_from_the_weights_where_the_config_is_silent(folder: Path) -> None:
    edit_config(folder, {"dtype": None})
    weights = {name: tensor.to(torch.float16) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert base_dtype(str(folder)) == torch.float16


@pytest.mark.parametrize("base", ["mini", "folder"])
def test_an_adapter_names_its_base_portably_and_loads_on_it(base: str, llama: Path, tmp_path: Path) -> None:
    name = "mini" if base == "mini" else str(llama)
    saved = adapter(name, tmp_path / "adapter")
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == base_name(name)
    loaded = load_model(str(saved), device="cpu")
    assert isinstance(loaded, PeftModel)
    assert not torch.allclose(logits(loaded), logits(load_model(name, device="cpu")), atol=1e-3)
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), logits(load_model(name, device="cpu")))
    assert context_length(loaded) == context_length(load_model(name, device="cpu"))
    assert base_dtype(str(saved)) == base_dtype(name)
    assert load_tokenizer(str(saved)).name_or_path == base_name(name)


def test_an_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    saved = adapter("mini", tmp_path / "adapter")
    weights = load_file(saved / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, saved / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="missing adapter keys"):
        load_model(str(saved), device="cpu")


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    saved = adapter("mini", tmp_path / "adapter")
    torch.save(load_file(saved / "adapter_model.safetensors"), saved / "adapter_model.bin")
    (saved / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
        load_model(str(saved), device="cpu")


def test_tokenizer_pads_right_and_marks_offsets(llama: Path) -> None:
    tokenizer = load_tokenizer(str(llama))
    batch = tokenizer(["a", "abc"], padding=True, return_offsets_mapping=True)
    assert batch["input_ids"][0] == [1, 97, 0, 0]
    assert batch["offset_mapping"][1][-1] == (2, 3)


def test_tokenizer_without_a_padding_token_pads_with_the_end(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(folder)).pad_token == "<|end|>"


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def lacking_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def of_another_size(folder: Path) -> None:
    edit_config(folder, {"intermediate_size": 64})


def remote_code(folder: Path) -> None:
    edit_config(folder, {"model_type": "novel", "auto_map": {"AutoModelForCausalLM": "modeling_novel.Novel"}})


def unknown_type(folder: Path) -> None:
    edit_config(folder, {"model_type": "novel"})


def not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def classifier(folder: Path) -> None:
    edit_config(folder, {"architectures": ["LlamaForSequenceClassification"]})


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (no_weights, "has no weights; keepshot loads safetensors"),
        (only_pickle, r"only pickled weights \(pytorch_model\.bin\)"),
        (truncated, "cannot load"),
        (lacking_a_tensor, r"1 parameters are not in its files, model\.layers\.1\.mlp\.up_proj\.weight"),
        (of_another_size, "cannot load|not in its files"),
        (remote_code, "needs code from its own repository"),
        (unknown_type, "model type 'novel', unknown"),
        (not_json, "not valid JSON"),
        (classifier, "LlamaForSequenceClassification; keepshot tunes decoder-only"),
    ],
)
def test_a_broken_folder_is_one_line_that_names_it(broken: Callable[[Path], None], message: str, folder: Path) -> None:
    broken(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(str(folder), device="cpu")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_that_do_not_predict_the_next_token_are_refused(tmp_path: Path) -> None:
    tiny = {"vocab_size": 256, "num_hidden_layers": 1, "num_layers": 1}
    bert = BertForMaskedLM(BertConfig(hidden_size=8, num_attention_heads=1, intermediate_size=8, **tiny))
    t5 = T5ForConditionalGeneration(T5Config(d_model=8, d_ff=8, num_heads=1, d_kv=8, **tiny))
    for name, model in (("bert", bert), ("t5", t5)):
        model.save_pretrained(tmp_path / name)
        with pytest.raises(ModelError, match="decoder-only"):
            load_model(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./absent", "is no folder; name 'mini'"),
        ("a name", "is no folder; name 'mini'"),
        ("a/b/c", "is no folder; name 'mini'"),
        ("", "is no folder; name 'mini'"),
        ("org/absent", "neither the hub nor a complete local copy"),
        ("mimi", "neither the hub nor a complete local copy"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, message: str) -> None:
    for load in (load_model, load_tokenizer, base_dtype):
        with pytest.raises(ModelError, match=message):
            load(name)


def test_a_file_and_a_run_folder_are_pointed_out(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(llama / "config.json"))
    (tmp_path / "run" / "adapter").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"did you mean .*adapter"):
        load_model(str(tmp_path / "run"))


def test_a_missing_tokenizer_is_said(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="holds no tokenizer"):
        load_tokenizer(str(folder))


def test_a_hub_id_is_read_from_the_local_copy_when_offline(llama: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("0" * 40)
    shutil.copytree(llama, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    model = load_model("org/tiny", device="cpu")
    assert model.name_or_path == "org/tiny"
    assert base_name("org/tiny") == "org/tiny"
    assert load_tokenizer("org/tiny").name_or_path == "org/tiny"
    saved = adapter("org/tiny", tmp_path / "adapter")
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/tiny"


@pytest.mark.parametrize("setting", [{"dtype": "float8"}, {"device": "abacus"}])
def test_settings_that_do_not_exist(llama: Path, setting: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"float8|abacus"):
        load_model(str(llama), **setting)


def test_loading_is_quiet_and_leaves_the_logger_as_it_was(llama: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logging.set_verbosity_info()
    try:
        load_model(str(llama), device="cpu")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_context_length_looks_into_the_text_part_of_a_config() -> None:
    model = ARCHITECTURES["llama"]()
    model.config = AutoConfig.for_model("gemma3", text_config={"max_position_embeddings": 99})
    assert context_length(model) == 99
