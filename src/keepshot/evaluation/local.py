"""A transformers model as a backend."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from keepshot.evaluation.backend import Score
from keepshot.evaluation.generation import end_tokens, generate, takes_padding
from keepshot.evaluation.scorer import Scorer
from keepshot.models.load import CausalLM
from keepshot.prompts import Row
from keepshot.strategies import adapter_fingerprint, fingerprint
from keepshot.strategies.soft_prompt import prompt_digest

# Goes up when the same weights and prompts give other numbers than before, beyond rounding.
NUMBERS = 2
_NAMES_ONLY = {"transformers_version", "base_model_name_or_path", "inference_mode", "revision", "architectures"}


class LocalModel:
    """Answers of a model in this process.

    Args:
        model: Is put into evaluation mode.
        tokenizer: The model's.
        prompt: A soft prompt before all that it reads; None is none.

    Raises:
        ModelError: The prompt was trained on another model.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Float[Tensor, "tokens width"] | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.prompt = prompt
        # Not the padding token: some models would warn of a missing mask, which padding on the right does not need.
        self._takes_padding: bool | None = None
        self._scorer = Scorer(model, pad_id=int(tokenizer.pad_token_id == 0), prompt=prompt)

    @property
    def shares(self) -> bool:
        """Whether prompts that begin alike are computed once."""
        return self._scorer.shares

    def identity(self) -> str:
        """A digest of weights, adapter, soft prompt, settings and dtype."""
        return model_identity(self.model, self.prompt)

    def score(self, levels: Sequence[Sequence[Row]]) -> Iterator[list[Score]]:
        """Scores of every level; see `Scorer`."""
        return self._scorer.score(levels)

    def generate(self, rows: Sequence[Row], stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """What greedy decoding writes; see `generate`."""
        if self._takes_padding is None:
            self._takes_padding = takes_padding(self.model)
        return generate(
            self.model, self.tokenizer, rows, stop, max_new_tokens, prompt=self.prompt, padded=self._takes_padding
        )


def model_identity(model: CausalLM, prompt: Float[Tensor, "tokens width"] | None = None) -> str:
    """A digest of all that a model's answers depend on: weights, active adapters, config, dtype and end tokens.

    A base whose adapters are switched off has the identity of the base alone.

    Args:
        model: Who answers.
        prompt: The soft prompt that it answers with.
    """
    adapted = isinstance(model, PeftModel) and model.get_model_status().enabled is not False
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    parts = [str(NUMBERS), _settings(base.config.to_dict()), str(end_tokens(base))]
    parts += map(":".join, fingerprint(model, {}).items())
    for name in model.active_adapters if adapted else ():
        parts.append(_settings(model.peft_config[name].to_dict()))
        parts += map(":".join, adapter_fingerprint(model, name).items())
        layers = [module for module in base.modules() if isinstance(module, LoraLayer)]
        parts += [str(layer.scaling[name]) for layer in layers if name in layer.scaling]  # may differ from the config
    if prompt is not None:
        parts.append(prompt_digest(prompt))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _settings(values: dict[str, Any]) -> str:
    """Settings as text, without those that say where files lie."""
    kept = {k: v for k, v in values.items() if k not in _NAMES_ONLY and not k.startswith("_name")}
    return json.dumps(
        kept, sort_keys=True, default=lambda value: sorted(map(str, value)) if isinstance(value, set) else str(value)
    )
