"""Which sampler a stream becomes, where its source is the bundled universe."""

import pytest

from keepshot.config import RunConfig, load_config
from keepshot.episodes import InstructedUniverse, Sampler, Universe
from keepshot.errors import ConfigError
from keepshot.runs.data import load_target
from keepshot.runs.streams import build_sampler
from keepshot.strategies import StreamSpec
from keepshot.tasks.builtin import builtin_suite

GENERAL = StreamSpec(name="general", source="general", share=0.1)
ICL = StreamSpec(name="icl-mix", sampler="k-shot", source="icl", share=0.2)


def config(**sources: object) -> RunConfig:
    return load_config({"model": "mini", "data": {"train": "mini:word-rule"}, "sources": sources})


def sampler(spec: StreamSpec, asked: RunConfig) -> Sampler:
    found, notes = build_sampler(spec, asked, load_target(asked.data, 0), builtin_suite().tasks, tuple)
    assert not notes
    return found


def test_zero_shot_streams_have_instructions_and_k_shot_streams_examples() -> None:
    general, icl = sampler(GENERAL, config()), sampler(ICL, config())
    assert isinstance(general, InstructedUniverse)
    assert isinstance(icl, Universe)
    assert all(len(general.draw(i).examples) == 1 and general.draw(i).examples[0].instruction for i in range(20))
    assert all(len(icl.draw(i).examples) > 1 and not icl.draw(i).examples[0].instruction for i in range(20))


@pytest.mark.parametrize("spec", [GENERAL, ICL], ids=lambda spec: spec.name)
def test_nothing_that_is_asked_zero_shot_is_practised(spec: StreamSpec) -> None:
    asked = {(e.input, e.output) for task in builtin_suite().tasks if task.zero_shot for e in task.examples}
    found = sampler(spec, config())
    assert not {(e.input, e.output) for i in range(300) for e in found.draw(i).examples} & asked


def test_families_without_instructions_are_refused_for_zero_shot_streams() -> None:
    with pytest.raises(ConfigError, match=r"families bits of the universe have no instructions.*'general' needs"):
        sampler(GENERAL, config(general=[{"path": "mini", "families": ["bits", "relation"]}]))
    of_relations = sampler(GENERAL, config(general=[{"path": "mini", "families": ["relation"]}]))
    assert isinstance(of_relations, InstructedUniverse)
    assert of_relations.drawn_from == ("relation",)
