"""Tiny random causal LMs of every family that keepshot knows, and one that it does not; a token id is a byte."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import keepshot.models

WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, HEAD_DIM, POSITIONS = 32, 2, 4, 2, 8, 256
WINDOW = 16
"""Tokens that a sliding layer sees: fewer than most prompts hold."""

_PLAIN = {
    "vocab_size": 256,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_UNGROUPED = {**_PLAIN, "intermediate_size": 48}
_GROUPED = {**_UNGROUPED, "num_key_value_heads": KEY_VALUE_HEADS}
_SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_GEMMA = {**_GROUPED, **_SLIDING, "head_dim": HEAD_DIM, "query_pre_attn_scalar": HEAD_DIM}

_SETTINGS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "llama": ("llama", {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**_GROUPED, "sliding_window": WINDOW}),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": HEAD_DIM}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3": ("gemma3_text", _GEMMA),
    "phi": ("phi", _GROUPED),
    "phi3": ("phi3", {**_GROUPED, "original_max_position_embeddings": POSITIONS}),
    "olmo2": ("olmo2", _GROUPED),
    "granite": ("granite", _GROUPED),
    "starcoder2": ("starcoder2", _GROUPED),
    "gpt2": ("gpt2", {**_PLAIN, "n_inner": 48}),
    "gpt_neox": ("gpt_neox", _UNGROUPED),
    "opt": ("opt", {**_PLAIN, "ffn_dim": 48, "word_embed_proj_dim": WIDTH}),
    "bloom": ("bloom", {key: value for key, value in _PLAIN.items() if key != "max_position_embeddings"}),
}
_RELATED: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "gemma": ("gemma", {**_GROUPED, "head_dim": HEAD_DIM}),
    "olmo": ("olmo", _GROUPED),
    "olmo3": ("olmo3", {**_GROUPED, **_SLIDING}),
    "smollm3": ("smollm3", _GROUPED),
    "stablelm": ("stablelm", _GROUPED),
}


def _build(name: str) -> PreTrainedModel:
    model_type, settings = {**_SETTINGS, **_RELATED}[name]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings), dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # biases and norms start as zeros and ones, which hide what they do
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {name: partial(_build, name) for name in _SETTINGS}
"""Builders of float32 models in evaluation mode with 256 tokens, 2 layers, 4 heads of 8, 256 positions (bloom: any).

Every call builds the same numbers; they are large enough for different inputs to get clearly different logits.
`bloom` is the architecture without roles; `llama`, `gemma2`, `gemma3`, `starcoder2`, `gpt2`, `opt` and `bloom` tie
their heads; `mistral`, `gemma2` and `gemma3` have layers that see 16 tokens.
"""

RELATIVES: dict[str, Callable[[], PreTrainedModel]] = {name: partial(_build, name) for name in _RELATED}
"""More model types with roles, whose code differs too little from the above to be tested for anything else."""


def save_tiny(model: PreTrainedModel, folder: Path) -> Path:
    """Save `model` and the bundled byte tokenizer as a model folder; returns `folder`."""
    model.save_pretrained(folder)
    mini = Path(next(iter(keepshot.models.__path__))) / "mini"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(mini / name, folder / name)
    return folder
