import gc
import json
import sqlite3
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.architectures import ARCHITECTURES, save_tiny
from transformers import AutoTokenizer

from keepshot.errors import ConfigError, ModelError, RunError
from keepshot.evaluation import (
    EvaluationPlan,
    LocalModel,
    check_paired,
    difference,
    evaluate_tasks,
    read_items,
    retention_report,
)
from keepshot.models.load import load_model, load_tokenizer, peft_warnings
from keepshot.models.source import model_source
from keepshot.runs import (
    default_cache,
    evaluate,
    evaluate_against,
    evaluation,
    evaluation_json,
    load_evaluation,
    subjects,
)
from keepshot.runs.digests import asked_digest
from keepshot.runs.evaluation_files import half_width, save_evaluation
from keepshot.runs.subjects import load_subject
from keepshot.strategies.soft_prompt import initial_prompt, load_prompt, save_prompt
from keepshot.tasks.builtin import builtin_suite
from keepshot.tasks.example import Example, Suite, Task, Wording

PLAN = EvaluationPlan(shots=(0, 4), sets=2, queries=5, seed=1)
BRIEF = replace(PLAN, shots=(0,), queries=2)
MINI = {task.name: task for task in builtin_suite().tasks}
SUITE = Suite("s", (MINI["subtract-17"], MINI["weighted-digits"]))
CLOSE = 1e-4
"""Log-likelihoods of equal weights that took different ways, in nats: an adapter is attached, or was never there."""


def adapter(base: str, folder: Path, seed: int) -> str:
    """A LoRA adapter that changes answers."""
    with torch.random.fork_rng(devices=[]), peft_warnings():
        torch.manual_seed(seed)
        model = get_peft_model(load_model(base), LoraConfig(target_modules=["q_proj", "v_proj"], r=2))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.12)
    model.save_pretrained(folder, save_embedding_layers=False)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The base, an adapter on it, another model, an adapter on that, another adapter on the base."""
    folder = tmp_path_factory.mktemp("models")
    other = load_model("mini")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for parameter in other.parameters():
            parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
    save_tiny(other, folder / "other")
    names = ["mini", adapter("mini", folder / "a", 1), str(folder / "other")]
    return [*names, adapter(names[2], folder / "b", 2), adapter("mini", folder / "c", 3)]


@pytest.fixture(scope="module")
def alone(models: list[str]) -> list[evaluation.Evaluation]:
    return [evaluate(name, suite=SUITE, plan=PLAN) for name in models]


@pytest.fixture(scope="module")
def together(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[evaluation.Evaluation], Path]:
    output = tmp_path_factory.mktemp("out") / "deep" / "eval.json"
    return evaluate_against(models, suite=SUITE, plan=PLAN, output=output), output


def assert_same(found, expected):
    assert found.model == expected.model
    assert [replace(item, nll=0.0) for item in found.items] == [replace(item, nll=0.0) for item in expected.items]
    assert [item.nll for item in found.items] == pytest.approx([item.nll for item in expected.items], abs=CLOSE)


def test_models_side_by_side_are_each_what_they_are_alone(together, alone, models):
    found, _ = together
    assert [evaluation.model for evaluation in found] == models
    for mine, expected in zip(found, alone, strict=True):
        assert_same(mine, expected)
        check_paired(found[0], mine)
    nlls = [[item.nll for item in evaluation.items] for evaluation in alone]
    for i, first in enumerate(nlls):
        for second in nlls[:i]:
            assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 100 * CLOSE, "models too much alike"


def test_the_base_is_loaded_once_and_comes_out_as_it_went_in(models, monkeypatch):
    loaded = []

    def load(name):
        loaded.append((name, load_model(name)))
        return loaded[-1][1]

    monkeypatch.setattr(subjects, "load_model", load)
    evaluate_against(models, suite=SUITE, plan=BRIEF)
    assert [name for name, _ in loaded] == ["mini", models[2], models[3]]
    before, after = load_model("mini").state_dict(), loaded[0][1].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_there_are_never_two_models_in_memory(models, monkeypatch):
    loaded = []

    def load(name):
        gc.collect()
        assert not [name for name, model in loaded if model() is not None], "still there"
        model = load_model(name)
        loaded.append((name, weakref.ref(model)))
        return model

    monkeypatch.setattr(subjects, "load_model", load)
    evaluate_against([*models, "mini"], suite=SUITE, plan=BRIEF)
    assert len(loaded) == 4


def test_an_adapter_can_be_the_base(models, alone):
    found = evaluate_against([models[1], "mini", models[4]], suite=SUITE, plan=PLAN)
    for mine, expected in zip(found, (alone[1], alone[0], alone[4]), strict=True):
        assert_same(mine, expected)


def test_what_is_written_holds_every_model(together, alone, models):
    found, output = together
    written = json.loads(output.read_text())
    assert written["schema"] == "keepshot.eval/1"
    assert written["model"] == "mini"
    assert [entry["model"] for entry in written["against"]] == models[1:]
    for index, mine in enumerate(found):
        items = output.with_name("eval.items.parquet" if index == 0 else f"eval.items.{index}.parquet")
        assert read_items(items) == mine.items
    assert len(list(output.parent.iterdir())) == 1 + len(models)
    for entry, mine in zip(written["against"], found[1:], strict=True):
        assert entry["mean"] == evaluation_json(mine)["mean"]
        assert entry["retention"] == json.loads(json.dumps(retention_report(found[0], mine)))
        for shots in PLAN.shots:
            gap = entry["difference"][str(shots)]
            expected = difference(found[0], mine, list(mine.tasks), shots)
            assert (gap["value"], gap["low"], gap["high"]) == (expected.value, expected.low, expected.high)
            assert gap["low"] <= gap["value"] <= gap["high"]
    kept = written["against"][0]["retention"]
    assert kept["shots"] == 4
    assert kept["low"] <= kept["value"] <= kept["high"]


def test_one_model_is_written_without_others(tmp_path, alone):
    evaluate("mini", suite=SUITE, plan=PLAN, output=tmp_path / "e.json")
    written = json.loads((tmp_path / "e.json").read_text())
    assert "against" not in written
    assert written == evaluation_json(alone[0]) | {"asked": written["asked"]}
    assert {path.name for path in tmp_path.iterdir()} == {"e.json", "e.items.parquet"}


def test_with_until_the_base_decides_on_the_number_of_sets(models, tmp_path):
    plan = replace(PLAN, until=0.08, most_sets=6)  # no spread, but 3 / .08 questions to ask
    found = evaluate_against([models[2], models[3]], suite=SUITE, plan=plan, output=tmp_path / "e.json")
    assert [mine.sets for mine in found] == [4, 4]
    written = json.loads((tmp_path / "e.json").read_text())
    assert (written["sets"], written["first_sets"], written["until"]) == (4, 2, 0.08)
    assert evaluate(models[3], suite=SUITE, plan=plan).sets == 6, "alone, it would be asked more"


def test_half_the_interval_is_that_of_the_largest_shot_count_that_fits(alone):
    point = evaluation_json(alone[0])["mean"]["4"]
    assert half_width(alone[0]) == pytest.approx((point["high"] - point["low"]) / 2)
    zero_shot = replace(alone[0], cells={cell: items for cell, items in alone[0].cells.items() if cell[1] == 0})
    point = evaluation_json(alone[0])["mean"]["0"]
    assert half_width(zero_shot) == pytest.approx((point["high"] - point["low"]) / 2)
    assert half_width(replace(alone[0], cells={})) == float("inf")


# What cannot be compared


def asks_nothing(monkeypatch):
    """Fail if a model is asked anything but what the base of a comparison is."""
    asked = []
    score = LocalModel.score

    def counted(self, levels):
        asked.append(self)
        assert self is asked[0], "another model was asked before its prompts were known to differ"
        return score(self, levels)

    monkeypatch.setattr(LocalModel, "score", counted)


def without_begin(folder: Path) -> str:
    """A model whose tokenizer writes no begin token."""
    save_tiny(ARCHITECTURES["llama"](), folder)
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    return str(folder)


def chatty(folder: Path) -> str:
    """A model whose tokenizer has a chat template."""
    save_tiny(ARCHITECTURES["llama"](), folder)
    tokenizer = AutoTokenizer.from_pretrained(model_source("mini"))
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("make", [without_begin, chatty])
def test_a_model_that_reads_other_prompts_is_named_before_it_is_asked(make, tmp_path, monkeypatch):
    name = make(tmp_path / "m")
    asks_nothing(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        evaluate_against(["mini", name], suite=SUITE, plan=PLAN, output=tmp_path / "e.json")
    message = str(caught.value)
    assert "\n" not in message
    assert f"{name} reads other prompts than mini" in message
    assert "--template plain" in message
    assert not (tmp_path / "e.json").exists()


def test_one_template_for_both_makes_a_chat_model_comparable(tmp_path):
    name = chatty(tmp_path / "m")
    found = evaluate_against(["mini", name], suite=SUITE, plan=BRIEF, template="plain")
    check_paired(*found)


def test_tasks_with_a_wording_of_their_own_need_no_common_template(tmp_path):
    tasks = tuple(replace(task, wording=Wording(" ", "\n")) for task in SUITE.tasks)
    base, tuned = evaluate_against(["mini", chatty(tmp_path / "m")], suite=Suite("s", tasks), plan=BRIEF)
    assert [item.prompt for item in base.items] == [item.prompt for item in tuned.items]


def test_prompts_that_differ_later_are_found_all_the_same(models, monkeypatch):
    monkeypatch.setattr(evaluation, "_first_prompts", lambda subject, suite: [])
    with pytest.raises(RunError, match="asked different prompts"):
        evaluate_against(["mini", without_begin(Path(models[2]).parent / "m")], suite=SUITE, plan=PLAN)


def test_a_mistaken_name_is_found_before_anything_is_asked(models, monkeypatch):
    monkeypatch.setattr(LocalModel, "score", lambda self, levels: pytest.fail("asked"))
    with pytest.raises(ModelError, match="no_such_folder"):
        evaluate_against(["mini", models[1], "./no_such_folder"], suite=SUITE, plan=PLAN)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"output": Path("e.txt")}, "e.txt must end in .json"),
        ({"plan": replace(PLAN, metric="tests.backends:nothing")}, "cannot be imported"),
    ],
    ids=["output", "metric"],
)
def test_mistaken_settings_are_found_before_a_model_is_loaded(settings, words, monkeypatch):
    monkeypatch.setattr(subjects, "load_model", lambda name: pytest.fail("loaded"))
    with pytest.raises(ConfigError, match=words):
        evaluate_against(["mini"], **{"suite": SUITE, "plan": PLAN} | settings)


# A soft prompt


@pytest.fixture
def prompt(tmp_path) -> Path:
    folder = tmp_path / "prompt"
    folder.mkdir()
    save_prompt(initial_prompt(load_model("mini"), range(40, 90), 6, seed=0), folder, "mini")
    return folder


def test_a_model_is_asked_behind_its_prompt(prompt, tmp_path, alone):
    found = evaluate("mini", suite=SUITE, plan=PLAN, prompt=prompt, output=tmp_path / "e.json")
    subject = subjects.as_subject(
        load_model("mini"), load_tokenizer("mini"), "auto", "mini", prompt=load_prompt(prompt)
    )
    assert subject.context_length == 1024 - 6
    expected = evaluate_tasks(subject, SUITE, PLAN)
    assert found == expected
    assert [item.prompt for item in found.items] == [item.prompt for item in alone[0].items], "the texts are the same"
    assert [item.nll for item in found.items] != [item.nll for item in alone[0].items]
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["prompt"] == str(prompt)
    assert written["mean"] == evaluation_json(found)["mean"]


def test_answers_behind_a_prompt_are_not_those_of_the_model_alone(prompt, tmp_path, alone):
    cache = tmp_path / "answers.sqlite"
    behind = evaluate("mini", suite=SUITE, plan=PLAN, prompt=str(prompt), cache=cache)
    assert evaluate("mini", suite=SUITE, plan=PLAN, cache=cache) == alone[0]
    assert evaluate("mini", suite=SUITE, plan=PLAN, prompt=prompt, cache=cache) == behind


def test_what_is_no_prompt_is_found_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(subjects, "load_model", lambda name: pytest.fail("loaded"))
    with pytest.raises(ModelError, match="holds no soft prompt"):
        evaluate("mini", suite=SUITE, plan=PLAN, prompt=tmp_path)


# The cache


@pytest.fixture
def tiny(tmp_path) -> str:
    return str(save_tiny(ARCHITECTURES["llama"](), tmp_path / "tiny"))


NEXT = Task("next", tuple(Example(str(i), str(i + 1)) for i in range(60)))
OTHERS = tuple(Example(f"-{i}", f"-{i - 1}") for i in range(60))
TINY = Suite("s", (NEXT, Task("written", OTHERS, scoring="generate", max_new_tokens=4)))
ALL = 2 * 2 * 2 * 5
"""Rows of tasks, shot counts, sets and queries."""


class Counted:
    """Counts what models compute: rows that are scored, prompts that are gone on from; may break off."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scored = self.written = 0
        self.breaks_off: int | None = None
        score, generate = LocalModel.score, LocalModel.generate

        def counted_score(model, levels):
            for rows, scores in zip(levels, score(model, levels), strict=True):
                if self.breaks_off is not None and self.scored >= self.breaks_off:
                    raise KeyboardInterrupt
                self.scored += len(rows)
                yield scores

        def counted_generate(model, rows, stop, max_new_tokens):
            self.written += len(rows)
            return generate(model, rows, stop, max_new_tokens)

        monkeypatch.setattr(LocalModel, "score", counted_score)
        monkeypatch.setattr(LocalModel, "generate", counted_generate)


def test_what_the_cache_knows_is_not_asked_again(tiny, tmp_path, monkeypatch):
    counted = Counted(monkeypatch)
    cache = tmp_path / "answers.sqlite"
    first = evaluate(tiny, suite=TINY, plan=PLAN, cache=cache)
    assert (counted.scored, counted.written) == (ALL, ALL // 2)
    second = evaluate(tiny, suite=TINY, plan=PLAN, cache=cache, output=tmp_path / "e.json")
    assert (counted.scored, counted.written) == (ALL, ALL // 2)
    assert second.items == first.items
    assert second == first == evaluate(tiny, suite=TINY, plan=PLAN)


def test_more_shots_ask_only_what_is_new(tiny, tmp_path, monkeypatch):
    cache = tmp_path / "answers.sqlite"
    evaluate(tiny, suite=Suite("s", (NEXT,)), plan=PLAN, cache=cache)
    counted = Counted(monkeypatch)
    # The same questions and the same first demonstrations: only the new shot count is computed.
    more = evaluate(tiny, suite=Suite("s", (NEXT,)), plan=replace(PLAN, shots=(0, 2, 4)), cache=cache)
    assert counted.scored == 2 * 5
    fresh = evaluate(tiny, suite=Suite("s", (NEXT,)), plan=replace(PLAN, shots=(0, 2, 4)))
    assert [item.nll for item in more.items] == pytest.approx([item.nll for item in fresh.items], abs=CLOSE)


def test_a_killed_evaluation_goes_on_where_it_was(tiny, tmp_path, monkeypatch):
    expected = evaluate(tiny, suite=TINY, plan=PLAN)
    cache = tmp_path / "answers.sqlite"
    counted = Counted(monkeypatch)
    counted.breaks_off = 25
    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny, suite=TINY, plan=PLAN, cache=cache)
    assert counted.scored == 25
    with sqlite3.connect(cache) as connection:
        assert connection.execute("SELECT count(*) FROM scores").fetchone() == (25,)
    connection.close()
    counted.breaks_off = None
    found = evaluate(tiny, suite=TINY, plan=PLAN, cache=cache)
    assert counted.scored == ALL
    assert [replace(item, nll=0.0) for item in found.items] == [replace(item, nll=0.0) for item in expected.items]
    assert [item.nll for item in found.items] == pytest.approx([item.nll for item in expected.items], abs=CLOSE)


def test_adapters_on_one_base_do_not_share_answers(models, alone, tmp_path):
    for _ in range(2):
        found = evaluate_against([*models[:2], models[4]], suite=SUITE, plan=PLAN, cache=tmp_path / "answers.sqlite")
        for mine, expected in zip(found, (alone[0], alone[1], alone[4]), strict=True):
            assert_same(mine, expected)


def test_answers_are_remembered_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KEEPSHOT_CACHE", str(tmp_path / "c"))
    assert default_cache() == tmp_path / "c" / "answers.sqlite"
    monkeypatch.setenv("KEEPSHOT_CACHE", "~/c")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / "c" / "answers.sqlite"
    monkeypatch.setenv("KEEPSHOT_CACHE", "off")
    assert default_cache() is None
    monkeypatch.delenv("KEEPSHOT_CACHE")
    assert default_cache() == tmp_path / ".cache" / "keepshot" / "answers.sqlite"
    assert not list(tmp_path.iterdir())


def test_tests_leave_the_user_s_answers_alone():
    assert default_cache() is not None
    assert Path("~/.cache").expanduser() not in default_cache().parents


# Files


def test_a_saved_evaluation_comes_back_unless_it_asked_something_else(tmp_path, alone):
    path, items = tmp_path / "eval.json", tmp_path / "items.parquet"
    asked = asked_digest(SUITE, PLAN, "plain", 512)
    several = replace(SUITE.tasks[0], pool=(Example("a", "b\nc"),))
    assert asked_digest(replace(SUITE, tasks=(several, *SUITE.tasks[1:])), PLAN, "plain", 512) != asked
    save_evaluation(alone[0], asked, path, items)
    assert load_evaluation(path, items, SUITE, PLAN, asked) == alone[0]
    for other in (
        asked_digest(Suite("s", SUITE.tasks[:1]), PLAN, "plain", 512),
        asked_digest(SUITE, replace(PLAN, seed=2), "plain", 512),
        asked_digest(SUITE, replace(PLAN, until=0.1), "plain", 512),
        asked_digest(SUITE, replace(PLAN, balanced=True), "plain", 512),
        asked_digest(SUITE, PLAN, "instruction", 512),
        asked_digest(SUITE, PLAN, "plain", 256),
    ):
        assert other != asked
        with pytest.raises(RunError, match="asked something else"):
            load_evaluation(path, items, SUITE, PLAN, other)


def test_a_relabelled_evaluation_comes_back_with_its_tasks(tmp_path):
    plan = replace(PLAN, labels="flipped")
    found = evaluate("mini", suite=SUITE, plan=plan)
    save_evaluation(found, "asked", tmp_path / "e.json", tmp_path / "i.parquet")
    assert load_evaluation(tmp_path / "e.json", tmp_path / "i.parquet", SUITE, plan, "asked") == found
    assert list(found.tasks) == ["weighted-digits [flipped]"]


def test_a_cap_on_the_context_is_a_cap():
    assert load_subject("mini", "plain").context_length == 1024
    assert load_subject("mini", "plain", max_length=100).context_length == 100
    assert load_subject("mini", "plain", max_length=2000).context_length == 1024
    assert load_subject("mini", "plain", shown_as="base").name == "base"
