"""A soft prompt before some rows of a batch: against plain forward passes, and against PEFT's own."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import save_file
from tests.architectures import ARCHITECTURES
from torch import Tensor

from keepshot.errors import ModelError
from keepshot.models.load import CausalLM, load_model, peft_warnings
from keepshot.strategies import fingerprint
from keepshot.strategies.soft_prompt import (
    check_fits,
    initial_prompt,
    insert_prompt,
    load_prompt,
    prompt_digest,
    prompt_set,
    save_prompt,
    without_prompt,
)

# Scaled embeddings (gemma3, granite), learned positions (gpt2, opt), ALiBi (bloom), a sliding window (mistral).
FAMILIES = ("llama", "gpt2", "gpt_neox", "phi3", "gemma3", "opt", "bloom", "mistral", "granite")
TOKENS = 5
LENGTHS = (9, 14, 21, 6)
PROMPTED = (True, False, True, False)


def rows_of_tokens() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randint(2, 256, (length,), generator=draw) for length in LENGTHS]


def prompt_for(model: CausalLM, tokens: int = TOKENS) -> Tensor:
    """Vectors of the embeddings' size that are no embedding."""
    some = model.get_input_embeddings()(torch.arange(256)[None])[0].detach()
    return some.std() * torch.randn(tokens, some.shape[1], generator=torch.Generator().manual_seed(1))


def plain(model: CausalLM, ids: Tensor, prompt: Tensor | None) -> Tensor:
    """Logits of a row by itself, those of the prompt's positions left out."""
    with torch.no_grad():
        embeds = model.get_input_embeddings()(ids[None])
        if prompt is not None:
            embeds = torch.cat([prompt[None], embeds], dim=1)
        return model(inputs_embeds=embeds, use_cache=False).logits[0, 0 if prompt is None else len(prompt) :]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_before_some_rows_leaves_the_others_alone_and_moves_what_is_scored(name: str) -> None:
    model = ARCHITECTURES[name]()
    prompt = prompt_for(model)
    rows = rows_of_tokens()
    ids = torch.zeros(len(rows), max(LENGTHS), dtype=torch.long)
    keep = torch.zeros(ids.shape, dtype=torch.bool)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
        keep[at, [2, len(row) - 1]] = True
    embeds, kept = insert_prompt(model.get_input_embeddings(), prompt, ids, keep, torch.tensor(PROMPTED))
    with torch.no_grad():
        found = model(inputs_embeds=embeds, use_cache=False, logits_to_keep=kept).logits
    behind = [plain(model, row, prompt) for row in rows]
    alone = [plain(model, row, None) for row in rows]
    expected = [(behind if prompted else alone)[at][[2, -1]] for at, prompted in enumerate(PROMPTED)]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    # It matters, so that a prompt put elsewhere or left out would have shown.
    assert all(float((a - b)[-1].abs().max()) > 0.01 for a, b in zip(behind, alone, strict=True))


def test_gradients_reach_the_prompt_and_the_embeddings() -> None:
    embedding = torch.nn.Embedding(4, 2)
    prompt = torch.randn(3, 2, requires_grad=True)
    ids, keep = torch.tensor([[1, 2], [1, 3]]), torch.ones(2, 2, dtype=torch.bool)
    embeds, _ = insert_prompt(embedding, prompt, ids, keep, torch.tensor([True, False]))
    embeds.sum().backward()
    assert torch.equal(prompt.grad, torch.ones(3, 2)), "once: one of two rows has it"
    # Token 0 is padding of the row without a prompt; under the prompt it has no part.
    assert torch.equal(embedding.weight.grad[:, 0], torch.tensor([3.0, 2.0, 1.0, 1.0]))


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_prompt_starts_at_embeddings_of_the_text_as_the_model_reads_them(name: str) -> None:
    model = ARCHITECTURES[name]()
    text = [7, 9, 7, 11, 30, 9]
    read = {tuple(vector.tolist()) for vector in model.get_input_embeddings()(torch.tensor([text]))[0].detach()}
    prompt = initial_prompt(model, text, 4, seed=0)
    assert {tuple(vector.tolist()) for vector in prompt} == read, "as many as there are: each once"
    longer = [tuple(vector.tolist()) for vector in initial_prompt(model, text, 9, seed=0)]
    assert sorted(longer.count(vector) for vector in read) == [2, 2, 2, 3]
    assert torch.equal(prompt, initial_prompt(model, text[::-1], 4, seed=0))
    assert not torch.equal(prompt, initial_prompt(model, text, 4, seed=1))


def test_nothing_but_the_prompt_may_move_and_afterwards_the_model_is_what_it_was() -> None:
    model = ARCHITECTURES["llama"]()
    before, names = fingerprint(model, {}), list(model.state_dict())
    prompt = prompt_for(model)
    trained = prompt_set(model, prompt)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == list(trained.parts) == ["soft_prompt"]
    assert trained.num_parameters == prompt.numel()
    assert trained.prompt is model.soft_prompt
    with torch.no_grad():
        trained.prompt.add_(1.0)
    assert torch.equal(without_prompt(trained), prompt + 1.0)
    assert (fingerprint(model, {}), list(model.state_dict())) == (before, names)


@pytest.mark.parametrize("name", FAMILIES)
def test_peft_loads_what_is_saved_and_gives_the_same_logits(name: str, tmp_path: Path) -> None:
    model = ARCHITECTURES[name]()
    prompt = prompt_for(model)
    save_prompt(prompt, tmp_path, "base/model")
    assert torch.equal(load_prompt(tmp_path), prompt)
    row = rows_of_tokens()[1]
    ours = plain(model, row, prompt)
    with peft_warnings():
        loaded = PeftModel.from_pretrained(model, str(tmp_path)).eval()
    with torch.no_grad():
        theirs = loaded(input_ids=row[None], use_cache=False).logits[0]
    torch.testing.assert_close(theirs[TOKENS:], ours, rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "base/model"


def test_a_prompt_of_peft_is_read(tmp_path: Path) -> None:
    model = ARCHITECTURES["llama"]()
    with peft_warnings():
        theirs = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    theirs.save_pretrained(tmp_path)
    torch.testing.assert_close(load_prompt(tmp_path), theirs.prompt_encoder["default"].embedding.weight.detach())


def test_a_digest_tells_prompts_apart() -> None:
    prompt = torch.randn(4, 6)
    other = prompt.clone()
    other[3, 5] += 1e-6
    found = {prompt_digest(prompt), prompt_digest(other), prompt_digest(prompt.reshape(6, 4))}
    assert len(found) == 3
    assert prompt_digest(prompt.clone()) in found


def test_what_is_no_prompt_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no soft prompt"):
        load_prompt(tmp_path / "nowhere")
    model = ARCHITECTURES["llama"]()
    with peft_warnings():
        get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2)).save_pretrained(tmp_path / "lora")
    with pytest.raises(ModelError, match="of the kind LORA, not a soft prompt"):
        load_prompt(tmp_path / "lora")
    save_prompt(torch.randn(3, 8), tmp_path, "base")
    with pytest.raises(ModelError, match="vectors of 8 numbers, and the model's embeddings have 32"):
        check_fits(load_prompt(tmp_path), ARCHITECTURES["llama"]())
    for tensors in ({"other": torch.zeros(3, 8)}, {"prompt_embeddings": torch.full((3, 8), torch.nan)}):
        save_file(tensors, tmp_path / "adapter_model.safetensors")
        with pytest.raises(ModelError, match=r"holds no prompt_embeddings \[tokens, width\] of finite numbers"):
            load_prompt(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors cannot be read"):
        load_prompt(tmp_path)
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read"):
        load_prompt(tmp_path)


def test_a_prompt_named_as_a_model_points_to_the_option(tmp_path: Path) -> None:
    save_prompt(torch.randn(3, 256), tmp_path, "mini")
    with pytest.raises(ModelError, match=f"keepshot eval MODEL --prompt {tmp_path}"):
        load_model(str(tmp_path), device="cpu")
