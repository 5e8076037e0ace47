"""What a training moved, seen on the prompts of the probes: `keepshot probe TUNED --against BASE [--circuits]`."""

from typing import Any

import torch

from keepshot.errors import DataError
from keepshot.models.load import load_model, load_tokenizer
from keepshot.probes.drift import drift
from keepshot.probes.patching import Patched, patch
from keepshot.prompts import TemplateName, choose_template, encode
from keepshot.runs.circuit_pairs import as_pair, partners
from keepshot.runs.circuit_record import PARTS, part_json
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


def circuits_moved(
    base: str, tuned: str, probes: Probes, *, template: TemplateName = "auto", batch: int = 32
) -> dict[str, Any]:
    """Which heads and MLPs carry the answers of both, without examples and behind random ones, by activation patching.

    A corrupt prompt is that of the nearest other query with as many tokens and another answer.

    Args:
        base: `mini`, a folder, an adapter folder, or a hub id.
        tuned: The same, of one architecture.
        probes: Whose queries are asked.
        template: How prompts are written.
        batch: Most pairs that are computed together.

    Returns:
        `base`, `pairs`, `shots`, and by name of a change and part (`heads`, `MLPs`) its `scores`, `shift` and `floor`,
        as in `keepshot.circuits/1`. The changes: `examples`, of the base from without to behind them; `tuning`, of the
        tuned model from the base without examples; `tuning behind examples`. Scores are of where a change leads.

    Raises:
        DataError: Fewer than two pairs can be made.
        ModelError: The models differ in their shapes, or have no roles.
    """
    tokenizer = load_tokenizer(base)
    chosen = choose_template(template, tokenizer)
    shown = {one.examples[-1]: one.examples[:-1] for one in probes.questions if one.context == "random"}
    pairs = []
    for both in partners(list(shown), list(probes.queries), chosen, tokenizer):
        alone, behind = (as_pair(both, context, chosen, tokenizer) for context in ((), shown[both.clean]))
        if alone is not None and behind is not None:
            pairs.append((alone, behind))
    if len(pairs) < 2:
        raise DataError(
            f"circuits need 2 pairs of queries whose prompts have as many tokens and whose answers differ; there are "
            f"{len(pairs)} among {len(probes.queries)} queries; ask for more --queries, or leave out --circuits"
        )

    def looked_at(name: str) -> list[Patched]:
        model = load_model(name, dtype="float32")  # 16 bits would round away small differences of logits
        return [patch(model, [pair[place] for pair in pairs], batch=batch) for place in (0, 1)]

    (before, in_context), (after, after_in_context) = looked_at(base), looked_at(tuned)
    changes = {
        "examples": (before, in_context),
        "tuning": (before, after),
        "tuning behind examples": (in_context, after_in_context),
    }
    return {
        "base": base,
        "pairs": len(pairs),
        "shots": probes.pool.shots,
        "changes": {
            name: {which: part_json(first, [second], which) for which in PARTS}
            for name, (first, second) in changes.items()
        },
    }


def _numbers(values: torch.Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
