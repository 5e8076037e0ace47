"""The logit lens: what a model would answer if it stopped after each layer.

The stream behind a layer goes through the final norm and the head. The rank of an answer's token tells where in the
model it is decided; of a problem with a shortcut, which of the two answers comes first, and where.

Reference:
    nostalgebraist 2020, interpreting GPT: the logit lens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from keepshot.errors import DataError, ModelError
from keepshot.models.roles import module_of
from keepshot.probes.taps import layer_of, parts_of


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """Ranks by layer: 1 is the token that the model would answer.

    Attributes:
        ranks: Of each prompt's tokens, behind each layer.
    """

    ranks: Int[Tensor, "layers prompts tokens"]

    def first(self, token: int) -> list[int | None]:
        """By prompt, the first layer behind which a token is at rank 1 and stays there; None where it is not."""
        found: list[int | None] = []
        for ranks in (self.ranks[:, :, token] == 1).T.tolist():
            number = len(ranks)
            while number and ranks[number - 1]:
                number -= 1
            found.append(number if number < len(ranks) else None)
        return found


def lens(model: PreTrainedModel | PeftModel, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Lens:
    """Ranks of some answers behind every layer, at the last token of each prompt.

    Args:
        model: Put into evaluation mode.
        prompts: Token ids; computed one by one.
        tokens: For each prompt the first tokens of the answers that are looked for, such as what rule and shortcut
            give.

    Raises:
        DataError: There are no prompts, or not as many answers for each.
        ModelError: The model type has no roles, or no norm behind its layers.
    """
    if not prompts or len(tokens) != len(prompts) or len({len(asked) for asked in tokens}) != 1:
        raise DataError("a lens needs prompts, and for each as many answers")
    model.eval()
    base, norm = _final_norm(model)
    head = base.get_output_embeddings()
    ranks = []
    for prompt, asked in zip(prompts, tokens, strict=True):
        with torch.no_grad():
            found = model(input_ids=torch.tensor([prompt], device=model.device), output_hidden_states=True)
            # The last of the states has been through the norm already; the first is the embedding.
            streams = torch.stack([state[0, -1] for state in found.hidden_states[1:-1]])
            logits = torch.cat([head(norm(streams)), found.logits[:, -1]]).float()
        scores = logits[:, list(asked)]
        ranks.append(1 + (logits[:, None, :] > scores[:, :, None]).sum(dim=-1))
    return Lens(torch.stack(ranks, dim=1).cpu())


def _final_norm(model: PreTrainedModel | PeftModel) -> tuple[PreTrainedModel, Any]:
    base, by_role = parts_of(model)
    outside = [module_of(part.parameter) for part in by_role["norm"] if layer_of(part.parameter) is None]
    if not outside:
        raise ModelError(f"{base.config.model_type} has no norm behind its layers, which the logit lens needs")
    return base, base.get_submodule(outside[-1])
