"""The fixed rows of a run: how many, asked once, held out, and never another model's."""

import json
import math
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from tests.anchored import perturbed
from tests.architectures import ARCHITECTURES
from tests.training import EXAMPLES, few_shot, plan, prepared, target
from transformers import PreTrainedModel, TrainingArguments

from keepshot.config import load_config
from keepshot.episodes import Bank, Bm25, Contexts, KShot, Neighbours, ZeroShot
from keepshot.errors import ConfigError, RunError
from keepshot.models.load import load_model
from keepshot.runs import references as module
from keepshot.runs.data import load_target
from keepshot.runs.folder import RunFolder
from keepshot.runs.preparation import Preparation, prepare
from keepshot.runs.references import FEWEST_ROWS, References, fixed_rows, reference_notes, references
from keepshot.runs.training import Stage, stream_lines, train
from keepshot.strategies import Everything, Lora, Roles, Strategy, StreamSpec, Term, Trainable, TrainableSet
from keepshot.strategies.strategy import ContextSpec
from keepshot.tasks.example import Example, Suite
from keepshot.tasks.universe import labels
from keepshot.train import Planner, reference_bank, training_arguments
from keepshot.train.objective import Objective

BUDGET = 400
SMALL = KShot("few-shot", few_shot().sampler.tasks, (1, 2), 0)


def strategy(trainable: Trainable | None = None, **spec: Any) -> Strategy:
    """A KL term on few-shot rows beside the target."""
    return Strategy(
        trainable=trainable or Everything(),
        streams=(
            StreamSpec(name="target"),
            StreamSpec(**{"name": "few-shot", "sampler": "k-shot", "share": 0.4} | spec),
        ),
        terms=(Term(weight=0.5), Term(kind="kl", stream="few-shot", weight=0.5)),
    )


def planner_of(method: Strategy, target_tokens: float = 3000.0, seed: int = 0) -> Planner:
    added = replace(few_shot(method.streams[1].share or 0, 0.5), sampler=SMALL)
    return fixed_rows(plan(target(0.5), added), method, target_tokens, seed)


def arguments(folder: Path, **fields: Any) -> TrainingArguments:
    fields = {"use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True} | fields
    return training_arguments(fields, folder=folder, seed=0, learning_rate=0.01, max_steps=4, steps_per_epoch=2)


def ask(
    model: Any, folder: Path, method: Strategy | None = None, planner: Planner | None = None, **fields: Any
) -> References:
    method = method or strategy()
    planner = planner or planner_of(method)
    return references(model, method, planner, arguments(folder, **fields), RunFolder(folder), BUDGET)


def bank_of(planner: Planner, place: int = 1) -> Bank:
    sampler = planner.streams[place].sampler
    assert isinstance(sampler, Bank)
    return sampler


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows the base was asked about, call by call."""
    calls: list[int] = []

    def counting(model: Any, rows: Any, **settings: Any) -> Any:
        calls.append(len(rows))
        return whole(model, rows, **settings)

    whole = module.reference_bank
    monkeypatch.setattr(module, "reference_bank", counting)
    return calls


# -- which rows -------------------------------------------------------------------------------------------------


def test_as_many_rows_as_are_visited_so_often() -> None:
    """Tokens of the stream / mean length / visits: over the run every row is seen `visits` times on average."""
    sample = plan(target(0.5), replace(few_shot(), sampler=SMALL)).rows("few-shot", [SMALL.draw(i) for i in range(16)])
    mean = sum(len(row.row.ids) for row in sample) / 16
    for visits, share, tokens in ((4, 0.4, 12_000.0), (2, 0.4, 12_000.0), (4, 0.2, 12_000.0), (4, 0.4, 24_000.0)):
        found = bank_of(planner_of(strategy(visits=visits, share=share), tokens)).rows
        assert found == math.ceil(tokens * share / (1 - share) / mean / visits)
        assert found > FEWEST_ROWS


def test_a_run_visits_its_rows_as_often_as_it_says() -> None:
    method = strategy(visits=3)
    per_step = sum(len(row.row.ids) for row in plan(target()).plan(plan(target()).start()).rows)
    planner = planner_of(method, 60.0 * per_step)
    steps = planner.steps(planner.start())
    drawn = [row.name for _ in range(60) for row in next(steps).rows if row.stream == "few-shot"]
    rows = bank_of(planner).rows
    assert len(drawn) / rows == pytest.approx(3, rel=0.15)
    assert len(set(drawn)) == rows


def test_a_short_run_has_a_few_rows_at_least() -> None:
    assert bank_of(planner_of(strategy(), 10.0)).rows == FEWEST_ROWS


def test_the_targets_own_few_shot_rows_are_as_many_as_its_tokens_need() -> None:
    """The target has no share of its own: all that the others leave is its."""
    method = Strategy(
        trainable=Everything(),
        streams=(StreamSpec(name="target", sampler="k-shot", visits=4),),
        terms=(Term(weight=0.5), Term(kind="kl", weight=0.5)),
    )
    sampler = KShot("target", SMALL.tasks, (1, 2), 0)
    found = fixed_rows(plan(replace(target(), sampler=sampler)), method, 12_000.0, 0)
    assert bank_of(found, 0).rows > 40
    assert found.streams[0].sampler.size == sampler.size, "epochs are passes over the examples, not over the rows"


@pytest.mark.parametrize("passes", [0.1, 1.0, 3.0])
def test_every_example_that_a_run_comes_to_is_trained_on_behind_a_fixed_context(passes: float) -> None:
    """Not a quarter of them: `visits` is of rows that are added."""
    examples = [Example(f"word {place}", f"answer {place}") for place in range(200)]
    sampler = Contexts("target", examples, Neighbours(examples, Bm25([e.input for e in examples])), 0, shots=(2, 2))
    method = Strategy(
        trainable=Everything(),
        streams=(StreamSpec(name="target", sampler="context", context=ContextSpec(kind="random")),),
        terms=(Term(weight=0.5), Term(kind="kl", weight=0.5)),
    )
    planner = plan(replace(target(), sampler=sampler))
    mean = sum(len(row.row.ids) for row in planner.rows("target", [sampler.draw(i) for i in range(16)])) / 16
    bank = bank_of(fixed_rows(planner, method, passes * 200 * mean, 0), 0)
    seen = {bank.draw(index).examples[-1].input for index in range(int(passes * 200))}
    assert len(seen) == min(int(passes * 200), 200)


def test_of_a_long_source_no_more_rows_are_asked_than_a_run_visits() -> None:
    """Whether it is the target or one that is added, whose rows are visited again."""
    examples = [Example(f"word {place}", "answer") for place in range(5000)]
    source = ZeroShot("target", examples, 0)
    on_target = Strategy(trainable=Everything(), terms=(Term(weight=0.5), Term(kind="kl", weight=0.5)))
    planner = plan(replace(target(), sampler=source))
    length = len(planner.rows("target", [source.draw(0)])[0].row.ids)
    short = bank_of(fixed_rows(planner, on_target, 100.0 * length, 0), 0)
    assert 100 <= short.rows < 130
    assert len({short.draw(index).name for index in range(100)}) == 100
    assert isinstance(fixed_rows(planner, on_target, 6000.0 * length, 0).streams[0].sampler, ZeroShot)
    added = replace(few_shot(0.5, 0.5), sampler=replace(source, stream="few-shot"))
    method = strategy(sampler="zero-shot", source="general", share=0.5, visits=4)
    assert 100 <= bank_of(fixed_rows(plan(target(0.5), added), method, 400.0 * length, 0)).rows < 130


def test_only_streams_with_a_kl_term_have_fixed_rows() -> None:
    method = strategy()
    terms = (Term(weight=0.5), Term(stream="few-shot", weight=0.5))
    plain = plan(target(0.5), replace(few_shot(0.4, 0.5), sampler=SMALL))
    found = fixed_rows(plain, method.model_copy(update={"terms": terms}), 3000.0, 0)
    assert [stream.sampler for stream in found.streams] == [stream.sampler for stream in plain.streams]
    on_target = Strategy(trainable=Everything(), terms=(Term(weight=0.5), Term(kind="kl", weight=0.5)))
    assert isinstance(fixed_rows(plan(), on_target, 3000.0, 0).streams[0].sampler, ZeroShot)


def test_the_seed_decides_the_order_of_visits() -> None:
    first, second = (bank_of(planner_of(strategy(), seed=seed)) for seed in (0, 1))
    order = [first.draw(index).name for index in range(first.rows)]
    assert order != [second.draw(index).name for index in range(first.rows)]
    assert sorted(order) == sorted(second.draw(index).name for index in range(first.rows))


def test_held_out_rows_never_enter_a_step(tmp_path: Path) -> None:
    planner = planner_of(strategy())
    kept = ask(ARCHITECTURES["llama"](), tmp_path, planner=planner)
    seen, held_out = ({row.name for row in rows["few-shot"]} for rows in (kept.rows, kept.held_out))
    assert len(seen) == bank_of(planner).rows
    assert 0.1 * len(seen) <= len(held_out) <= 0.1 * len(seen) + 1
    steps = planner.steps(planner.start())
    visited = {row.name for _ in range(60) for row in next(steps).rows if row.stream == "few-shot"}
    assert visited == seen
    assert not visited & held_out
    assert kept.objective.banks["few-shot", "kl"].places.keys() == seen | held_out


# -- asked once -------------------------------------------------------------------------------------------------


def test_a_resumed_run_reads_what_was_asked(asked: list[int], tmp_path: Path) -> None:
    first = ask(ARCHITECTURES["llama"](), tmp_path)
    again = ask(ARCHITECTURES["llama"](), tmp_path)
    assert len(asked) == 1
    one, other = (kept.objective.banks["few-shot", "kl"] for kept in (first, again))
    assert one.places == other.places
    for name in ("ids", "log_probs", "log_tail"):
        assert torch.equal(getattr(one.reference, name), getattr(other.reference, name))
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["few-shot-kl.safetensors"]


def changed_base() -> PreTrainedModel:
    model = ARCHITECTURES["llama"]()
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-6  # one number, by a little
    return model


def changed_rows(**spec: Any) -> Planner:
    tasks = (replace(SMALL.tasks[0], examples=SMALL.tasks[0].examples[::-1]),)
    planner = planner_of(strategy(**spec))
    stream = replace(planner.streams[1], sampler=replace(bank_of(planner), sampler=replace(SMALL, tasks=tasks)))
    return replace(planner, streams=(planner.streams[0], stream))


KEPT_8, AT_2 = (
    strategy().model_copy(update={"terms": (Term(weight=0.5), Term(kind="kl", stream="few-shot", weight=0.5, **more))})
    for more in ({"kept": 8}, {"temperature": 2.0})
)


@pytest.mark.parametrize(
    "other",
    [
        {"model": changed_base},
        {"planner": changed_rows},
        {"method": KEPT_8},
        {"method": AT_2},
        {"bf16": True},
    ],
    ids=["base", "rows", "kept", "temperature", "precision"],
)
def test_what_was_asked_of_something_else_is_asked_anew(
    other: dict[str, Any], asked: list[int], tmp_path: Path
) -> None:
    ask(ARCHITECTURES["llama"](), tmp_path)
    fields = dict(other)
    model = fields.pop("model", ARCHITECTURES["llama"])()
    if "planner" in fields:
        fields["planner"] = fields["planner"]()
    kept = ask(model, tmp_path, **fields)
    assert len(asked) == 2
    ask(model, tmp_path, **fields)
    assert len(asked) == 2, "and kept in place of the old"
    assert kept.objective.banks["few-shot", "kl"].temperature == (2.0 if fields.get("method") is AT_2 else 1.0)


def test_a_broken_file_stops_the_run_in_one_line(tmp_path: Path) -> None:
    ask(ARCHITECTURES["llama"](), tmp_path)
    path = tmp_path / "reference" / "few-shot-kl.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"few-shot-kl.safetensors is no cached reference") as caught:
        ask(ARCHITECTURES["llama"](), tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_is_asked_or_written_without_a_kl_term(asked: list[int], tmp_path: Path) -> None:
    plain = Strategy(trainable=Everything())
    kept = ask(ARCHITECTURES["llama"](), tmp_path, plain, plan())
    assert (asked, list(tmp_path.iterdir()), kept.objective.banks) == ([], [], {})
    assert kept.report(ARCHITECTURES["llama"](), arguments(tmp_path), BUDGET) == {}


# -- of the base alone ------------------------------------------------------------------------------------------


TRAINABLES = (Everything(), Roles(roles=("value",)), Lora(r=2, dropout=0.5))


@pytest.mark.parametrize("trainable", TRAINABLES, ids=lambda trainable: trainable.kind)
@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_a_prepared_model_is_its_base_before_the_first_step(name: str, trainable: Trainable, tmp_path: Path) -> None:
    trained = prepared(ARCHITECTURES[name](), trainable)
    moving = {n for n, p in trained.model.named_parameters() if p.requires_grad}
    kept = ask(trained.model, tmp_path, strategy(trainable))
    report = kept.report(trained.model, arguments(tmp_path), BUDGET)["few-shot"]
    assert abs(report["held_out_kl_nats"] or 0.0) < 1e-6
    assert {n for n, p in trained.model.named_parameters() if p.requires_grad} == moving
    again = ask(ARCHITECTURES[name](), tmp_path, strategy(trainable))
    one, other = (some.objective.banks["few-shot", "kl"].reference for some in (kept, again))
    torch.testing.assert_close(one.log_probs, other.log_probs)


def skewed(model: PreTrainedModel) -> TrainableSet:
    """A model with an adapter that does not start at nothing."""
    trained = prepared(model, Lora(r=2, dropout=0.0))
    with torch.no_grad():
        for name, parameter in trained.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    return trained


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_model_that_is_not_its_base_at_step_0_is_refused(asked_before: bool, tmp_path: Path) -> None:
    """With the answers of the base in the folder, and without: an adapter is no part of the base."""
    if asked_before:
        ask(ARCHITECTURES["llama"](), tmp_path, strategy(Lora()))
    with pytest.raises(RunError, match=r"the KL of stream few-shot is \S+ nats before the first step, and must be 0"):
        ask(skewed(ARCHITECTURES["llama"]()).model, tmp_path, strategy(Lora()))


def test_the_report_says_how_far_the_model_went_on_rows_it_never_saw(tmp_path: Path) -> None:
    model = ARCHITECTURES["llama"]()
    method = KEPT_8
    planner = planner_of(method)
    kept = ask(model, tmp_path, method, planner)
    rows = bank_of(planner).rows
    report = kept.report(perturbed(model), arguments(tmp_path), BUDGET)["few-shot"]
    assert (report["rows"], report["held_out_rows"]) == (rows, len(kept.held_out["few-shot"]))
    assert 0 < (report["mean_tail"] or 0.0) < 1
    assert (report["held_out_kl_nats"] or 0.0) > 1e-3
    assert json.loads(json.dumps(report)) == report


def test_the_report_says_what_the_base_recalls_and_warns_where_that_is_little(tmp_path: Path) -> None:
    """Against its answers one by one, as the bundled model has them and a random one has not."""
    told = [{"input": word, "output": "x"} for word in labels(Random(0), 40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    found = prepared_run(tmp_path / "train.jsonl", ["full", "self-anchor"], tmp_path / "run")
    settings = {"kept": 8, "temperature": 1.0, "budget": BUDGET}
    model = load_model("mini", device="cpu")
    kept = references(model, found.strategy, found.planner, found.arguments, RunFolder(tmp_path), BUDGET)
    rows = kept.rows["self-anchor"]
    hits = []
    for row in rows:
        with torch.no_grad():
            said = model(torch.tensor([row.row.ids])).logits[0].argmax(-1).tolist()
        hits += [said[start - 1 : end - 1] == list(row.row.ids[start:end]) for start, end in row.recurring]
    assert len(hits) > 20
    recalled = kept.report(model, found.arguments, BUDGET)["self-anchor"]["recalled"]
    assert recalled == sum(hits) / len(hits)
    assert recalled > 0.9
    assert reference_notes({"self-anchor": {"rows": 16, "recalled": recalled}}) == []
    bank = reference_bank(ARCHITECTURES["llama"](), rows, **settings)
    random = References(Objective(found.strategy.terms, {("self-anchor", "kl"): bank}), {"self-anchor": rows}, {})
    little = random._recalled("self-anchor", bank)
    assert little["recalled"] < 0.5
    [note] = reference_notes({"self-anchor": {"rows": 16} | little})
    assert note.startswith(f"Stream self-anchor: the base itself recalls only {little['recalled']:.0%} of the answers")


def test_where_training_sees_all_rows_none_is_held_out(tmp_path: Path) -> None:
    method = Strategy(trainable=Everything(), terms=(Term(weight=0.5), Term(kind="reverse-kl", weight=0.5)))
    kept = ask(ARCHITECTURES["llama"](), tmp_path, method, fixed_rows(plan(), method, 3000.0, 0))
    report = kept.report(ARCHITECTURES["llama"](), arguments(tmp_path), BUDGET)["target"]
    assert (report["rows"], report["held_out_rows"], report["held_out_kl_nats"]) == (len(EXAMPLES), 0, None)


# -- a whole training -------------------------------------------------------------------------------------------


def weights_after(folder: Path, *, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    """Four steps with a KL term through `train`, or as many as there are before `stop_at`."""
    method = strategy(Roles(roles=("value",)))
    trained = prepared(ARCHITECTURES["llama"](), method.trainable)
    args = arguments(folder / "checkpoints", save_strategy="steps", save_steps=1, logging_steps=1)
    planner = planner_of(method)
    if stop_at is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("keepshot.train.trainer.rotate", stopping(stop_at))
            with pytest.raises(KeyboardInterrupt):
                train(trained, Stage(method, planner, args), validation=(), folder=RunFolder(folder))
    else:
        cost = train(trained, Stage(method, planner, args), validation=(), folder=RunFolder(folder))
        assert cost["reference"]["few-shot"]["rows"] == bank_of(planner).rows
    return {name: p.detach().clone() for name, p in trained.model.named_parameters()}


def stopping(after: int) -> Any:
    calls = 0

    def rotate(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt

    return rotate


def test_a_resumed_training_ends_as_a_straight_one_and_asks_the_base_once(asked: list[int], tmp_path: Path) -> None:
    """Resumed, the model at hand is not the base any more once the checkpoint is loaded; the reference stays."""
    straight = weights_after(tmp_path / "straight")
    assert len(asked) == 1
    weights_after(tmp_path / "stopped", stop_at=2)
    resumed = weights_after(tmp_path / "stopped")
    assert len(asked) == 2
    base = dict(ARCHITECTURES["llama"]().named_parameters())
    assert any(not torch.equal(resumed[name], base[name]) for name in base)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    logs = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in ("straight", "stopped")]
    kls = [[(row["step"], row["kl/few-shot"]) for row in map(json.loads, lines)] for lines in logs]
    assert kls[0] == kls[1]
    assert kls[0][0][1] == pytest.approx(0, abs=1e-6)
    assert kls[0][3][1] > 1e-5


# -- as a config spells it --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small target: a config's own files are read much faster than the bundled target is made."""
    path = tmp_path_factory.mktemp("words") / "train.jsonl"
    rows = [{"input": f"{word} {i}", "output": word[::-1]} for i in range(12) for word in ("amber", "birch", "cedar")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepared_run(words: Path, method: Any, folder: Path, template: str = "auto", **train_fields: Any) -> Preparation:
    fields = {"max_steps": 20, "per_device_train_batch_size": 8, "use_cpu": True, "bf16": False} | train_fields
    config = load_config(
        {
            "model": "mini",
            "data": {"train": str(words), "template": template},
            "method": method,
            "output": str(folder),
            "train": fields,
        }
    )
    return prepare(config, load_target(config.data, config.seed), Suite("upper", SMALL.tasks), RunFolder(folder))


@pytest.mark.parametrize("addition", ["icl-kl", "self-anchor"])
def test_a_config_prepares_fixed_rows_and_says_how_many(addition: str, words: Path, tmp_path: Path) -> None:
    found = prepared_run(words, ["value", {addition: {"weight": 0.3, "share": 0.2}}], tmp_path / "run")
    bank = bank_of(found.planner)
    assert FEWEST_ROWS <= bank.rows < 100
    assert list(tmp_path.iterdir()) == [], "nothing is written before the run begins"
    lines = stream_lines(found.planner, found.strategy)
    assert lines == [
        "stream target: 80% of the tokens, 70% of the loss (nll)",
        f"stream {addition}: 20% of the tokens, {bank.rows} fixed rows, 30% of the loss (kl)",
    ]
    longer = prepared_run(words, ["value", {addition: {"weight": 0.3, "share": 0.2}}], tmp_path / "run", max_steps=2000)
    assert bank_of(longer.planner).rows > 3 * bank.rows


def test_a_stream_of_which_hardly_anything_arrives_is_told_before_the_run(words: Path, tmp_path: Path) -> None:
    """An anchor row has as many tokens as many short target rows, so that it comes once in many steps."""
    rare = prepared_run(words, ["value", {"self-anchor": {"share": 0.02}}], tmp_path / "run", max_steps=200)
    [note] = [note for note in rare.notes if note.startswith("Stream self-anchor: its share of 2% of the tokens is ")]
    state = rare.planner.start()
    for _ in range(60):
        state = rare.planner.plan(state).after
    found = state.streams["self-anchor"]
    assert f"is {found.drawn} episodes in the first 60 steps, so that {found.delivered / 60:.1%} of the loss" in note
    often = prepared_run(words, ["value", {"self-anchor": {"share": 0.5}}], tmp_path / "run", max_steps=200)
    assert not [note for note in often.notes if "of the loss arrives" in note]


def test_answers_of_several_lines_without_an_end_of_their_own_are_told(words: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text(words.read_text().replace('"output": "', '"output": "SELECT\\n'))
    notes = [prepared_run(path, "value", tmp_path / "run", "verbatim").notes for path in (words, lines)]
    assert prepared_run(lines, "value", tmp_path / "run").notes == prepared_run(words, "value", tmp_path / "run").notes
    told = [note for note in notes[1] if note not in notes[0]]
    assert [note.partition(":")[0] for note in told] == [
        "Answers hold line ends, and a line end is what ends an answer of the template verbatim"
    ]


def test_a_penalty_on_what_does_not_move_is_told_before_the_run(words: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="penalty l2sp is to hold the roles query, and the method moves none"):
        prepared_run(words, ["value", {"l2sp": {"roles": ["query"]}}], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lines_name_every_term_of_a_stream_and_what_falls(words: Path, tmp_path: Path) -> None:
    method = {
        "trainable": "value",
        "streams": [{"name": "target"}, {"name": "mix", "sampler": "k-shot", "source": "icl", "share": 0.25}],
        "terms": [
            {"weight": 0.5},
            {"stream": "mix", "weight": 0.2, "anneal": "linear"},
            {"stream": "mix", "kind": "reverse-kl", "weight": 0.3},
        ],
    }
    found = prepared_run(words, method, tmp_path / "run")
    rows = bank_of(found.planner).rows
    assert stream_lines(found.planner, found.strategy)[1] == (
        f"stream mix: 25% of the tokens, {rows} fixed rows, 20% of the loss (nll, falling to 0), 30% of the loss "
        "(reverse-kl)"
    )


def test_fixed_rows_change_the_length_of_no_run(words: Path, tmp_path: Path) -> None:
    """Epochs are counted over the target's examples, with and without a bank."""
    plain = prepared_run(words, "value", tmp_path / "a", max_steps=-1, num_train_epochs=2)
    method = {
        "trainable": "value",
        "streams": [{"name": "target", "sampler": "k-shot", "shots": [1, 2]}],
        "terms": [{"weight": 0.5}, {"kind": "kl", "weight": 0.5}],
    }
    fixed = prepared_run(words, method, tmp_path / "b", max_steps=-1, num_train_epochs=2)
    assert fixed.arguments.max_steps == plain.arguments.max_steps
