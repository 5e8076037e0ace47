"""A soft prompt: vectors before the embedded tokens of a row, trained first and then kept as they are.

PEFT's prompt tuning puts its prompt before every row, discards `position_ids` and shifts the positions that are scored.
Here it is put before chosen rows of a batch, and what is scored moves with them; what is saved is a prompt of PEFT's.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from peft import PromptTuningConfig, TaskType
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from keepshot.errors import ModelError
from keepshot.keys import generator
from keepshot.models.load import CausalLM
from keepshot.strategies.trainable import TrainableSet

PARAMETER = "soft_prompt"
"""Name of the prompt among a model's parameters while it is trained."""

_CONFIG, _WEIGHTS, _VECTORS = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"


class SoftPrompt(BaseModel):
    """The first of two stages: a prompt learns the target's format, so that the weights need not.

    Attributes:
        tokens: Vectors of the prompt.
        learning_rate: Of its training; far above that of weights.
        steps: Of its training; None takes the run's.

    Reference:
        arXiv 2211.00635 (ProMoT): 50 to 100 vectors and Adafactor at .2 to .3 for models of 8 to 13 billion
        parameters. Ours is for AdamW, which moves a number by about the learning rate at every step; of .003, .01, .03
        and .1 it gave the lowest loss on the bundled model's word-rule after 50 steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    tokens: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=0.03, gt=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1)


def initial_prompt(model: CausalLM, ids: Sequence[int], tokens: int, seed: int) -> Float[Tensor, "tokens width"]:
    """The embeddings of some of a text's tokens: what the model is used to read.

    Args:
        model: Whose embeddings.
        ids: Of the text, such as all training rows; repetitions count once.
        tokens: So many are drawn, by key; none twice as long as there are others.
        seed: Of the run.

    Returns:
        Vectors in float32, as the model's embedding layer gives them (some models scale there).

    Reference:
        arXiv 2104.08691, which starts prompts at embeddings of the vocabulary.
    """
    drawn = generator(seed, "soft prompt")
    distinct = sorted(set(ids))
    rounds, rest = divmod(tokens, len(distinct))
    chosen = [token for _ in range(rounds) for token in drawn.sample(distinct, len(distinct))]
    chosen += drawn.sample(distinct, rest)
    with torch.no_grad():
        vectors = model.get_input_embeddings()(torch.tensor([chosen], device=model.device))[0]
    return vectors.float()


def prompt_set(model: CausalLM, prompt: Float[Tensor, "tokens width"]) -> TrainableSet:
    """A model of which nothing may move, and a prompt before it that may.

    The prompt becomes a parameter of the model, so that optimisers and checkpoints find it; `without_prompt` takes it
    away again.
    """
    model.requires_grad_(False)
    parameter = nn.Parameter(prompt.detach().clone().to(model.device))
    model.register_parameter(PARAMETER, parameter)
    total = sum(one.numel() for one in model.parameters())
    return TrainableSet(model, {PARAMETER: None}, parameter.numel(), total, parameter)


def without_prompt(trained: TrainableSet) -> Float[Tensor, "tokens width"]:
    """The prompt of `prompt_set`; its model is again what it was."""
    prompt: Tensor = trained.model.get_parameter(PARAMETER)
    delattr(trained.model, PARAMETER)
    return prompt.detach()


def insert_prompt(
    embedding: nn.Module,
    prompt: Float[Tensor, "tokens width"],
    input_ids: Int[Tensor, "rows length"],
    keep: Bool[Tensor, "rows length"],
    prompted: Bool[Tensor, " rows"],
) -> tuple[Float[Tensor, "rows longer width"], Bool[Tensor, "rows longer"]]:
    """Embedded rows with a prompt before some of them; the others stand where they stood, with more padding.

    Args:
        embedding: Of the model, which may scale.
        prompt: Goes before rows.
        input_ids: Right-padded.
        keep: Positions whose logits are wanted.
        prompted: The rows that it goes before.

    Returns:
        What to hand to the model as `inputs_embeds`, and the wanted positions in it, in the same order.

    Example:
        >>> import torch
        >>> embedding = torch.nn.Embedding.from_pretrained(torch.arange(4.0)[:, None])
        >>> ids = torch.tensor([[1, 2], [3, 2]])
        >>> keep = torch.tensor([[False, True], [False, True]])
        >>> embeds, kept = insert_prompt(embedding, torch.tensor([[9.0]]), ids, keep, torch.tensor([True, False]))
        >>> embeds[..., 0].tolist(), kept.nonzero().tolist()
        ([[9.0, 1.0, 2.0], [3.0, 2.0, 0.0]], [[0, 2], [1, 1]])
    """
    tokens, length = len(prompt), input_ids.shape[1]
    ids, kept = pad(input_ids, (0, tokens)), pad(keep, (0, tokens))
    # The padding on the right goes round to the left, where the prompt is put in its place.
    ids = torch.where(prompted[:, None], ids.roll(tokens, 1), ids)
    kept = torch.where(prompted[:, None], kept.roll(tokens, 1), kept)
    embedded = embedding(ids)
    first = torch.arange(length + tokens, device=ids.device) < tokens
    here = (prompted[:, None] & first)[..., None]
    vectors = pad(prompt.to(embedded.device, embedded.dtype), (0, 0, 0, length))
    return torch.where(here, vectors, embedded), kept


def prompt_digest(prompt: Float[Tensor, "tokens width"]) -> str:
    """A digest of the numbers."""
    digest = hashlib.blake2b(f"{tuple(prompt.shape)}".encode(), digest_size=16)
    digest.update(prompt.detach().float().contiguous().cpu().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_prompt(prompt: Float[Tensor, "tokens width"], folder: Path, base: str) -> None:
    """Write a prompt as PEFT's `PeftModel.from_pretrained` reads it.

    Args:
        prompt: Is saved in float32.
        folder: Is there.
        base: Name of the model that it was trained on.
    """
    tokens, width = prompt.shape
    PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=tokens,
        token_dim=width,
        num_transformer_submodules=1,
        base_model_name_or_path=base,
        inference_mode=True,
    ).save_pretrained(str(folder))
    save_file({_VECTORS: prompt.detach().float().cpu().contiguous()}, folder / _WEIGHTS)


def load_prompt(folder: Path) -> Float[Tensor, "tokens width"]:
    """Read a prompt of PEFT's prompt tuning, in float32 on the CPU.

    Raises:
        ModelError: There is none, or it is of another kind, or damaged.
    """
    if not (folder / _CONFIG).is_file():
        raise ModelError(f"{folder} holds no soft prompt; name the folder prompt/ of a run, or one saved by PEFT")
    try:
        settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        kind = settings["peft_type"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / _CONFIG} cannot be read: {error}") from None
    if kind != "PROMPT_TUNING":
        raise ModelError(f"{folder} holds an adapter of the kind {kind}, not a soft prompt (PROMPT_TUNING)")
    try:
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / _WEIGHTS} cannot be read: {error}") from None
    prompt = tensors.get(_VECTORS)
    if prompt is None or prompt.dim() != 2 or not bool(torch.isfinite(prompt).all()):
        raise ModelError(f"{folder / _WEIGHTS} holds no {_VECTORS} [tokens, width] of finite numbers; save it anew")
    return prompt.float()


def check_fits(prompt: Float[Tensor, "tokens width"], model: CausalLM) -> None:
    """Check that a prompt can stand before a model's embeddings.

    Raises:
        ModelError: Its vectors have another length.
    """
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.no_grad():
        width = model.get_input_embeddings()(ids).shape[-1]
    if prompt.shape[1] != width:
        raise ModelError(
            f"the soft prompt has vectors of {prompt.shape[1]} numbers, and the model's embeddings have {width}; it "
            "was trained on another model"
        )
