"""What a training moved, seen on the prompts of the probes: `keepshot probe TUNED --against BASE`."""

from typing import Any

import torch

from keepshot.models.load import load_model, load_tokenizer
from keepshot.probes.drift import drift
from keepshot.prompts import TemplateName, choose_template, encode
from keepshot.runs.probing import Probes

PROMPTS = 32


def moved(base: str, tuned: str, probes: Probes, *, template: TemplateName = "auto") -> dict[str, Any]:
    """The drift between two checkpoints on queries behind random examples.

    Args:
        base: `mini`, a folder, an adapter folder, or a hub id.
        tuned: The same, of one architecture.
        probes: Whose first queries are taken.
        template: How prompts are written.

    Returns:
        `base`, `prompts`, and by layer `attention` and `outputs` (a number for each head), `values`, and `weights` by
        role; null where a role has no weights in a layer. See `keepshot.probes.drift`.

    Raises:
        ModelError: The models differ in their shapes, or have no roles.
    """
    tokenizer = load_tokenizer(base)
    asked = [question.examples for question in probes.questions if question.context == "random"][:PROMPTS]
    rows = encode([choose_template(template, tokenizer).render(examples) for examples in asked], tokenizer)
    prompts = [row.ids[: row.answers[-1][0]] for row in rows]
    queries = [row.answers[-2][1] for row in rows]  # what stands behind the last demonstration
    found = drift(load_model(base), load_model(tuned), prompts, queries)
    return {
        "base": base,
        "prompts": len(prompts),
        "attention": found.attention.tolist(),
        "values": found.values.tolist(),
        "outputs": found.outputs.tolist(),
        "weights": {role: _numbers(values) for role, values in found.weights.items()},
    }


def _numbers(values: torch.Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
