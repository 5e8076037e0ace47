import hashlib
import json

import pytest

from keepshot.errors import ConfigError
from keepshot.tasks import mini_suite
from keepshot.tasks.builtin import builtin_suite, builtin_target, builtin_targets
from keepshot.tasks.example import Example, Task
from keepshot.tasks.universe import FAMILIES
from keepshot.tasks.universe.facts import RELATIONS

CONTEXT = 1024  # tokens of the bundled model, one for each byte
SHOTS = 16

TASKS = {task.name: task for task in builtin_suite().tasks}


def block(example: Example) -> int:
    return len(f"Q: {example.input}\nA: {example.output}\n".encode())


def test_the_suite_is_frozen() -> None:
    content = [
        [task.name, [[e.instruction, e.input, e.output] for e in task.examples]] for task in builtin_suite("mini").tasks
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert digest == "3b5846cb731bc7a21020011e5e4ff662a8f8c457bc120739af4918d22c7a2e74"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (slice(0, 10), "8b33b7913d8a743c33aeb62c9fc351cfca56181188edce212648d9fa174c03c7"),
        (slice(10, None), "6598d0f8eb5821eee8d845aa2e1199d5e6e49e4eb683235d756209ec4c866b53"),
    ],
)
def test_the_targets_are_frozen(names: slice, expected: str) -> None:
    targets = [builtin_target(name) for name in builtin_targets()[names]]
    content = [[[e.input, e.output] for e in (*target.train, *target.test)] for target in targets]
    assert hashlib.sha256(json.dumps(content).encode()).hexdigest() == expected


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_suite_tasks_are_well_formed(task: Task) -> None:
    inputs = [(example.instruction, example.input) for example in task.examples]
    outputs = {example.output for example in task.examples}
    assert len(set(inputs)) == len(inputs)
    assert len(inputs) >= (50 if task.family in ("relation", "category") else 100)
    assert task.group == {"relation": "knowledge", "": task.group}.get(task.family, "suite")
    assert task.chance <= 0.55
    if task.labels:
        assert outputs == set(task.labels)
    for example in task.examples:
        assert example.output == example.output.strip() != ""
        assert example.options == (task.labels if task.scoring == "options" else ())


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_sixteen_shots_and_a_query_fit_the_bundled_model(task: Task) -> None:
    longest = sorted(map(block, task.examples))[-SHOTS - 1 :]
    assert 1 + sum(longest) <= CONTEXT


def test_the_suite_asks_in_both_ways_and_in_several_formats() -> None:
    few_shot = [task for task in TASKS.values() if not task.zero_shot]
    assert len(few_shot) == 17
    assert sum(task.scoring == "options" for task in few_shot) == 2
    assert sum(task.scoring == "exact_match" and len(task.labels) == 2 for task in few_shot) == 3
    assert sum(not task.labels for task in few_shot) >= 5


def test_every_family_is_asked_for_but_look_ups_which_cannot_be() -> None:
    assert {task.family for task in TASKS.values() if not task.zero_shot} == {*FAMILIES} - {"lookup"}


def test_what_an_instruction_asks_for_is_asked_zero_shot_alone() -> None:
    told = {task.name: task for task in TASKS.values() if task.zero_shot}
    assert {name: task.group for name, task in told.items()} == {
        "told-facts": "instructed knowledge",
        "told-functions": "instructed",
        "told-intents": "instructed",
    }
    assert all(example.instruction for task in told.values() for example in task.examples)
    facts = {(e.instruction, e.input): e.output for e in told["told-facts"].examples}
    assert any(instruction in RELATIONS["spanish"].instructions for instruction, _ in facts)
    for (instruction, text), answer in facts.items():
        for relation in RELATIONS.values():
            if instruction in relation.instructions:
                assert relation.pairs[text] == answer


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("sort-upper-append", "lemon", "ELMNObe"),
        ("reverse-drop-append", "lemon", "omeldu"),
        ("reverse-shift", "lemon", "opnfm"),
        ("drop-middle", "lemo", "leo"),
    ],
)
def test_string_tasks_compute_what_their_names_say(task: str, text: str, answer: str) -> None:
    assert mini_suite._FEW_SHOT["strings"][task].answer(text) == answer


def holds(task: str, answer: str) -> list[str]:
    return [example.input for example in TASKS[task].examples if example.output == answer]


def test_label_tasks_compute_what_their_names_say() -> None:
    assert all(text[1] in "aeiou" for text in holds("second-is-vowel", "lot"))
    assert all(text[-1] not in "aeiou" for text in holds("ends-with-vowel", "31"))
    assert all(text.count("1") >= 4 for text in holds("bit-majority", "Za"))
    assert sorted(map(int, holds("number-thirds", "mek"))) == list(range(33, 66))
    assert "5 0 3" not in holds("weighted-digits", "ti")
    assert sorted(map(int, holds("last-digit", "7"))) == list(range(7, 100, 10))
    assert {"dog", "tiger"} <= set(holds("kinds", "Lim"))
    assert "call" not in " ".join(holds("intents", "44"))
    assert any("taxi" in text for text in holds("new-intents", "19"))
    assert holds("capitals", "paris") == ["france"]
    assert all(max(text.split(), key=len) == e.output for e in TASKS["longest-word"].examples for text in [e.input])


@pytest.mark.parametrize("name", builtin_targets())
def test_targets_are_well_formed(name: str) -> None:
    target = builtin_target(name)
    train, test = ({example.input for example in part} for part in (target.train, target.test))
    assert not train & test
    assert len(train) == len(target.train)
    assert len(test) == len(target.test)
    assert (len(train), len(test)) == ((2000, 400) if name != "bit-changes" else (854, 170))
    assert {e.output for e in target.train} >= {e.output for e in target.test} or name in {
        "word-suffix",
        "number-sum",
        "digit-order",
        "word-reverse",
    }


def test_misspelt_words_have_near_neighbours_with_their_label() -> None:
    target = builtin_target("misspelt")
    labels = {example.input: example.output for example in target.train}
    near = [
        [label for text, label in labels.items() if len(text) == len(e.input) and apart(text, e.input) <= 1]
        for e in target.test
        if len(e.input) == 6
    ]
    assert sum(bool(found) for found in near) > 0.8 * len(near)
    for example, found in zip((e for e in target.test if len(e.input) == 6), near, strict=True):
        assert set(found) <= {example.output}


def apart(text: str, other: str) -> int:
    return sum(a != b for a, b in zip(text, other, strict=True))


def answers(name: str) -> dict[str, str]:
    target = builtin_target(name)
    return {example.input: example.output for example in (*target.train, *target.test)}


def test_targets_compute_what_their_descriptions_say() -> None:
    for text, answer in answers("word-rule").items():
        early = len([letter for letter in text if letter in "abcdefghijklm"])
        assert answer == ("Mil" if early > len(text) - early else "Tar")
    for text, answer in answers("word-suffix").items():
        assert answer == "".join(reversed(text)) + {True: "na", False: "o"}[text[-1] in "aeiou"]
    for text, answer in answers("number-sum").items():
        left, right = text.split()
        assert int(answer) == int(left) + int(right) + 7
    for text, answer in answers("bit-changes").items():
        assert answer == ("Ru" if text.count("01") + text.count("10") >= 5 else "fen")
    for text, answer in answers("digit-order").items():
        assert sorted(text.replace(" ", "")) == answer.split()
    for text, answer in answers("word-reverse").items():
        assert answer[::-1] == f"k{text}"
    for text, answer in answers("word-third").items():
        assert (answer == "Dak") == (text[2] in "aeiou")
    for text, answer in answers("number-order").items():
        left, _, right = text.partition(" ")
        assert (answer == "Gol") == (int(left) > int(right))


def test_word_classes_go_by_first_vowel_and_end() -> None:
    kinds = {text: next(letter for letter in text if letter in "aeiou") for text in answers("word-class")}
    seen = {(kinds[text], text[-1] in "aeiou", answer) for text, answer in answers("word-class").items()}
    assert len(seen) == len({answer for *_, answer in seen}) == 10
    of_vowel = {
        next(letter for letter in text if letter in "aeiou"): answer for text, answer in answers("word-kind").items()
    }
    assert of_vowel == {"a": "Vor", "e": "Vor", "i": "lun", "o": "Sek", "u": "Sek"}


def test_no_label_of_the_word_rule_is_much_commoner() -> None:
    outputs = list(answers("word-rule").values())
    assert 0.4 < outputs.count("Mil") / len(outputs) < 0.6


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"'word-rul'.*word-rule, word-suffix"):
        builtin_target("word-rul")
    with pytest.raises(ConfigError, match=r"'big'.*mini"):
        builtin_suite("big")
