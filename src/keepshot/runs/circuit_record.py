"""Circuits of several states of a model as JSON: scores, shifts from the base without examples, noise floors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np

from keepshot.probes.circuit_shift import SHARES, Shift, Which, noise_floor, normalised, shift, shift_interval
from keepshot.probes.lens import Lens
from keepshot.probes.patching import Patched
from keepshot.runs.circuit_pairs import Corruption
from keepshot.runs.folder import versions
from keepshot.runs.pattern_intervals import rate
from keepshot.runs.pattern_questions import Rate, Rates
from keepshot.runs.pattern_record import over_seeds
from keepshot.runs.patterns_config import PatternCell, PatternsConfig
from keepshot.tasks.patterns import PatternName

SCHEMA = "keepshot.circuits/1"
PARTS: tuple[Which, Which] = ("heads", "MLPs")
MEASURES = ("l1", *(f"jaccard {share:.0%}" for share in SHARES), "rank")
_floor = lru_cache(maxsize=16)(noise_floor)  # that of the base is asked for with every other state
_ANSWERS = ("shortcut", "rule")


@dataclass(frozen=True, slots=True)
class State:
    """A model behind a kind of prompt.

    Attributes:
        name: Trainings that differ in their seed alone share it.
        shots: Examples in the prompt.
        rates: What it answered.
        patched: Its circuit.
        lens: Ranks of the answers of shortcut and rule, on broken problems; None where not asked.
        cell: Which training; None for the base.
    """

    name: str
    shots: int
    rates: Rates
    patched: Patched
    lens: Lens | None = None
    cell: PatternCell | None = None


def circuits_record(
    config: PatternsConfig, found: Mapping[PatternName, Sequence[State]], corrupt: Corruption
) -> dict[str, Any]:
    """The record (schema `keepshot.circuits/1`).

    Args:
        config: Of the experiment.
        found: By task, its states: the base without examples, behind k, behind k with random labels, and the tuned.
        corrupt: What the corrupt problems are.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": config.model,
        "versions": versions(),
        "corrupt": corrupt,
        "tasks": {task: _task(states) for task, states in found.items()},
    }


def _task(states: Sequence[State]) -> dict[str, Any]:
    base = states[0].patched
    named: dict[str, list[State]] = {}
    for state in states:
        named.setdefault(state.name, []).append(state)
    return {
        "pairs": base.effects.shape[1],
        "layers": 1 + max(component.layer for component in base.components),
        "states": [_state(name, alike, base) for name, alike in named.items()],
        "context": {which: part_json(states[2].patched, [states[1].patched], which) for which in PARTS},
        "matched": _matched(states[1], named),
    }


def _matched(in_context: State, named: Mapping[str, Sequence[State]]) -> list[dict[str, Any]]:
    """By method, the state that is right nearly as often as the base in context: shifts compare best between these."""
    wanted = _accuracy([in_context])
    nearest: dict[str, dict[str, Any]] = {}
    for name, alike in named.items():
        cell, accuracy = alike[0].cell, _accuracy(alike)
        if cell is None or accuracy is None or wanted is None:
            continue
        difference = accuracy - wanted
        if cell.method not in nearest or abs(difference) < abs(nearest[cell.method]["difference"]):
            nearest[cell.method] = {"state": name, "difference": difference}
    return list(nearest.values())


def _accuracy(alike: Sequence[State]) -> float | None:
    found = _rate([state.rates.holds for state in alike])
    return None if found is None else found["value"]


def _rate(over_seeds: Sequence[Rate | None]) -> dict[str, Any] | None:
    known = [one for one in over_seeds if one is not None]
    return rate([one.value for one in known], known[0].n) if known else None


def _state(name: str, alike: Sequence[State], base: Patched) -> dict[str, Any]:
    """Trainings that differ in their seed: means over them."""
    first = alike[0]
    return {
        "name": name,
        "method": None if first.cell is None else first.cell.method,
        "examples": None if first.cell is None else first.cell.examples,
        "shots": first.shots,
        "seeds": None if first.cell is None else len(alike),
        "trainings": [str(state.cell.folder) for state in alike if state.cell is not None],
        "accuracy": _rate([state.rates.holds for state in alike]),
        "pattern_use": _rate([state.rates.pattern_use for state in alike]),
        "difference": {
            "clean": float(np.mean([state.patched.clean.mean() for state in alike])),
            "corrupt": float(np.mean([state.patched.corrupt.mean() for state in alike])),
        },
        "whole": float(np.mean([state.patched.whole.mean() for state in alike])),
        "parts": {which: part_json(base, [state.patched for state in alike], which) for which in PARTS},
        "lens": _lens([state.lens for state in alike]),
    }


def part_json(base: Patched, alike: Sequence[Patched], which: Which) -> dict[str, Any]:
    """Scores by layer, the shift from a base, and what it must exceed: the higher of both noise floors.

    Intervals are over the states that are alike, such as seeds; those of a single state over pairs.
    """
    moved = [_measures(shift(base, patched, which)) for patched in alike]
    own = [_measures(_floor(patched, which)) for patched in alike]
    floor = _measures(_floor(base, which))
    highest = {
        name: max([value for one in (floor, *own) if (value := one[name]) is not None], default=None)
        for name in MEASURES
    }
    return {
        "scores": _by_layer(alike, which),
        "shift": {name: over_seeds([one[name] for one in moved]) for name in MEASURES}
        if len(alike) > 1
        else _over_pairs(base, alike[0], which),
        "floor": highest,
    }


def _over_pairs(base: Patched, patched: Patched, which: Which) -> dict[str, dict[str, float | None] | None]:
    value, (low, high) = shift(base, patched, which), shift_interval(base, patched, which)
    limits = {end: _measures(one) for end, one in (("value", value), ("low", low), ("high", high))}
    return {
        name: None if limits["value"][name] is None else {end: found[name] for end, found in limits.items()}
        for name in MEASURES
    }


def _measures(found: Shift) -> dict[str, float | None]:
    return dict(zip(MEASURES, (found.l1, *found.jaccard, found.rank), strict=True))


def _by_layer(patched: Sequence[Patched], which: Which) -> list[list[float]]:
    """Normalised scores, mean over the states: a row for each layer."""
    rows: dict[int, list[float]] = {}
    every = [normalised(one, which) for one in patched]
    for component in every[0]:
        rows.setdefault(component.layer, []).append(float(np.mean([one[component] for one in every])))
    return [rows[layer] for layer in sorted(rows)]


def _lens(found: Sequence[Lens | None]) -> dict[str, Any] | None:
    """For each answer the share of problems that end with it at rank 1, and from which layer on, in the mean."""
    looked = [one for one in found if one is not None]
    if not looked:
        return None
    told = {}
    for place, name in enumerate(_ANSWERS):
        firsts = [layer for one in looked for layer in one.first(place)]
        said = [layer for layer in firsts if layer is not None]
        told[name] = {
            "share": len(said) / len(firsts),
            "layer": float(np.mean(said)) if said else None,
        }
    return told
