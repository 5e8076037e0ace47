import hashlib
import json

import pytest

from keepshot.errors import ConfigError
from keepshot.tasks import builtin
from keepshot.tasks.builtin import builtin_suite, builtin_target, builtin_targets
from keepshot.tasks.example import Example, Task

CONTEXT = 512  # tokens of the bundled model, one for each byte
SHOTS = 16

TASKS = {task.name: task for task in builtin_suite().tasks}


def block(example: Example) -> int:
    return len(f"Q: {example.input}\nA: {example.output}\n".encode())


def test_the_suite_is_frozen() -> None:
    content = [[task.name, [[e.input, e.output] for e in task.examples]] for task in builtin_suite("mini").tasks]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert digest == "7d9a4d34bfd1bb6cbf37737966cfc18c84900dced83359201b4fe9240b2d5d0b"


def test_the_targets_are_frozen() -> None:
    targets = [builtin_target(name) for name in builtin_targets()]
    content = [[[e.input, e.output] for e in (*target.train, *target.test)] for target in targets]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    assert digest == "8b33b7913d8a743c33aeb62c9fc351cfca56181188edce212648d9fa174c03c7"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_suite_tasks_are_well_formed(task: Task) -> None:
    inputs = [example.input for example in task.examples]
    outputs = {example.output for example in task.examples}
    assert len(set(inputs)) == len(inputs)
    assert len(inputs) >= 100
    assert task.group == "suite"
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
    assert 10 <= len(TASKS) <= 12
    assert sum(task.scoring == "options" for task in TASKS.values()) == 2
    assert sum(task.scoring == "exact_match" and len(task.labels) == 2 for task in TASKS.values()) == 3
    assert sum(not task.labels for task in TASKS.values()) >= 5


@pytest.mark.parametrize(
    ("task", "text", "answer"),
    [
        ("sort-upper-append", "lemon", "ELMNObe"),
        ("reverse-drop-append", "lemon", "omeldu"),
        ("upper-prepend-append", "lemon", "teLEMONan"),
        ("reverse-shift", "lemon", "opnfm"),
        ("first-and-last", "lemon", "ln"),
    ],
)
def test_string_tasks_compute_what_their_names_say(task: str, text: str, answer: str) -> None:
    assert builtin._MINI[task].answer(text) == answer


def holds(task: str, answer: str) -> list[str]:
    return [example.input for example in TASKS[task].examples if example.output == answer]


def test_label_tasks_compute_what_their_names_say() -> None:
    assert all(text[1] in "aeiou" for text in holds("second-is-vowel", "lot"))
    assert all(text[-1] not in "aeiou" for text in holds("ends-with-vowel", "31"))
    assert all(text.count("1") >= 4 for text in holds("bit-majority", "Za"))
    assert sorted(map(int, holds("number-thirds", "mek"))) == list(range(33, 66))
    assert "5 0 3" not in holds("weighted-digits", "ti")
    assert sorted(map(int, holds("last-digit", "7"))) == list(range(7, 100, 10))


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
