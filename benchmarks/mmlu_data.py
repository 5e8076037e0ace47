"""The local files of recipes/mmlu.yaml, made from `cais/mmlu`.

    python -m benchmarks.mmlu_data FOLDER [--seed N]

Needs `keepshot[hub]`. The 14,042 questions of the test split are de-duplicated by subject and text of the right answer,
as in arXiv 2602.23197, and every category is divided by a key of what is asked: 70 % train, 10 % validation, 20 % test.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evidence_data import Reader, Row, check_columns, hub_rows, write_rows
from keepshot.errors import DataError, KeepshotError
from keepshot.files import new_folder
from keepshot.keys import key

HUB = "cais/mmlu:all@test"
COLUMNS = ("question", "subject", "choices", "answer")
LETTERS = "ABCD"
INSTRUCTION = "Answer with the letter of the right choice."

TARGET = "humanities"
TRAIN_ROWS = 1000
"""Of the target: the paper's 1,000, which are 5 epochs in 500 steps of 10."""

# Of a category: a task of a suite needs 20 rows, and validation has a tenth.
FEWEST = 200

# The categories of lm-evaluation-harness; STEM is every other subject.
SUBJECTS = {
    "humanities": (
        "formal_logic high_school_european_history high_school_us_history high_school_world_history international_law "
        "jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory professional_law "
        "world_religions"
    ),
    "social-sciences": (
        "econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics "
        "high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations "
        "security_studies sociology us_foreign_policy"
    ),
    "other": (
        "business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing "
        "medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology"
    ),
    "stem": (
        "abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science "
        "college_mathematics college_physics computer_security conceptual_physics electrical_engineering "
        "elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science "
        "high_school_mathematics high_school_physics high_school_statistics machine_learning"
    ),
}
CATEGORIES = {subject: category for category, subjects in SUBJECTS.items() for subject in subjects.split()}


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of a category, in a keyed order."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


def question(row: Row) -> dict[str, object]:
    """A row of MMLU in keepshot's format, scored by its four letters.

    Raises:
        DataError: It is not what `cais/mmlu` holds.

    Example:
        >>> row = {"question": "2 + 2?", "subject": "global_facts", "choices": ["1", "2", "3", "4"], "answer": 3}
        >>> question(row)["output"], question(row)["input"].splitlines()[-1]
        ('D', 'D. 4')
    """
    subject, choices, answer = _checked(row)
    lettered = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    asked = f"Subject: {subject.replace('_', ' ')}\nQuestion: {str(row['question']).strip()}"
    return {
        "instruction": INSTRUCTION,
        "input": "\n".join([asked, *lettered]),
        "output": LETTERS[answer],
        "options": list(LETTERS),
    }


def _checked(row: Row) -> tuple[str, list[str], int]:
    """Subject, choices, and which of them is right."""
    check_columns(HUB, row, COLUMNS)
    subject, choices, answer = str(row["subject"]), row["choices"], row["answer"]
    if not isinstance(choices, list) or len(choices) != len(LETTERS):
        raise DataError(f"{HUB}: choices is {choices!r}; expected a list of {len(LETTERS)}")
    if not isinstance(answer, int) or not 0 <= answer < len(LETTERS):
        raise DataError(f"{HUB}: answer is {answer!r}; expected a number from 0 to {len(LETTERS) - 1}")
    if subject not in CATEGORIES:
        raise DataError(f"{HUB}: the subject {subject!r} is in no category of benchmarks/mmlu_data.py; add it there")
    return subject, [" ".join(str(choice).split()) for choice in choices], answer


def categories(rows: Iterable[Row], seed: int = 0) -> dict[str, Parts]:
    """The questions of every category, de-duplicated and divided by a key.

    Which part a question goes to depends on the seed and the question, not on the order of the rows.

    Args:
        rows: Of `cais/mmlu`.
        seed: Of the division.

    Raises:
        DataError: A row is not what `cais/mmlu` holds, or a category has too few.
    """
    placed = []
    for row in rows:
        subject, choices, answer = _checked(row)
        found = question(row)
        placed.append((key(seed, "mmlu", str(found["input"])), (subject, choices[answer].casefold()), found))
    divided: dict[str, list[Row]] = {category: [] for category in SUBJECTS}
    seen: set[tuple[str, str]] = set()
    for _, (subject, right), found in sorted(placed, key=lambda entry: entry[0]):
        if (subject, right) not in seen:
            seen.add((subject, right))
            divided[CATEGORIES[subject]].append(found)
    for category, found_rows in divided.items():
        if len(found_rows) < FEWEST:
            raise DataError(f"{HUB} has {len(found_rows)} questions of {category}; {FEWEST} or more are needed")
    return {category: _parts(found_rows) for category, found_rows in divided.items()}


def _parts(rows: list[Row]) -> Parts:
    tenth = len(rows) // 10
    return Parts(train=rows[3 * tenth :], validation=rows[2 * tenth : 3 * tenth], test=rows[: 2 * tenth])


def write_mmlu(folder: Path, read: Reader = hub_rows, seed: int = 0, say: Callable[[str], None] = print) -> None:
    """Write the target's files, `suite/` and `validation/`; the folder is complete or absent.

    Args:
        folder: Must not exist.
        read: Reads a data set.
        seed: Of the division.
        say: Called with a line for every category.

    Raises:
        DataError: The folder exists, or the data set cannot be read or is not what it was.
    """
    if folder.exists():
        raise DataError(f"{folder} exists; remove it, or name another folder")
    divided = categories(read(HUB), seed)
    with new_folder(folder) as aside:
        for category, parts in divided.items():
            say(f"{category}: {len(parts.train)} train, {len(parts.validation)} validation, {len(parts.test)} test")
            if category == TARGET:
                write_rows(aside / f"{category}.train.jsonl", parts.train[:TRAIN_ROWS])
                write_rows(aside / f"{category}.validation.jsonl", parts.validation)
                write_rows(aside / f"{category}.test.jsonl", parts.test)
            else:
                write_rows(aside / "suite" / f"{category}.train.jsonl", parts.train)
                write_rows(aside / "suite" / f"{category}.test.jsonl", parts.test)
                write_rows(aside / "validation" / f"{category}-others.jsonl", parts.validation)


def main() -> None:
    """Download, convert, write."""
    parser = argparse.ArgumentParser(description="Write the files of recipes/mmlu.yaml, from cais/mmlu.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        write_mmlu(options.folder, seed=options.seed)
    except KeepshotError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
