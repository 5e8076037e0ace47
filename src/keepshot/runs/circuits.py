"""What an experiment on implicit patterns moved inside: circuits of the base, in context, and of the tuned models.

Every state of a model is asked the same pairs of problems (`keepshot.runs.circuit_pairs`), and every head and MLP is
patched by itself (`keepshot.probes.patching`). The states are the base without examples; behind k of them; behind k
with labels drawn at random, a context as long that says nothing; and the tuned models of the experiment without any.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from keepshot.errors import ConfigError, DataError, ModelError, RunError
from keepshot.evaluation.local import model_identity
from keepshot.files import write_json
from keepshot.models.load import CausalLM, load_model, load_tokenizer
from keepshot.probes.lens import Lens, lens
from keepshot.probes.patching import Pair, Patched, components, patch
from keepshot.prompts import choose_template
from keepshot.report.patterns import read_patterns
from keepshot.report.patterns_page import patterns_page
from keepshot.report.record import read_report
from keepshot.runs.answering import answers
from keepshot.runs.circuit_pairs import Corruption, Partners, as_pair, partners, relabelled
from keepshot.runs.circuit_record import State, circuits_record
from keepshot.runs.folder import RunFolder, in_use
from keepshot.runs.pattern_cells import Material, answers_of, base_answers, cell_folder, material
from keepshot.runs.pattern_questions import Questions, Rates, rates, rates_of
from keepshot.runs.pattern_record import best_shots, chosen_cells
from keepshot.runs.patterns_config import PatternCell, PatternsConfig, load_patterns
from keepshot.runs.progress import Say, silent
from keepshot.runs.subjects import as_subject
from keepshot.tasks.example import Example
from keepshot.tasks.patterns import LABELS, PatternItem, PatternName, as_examples, items
from keepshot.train.keyed import load_keyed, save_keyed

PAIRS = 200
_TENSORS = ("effects", "clean", "corrupt", "whole")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a state of a task is asked, behind the context that is its own.

    Attributes:
        pairs: Of problems.
        problems: Broken problems for the lens: a prompt, and the tokens that the shortcut and the rule go on with.
    """

    pairs: tuple[Pair, ...]
    problems: tuple[Pair, ...]


def circuits(
    folder: Path | str, *, pairs: int = PAIRS, corrupt: Corruption = "answer", batch: int = 32, say: Say = silent
) -> Path:
    """Patch every state of a finished experiment, and add what it shows to its page.

    What was patched is kept, so that a run that was killed goes on where it was.

    Args:
        folder: Of `keepshot.runs.patterns.patterns`.
        pairs: Of problems, for every task.
        corrupt: Whether a clean problem's partner has another answer, or a broken pattern as well.
        batch: Most pairs that are computed together.
        say: Called with each line worth showing.

    Returns:
        `circuits.json` in the folder (schema `keepshot.circuits/1`).

    Raises:
        KeepshotError: The folder holds no such experiment, a model has no roles, or too few pairs can be made.
    """
    folder = Path(folder)
    if not (folder / "patterns.json").exists():
        raise RunError(f"{folder} holds no finished experiment on patterns; make one with keepshot patterns run")
    reported = tuple(task.name for task in read_patterns(folder).tasks)  # a --cell may have added others since
    config = load_patterns(folder / "config.yaml").model_copy(update={"output": str(folder), "tasks": reported})
    with in_use(RunFolder(folder)):
        found = {
            task: list(_states(config, material(config, task), pairs, corrupt, batch, say)) for task in config.tasks
        }
        write_json(folder / "circuits.json", circuits_record(config, found, corrupt))
        patterns_page(folder)
    return folder / "circuits.json"


def _states(
    config: PatternsConfig, made: Material, count: int, corrupt: Corruption, batch: int, say: Say
) -> Iterator[State]:
    """The base's three states, then every tuned model that stands for a method."""
    task = made.task
    before = base_answers(config, made)
    shots = best_shots(before)
    bare, few, random = _asked(config, made, shots, count, corrupt)
    say(f"{task}: {len(bare.pairs)} pairs, {shots} examples in context")
    if len(bare.pairs) < count:
        say(f"  note: {count - len(bare.pairs)} of {count} problems have no partner left; more --pairs give more")

    base = load_model(config.model, dtype="float32")  # 16 bits would round away small differences of logits

    def look(state: str, model: CausalLM, asked: _Asked) -> tuple[Patched, Lens | None]:
        path = Path(config.output) / "circuits" / task / corrupt / f"{state}.safetensors"
        return _patched(path, model, asked.pairs, batch, say), _lens(model, asked.problems)

    held = {shown: rates_of(before["test"][str(shown)]) for shown in (0, shots)}
    yield State("base", 0, held[0], *look("base", base, bare))
    yield State("in context", shots, held[shots], *look("in-context", base, few))
    guessed = _with_random_labels(config, made, shots, base)
    yield State("random labels", shots, guessed, *look("random-labels", base, random))
    del base  # one model at a time
    for cell, found in _tuned(config, task, say):
        run = cell_folder(config, cell)
        model = load_model(str(run.path / read_report(run.path).model_path), dtype="float32")
        name = f"{cell.method}, {cell.examples} examples"
        yield State(name, 0, found, *look("-".join(cell.folder.parts[1:]), model, bare), cell)
        del model


def _tuned(config: PatternsConfig, task: PatternName, say: Say) -> Iterator[tuple[PatternCell, Rates]]:
    """The trainings that stand for a method, with what they answered without examples."""
    found = {one: answers for one in config.cells() if (answers := answers_of(config, one)) is not None}
    for one in chosen_cells(found):
        if one.task == task and config.has_prompt(one):
            say(f"  left out: {one}, since behind its soft prompt all tokens stand elsewhere")
        elif one.task == task:
            yield one, rates_of(found[one]["test"]["0"])


def _asked(config: PatternsConfig, made: Material, shots: int, count: int, corrupt: Corruption) -> list[_Asked]:
    """The same problems without examples, behind k, and behind k with labels drawn at random.

    Raises:
        ConfigError: The task has not so many problems.
        DataError: Fewer than two pairs can be made.
    """
    tokenizer = load_tokenizer(config.model)
    template = choose_template("auto", tokenizer)
    labels = _labels(made)

    def shown(problems: Sequence[PatternItem]) -> dict[Example, tuple[Example, ...]]:
        asked = Questions(made.task, tuple(problems), made.train, config.seed)
        return {prompt[-1]: prompt[:-1] for prompt in asked.prompts(shots)}

    def behind(both: Partners, examples: Sequence[Example]) -> list[Pair] | None:
        contexts = ((), examples, relabelled(examples, labels, config.seed, both.clean.input))
        found = [as_pair(both, context, template, tokenizer) for context in contexts]
        pairs = [pair for pair in found if pair is not None]
        return pairs if len(pairs) == len(contexts) else None

    examples = shown(items(made.task, "test", count, size=config.size))
    others = list(as_examples(made.task, _candidates(config, made.task, count, corrupt == "pattern")))
    found = partners(list(examples), others, template, tokenizer)
    pairs = [three for both in found if (three := behind(both, examples[both.clean])) is not None]
    if len(pairs) < 2:
        raise DataError(
            f"{made.task} gives {len(pairs)} pairs of problems with prompts of one length in this model's tokens; at "
            "least 2 are needed, ask for more --pairs"
        )
    broken = [item for item in made.test if not item.pattern_holds and item.shortcut_answer != item.formal_answer]
    as_two = {
        Partners(Example(one.input, item.shortcut_answer, one.instruction), one): before
        for item, (one, before) in zip(broken, shown(broken).items(), strict=True)
    }
    problems = [three for both, before in as_two.items() if (three := behind(both, before)) is not None]
    return [_Asked(tuple(one[n] for one in pairs), tuple(one[n] for one in problems)) for n in range(3)]


def _candidates(config: PatternsConfig, task: PatternName, count: int, broken: bool) -> list[PatternItem]:
    """Problems that partners are taken from: of the test part, as training and demonstrations show others.

    Raises:
        ConfigError: The task has not even as many as pairs are wanted.
    """
    for times in (5, 2):  # the more, the nearer are partners; some tasks of small size have few
        try:
            return items(task, "test", times * count, broken=broken, size=config.size)
        except ConfigError:
            continue
    return items(task, "test", count, broken=broken, size=config.size)


def _patched(path: Path, model: CausalLM, pairs: Sequence[Pair], batch: int, say: Say) -> Patched:
    """What patching shows, kept on disk under a key of the model and the pairs."""
    key = hashlib.blake2b(repr((model_identity(model), pairs)).encode(), digest_size=16).hexdigest()
    kept = load_keyed(path, key, "record of patching", _TENSORS)
    if kept is not None:
        return Patched(components(model), *(kept[0][name] for name in _TENSORS))
    say(f"  patching {path.stem}")
    found = patch(model, pairs, batch=batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_keyed({name: getattr(found, name) for name in _TENSORS}, path, key)
    return found


def _lens(model: CausalLM, problems: Sequence[Pair]) -> Lens | None:
    """Behind which layer the shortcut's and the rule's answer stand first; None without problems or a final norm."""
    if not problems:
        return None
    try:
        return lens(model, [one.clean for one in problems], [(one.right, one.wrong) for one in problems])
    except ModelError:
        return None


def _with_random_labels(config: PatternsConfig, made: Material, shots: int, model: CausalLM) -> Rates:
    """What the base answers behind examples whose labels say nothing."""
    prompts = [
        (*relabelled(prompt[:-1], _labels(made), config.seed, prompt[-1].input), prompt[-1])
        for prompt in Questions(made.task, made.test, made.train, config.seed).prompts(shots)
    ]
    subject = as_subject(model, load_tokenizer(config.model), "auto", config.model)
    return rates(made.task, made.test, answers(subject, prompts, lines=False))


def _labels(made: Material) -> Sequence[str]:
    """What a random label is drawn from."""
    return LABELS.get(made.task) or [item.answer for item in made.train]
