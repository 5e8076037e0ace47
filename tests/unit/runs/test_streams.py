"""Which sampler a stream becomes, where its source is the bundled universe."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keepshot.config import RunConfig, load_config
from keepshot.episodes import InstructedUniverse, Sampler, Universe
from keepshot.errors import ConfigError, DataError
from keepshot.models.load import load_tokenizer
from keepshot.prompts import PLAIN
from keepshot.runs.data import load_suites, load_target
from keepshot.runs.streams import build_sampler
from keepshot.runs.training import Encoder
from keepshot.strategies import StreamSpec
from keepshot.tasks.builtin import builtin_suite

GENERAL = StreamSpec(name="general", source="general", share=0.1)
ENCODER = Encoder(PLAIN, load_tokenizer("mini"), 1024)
ICL = StreamSpec(name="icl-mix", sampler="k-shot", source="icl", share=0.2)


def config(**sources: object) -> RunConfig:
    return load_config({"model": "mini", "data": {"train": "mini:word-rule"}, "sources": sources})


def sampler(spec: StreamSpec, asked: RunConfig) -> Sampler:
    found, notes = build_sampler(spec, asked, load_target(asked.data, 0), builtin_suite().tasks, ENCODER)
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


def test_a_task_with_rows_to_show_is_trained_on_these_and_not_on_its_test_rows(tmp_path: Path) -> None:
    for part, count in (("train", 60), ("test", 25)):
        rows = [{"input": f"{part} {place}", "output": str(place)} for place in range(count)]
        (tmp_path / f"next.{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = config(icl=[{"path": str(tmp_path)}])
    held_out = builtin_suite().tasks
    found, notes = build_sampler(ICL, asked, load_target(asked.data, 0), held_out, ENCODER)
    seen = {example.input for index in range(300) for example in found.draw(index).examples}
    assert seen == {f"train {place}" for place in range(60)}
    assert notes == ["Left out of stream icl-mix: the 25 test rows of next, which has 60 others."]
    [task] = load_suites(str(tmp_path))[0].tasks
    with pytest.raises(DataError, match=r"nothing of .* can be used for the stream 'icl-mix'"):  # nor if it is held out
        build_sampler(ICL, asked, load_target(asked.data, 0), (*held_out, task), ENCODER)


@pytest.mark.parametrize("spec", [GENERAL, ICL], ids=lambda spec: spec.name)
def test_a_source_may_call_its_columns_otherwise(spec: StreamSpec, tmp_path: Path) -> None:
    file = tmp_path / "next.jsonl"
    file.write_text("".join(f'{{"q": "{n}", "a": "{n + 1}", "id": {n}}}\n' for n in range(40)))
    asked = config(**{spec.source: [{"path": str(file), "columns": {"input": "q", "output": "a"}}]})
    found, notes = build_sampler(spec, asked, load_target(asked.data, 0), builtin_suite().tasks, ENCODER)
    seen = {(one.input, one.output) for index in range(200) for one in found.draw(index).examples}
    assert seen == {(str(n), str(n + 1)) for n in range(40)}
    assert notes == ([f"Columns of {file} that are not used: id."] if spec is GENERAL else [])


DIGESTS = """
import json, sys
from pathlib import Path
from keepshot.config import load_config
from keepshot.runs.data import evaluation_suite, load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.preparation import prepare
from keepshot.strategies import ADDITIONS

def config(addition):
    return load_config({"model": "mini", "data": {"train": "mini:word-kind"}, "suite": "mini", "output": output,
                        "method": ["full", addition], "train": {"max_steps": 2}})

target = load_target(config("general").data, 0)
suite = evaluation_suite(config("general"), target)[0]
folder = RunFolder(Path(output))
found = {addition: prepare(config(addition), target, suite, folder).digests for addition in ADDITIONS}
"""


def test_another_process_knows_what_a_run_was_begun_with(tmp_path: Path) -> None:
    """Whatever the order of its sets: a run that was killed would not be taken up again."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"  # here it is another
    code = f"output = {str(tmp_path / 'there')!r}\n{DIGESTS}print(json.dumps(found))"
    other = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
    )
    here: dict[str, Any] = {"output": str(tmp_path / "here")}
    exec(DIGESTS, here)  # our own text
    there = json.loads(other.communicate()[0].splitlines()[-1])
    assert here["found"] == there
    assert len({digests["sources"] for digests in there.values()}) > 5
