import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from benchmarks.evidence_data import SOURCES, Row, Source, converted, hub_rows, write_data

from keepshot.errors import DataError
from keepshot.tasks.read import read_examples
from keepshot.tasks.suite_files import read_suite

TEXTS = [f"{word} number {n}" for n in range(30) for word in ("amber", "birch")]


def rows_of(source: Source) -> Iterator[Row]:
    """What the table says that the data set holds, with columns besides."""
    for n, text in enumerate(TEXTS):
        row: dict[str, object] = {"idx": n} | {name: f"{name} {text}" for name in source.columns}
        answer: object = n % len(source.names) if source.names else ("yes", "no")[n % 2]
        yield row | {source.answer: [answer, "perhaps"] if source.hub.startswith("google") else answer}


def hub(source: str) -> Iterator[Row]:
    return rows_of(next(one for one in SOURCES if one.hub == source))


def by_role(role: str) -> list[Source]:
    return [source for source in SOURCES if source.role == role]


def test_what_is_practised_is_of_other_families_than_what_is_asked() -> None:
    asked = {source.family for role in ("target", "suite", "validation") for source in by_role(role)}
    assert not asked & {source.family for source in by_role("icl")}
    assert len(by_role("suite")) >= 8
    assert len(by_role("validation")) >= 4
    assert len({source.file for source in SOURCES}) == len({source.hub for source in SOURCES}) == len(SOURCES)
    assert {source.role for source in SOURCES} == {"target", "suite", "validation", "icl", "general"}


def test_the_folder_has_the_layout_and_reads_as_tasks(tmp_path: Path) -> None:
    said: list[str] = []
    write_data(tmp_path / "data", hub, say=said.append)
    folder = tmp_path / "data"
    assert len(said) == len(SOURCES)
    for part in ("suite", "validation", "icl"):
        suite = read_suite(folder / part)
        assert not suite.skipped
        assert [task.name for task in suite.suite.tasks] == sorted(s.file.split("/")[1] for s in by_role(part))
    spam = next(task for task in read_suite(folder / "suite").suite.tasks if task.name == "sms-spam")
    assert spam.labels == ("ham", "spam")
    trivia = next(task for task in read_suite(folder / "icl").suite.tasks if task.name == "trivia")
    assert trivia.examples[0].aliases == ("perhaps",)
    assert read_examples(folder / "general.jsonl").examples[0].instruction.startswith("instruction ")
    assert read_examples(folder / "target.test.jsonl").format == "input/output"
    listed = json.loads((folder / "sources.json").read_text())["sources"]
    assert [(entry["file"], entry["rows"]) for entry in listed] == [(source.file, len(TEXTS)) for source in SOURCES]
    with pytest.raises(DataError, match="exists; remove it"):
        write_data(folder, hub)


def test_rows_are_chosen_by_key_and_none_is_double_empty_or_too_long() -> None:
    source = Source("suite/s", "org/s", "f", ("a", "b"), "label", ("off", "on"))
    rows = [{"a": f"one\n {n}\x92", "b": f"two  {n}", "label": n % 2} for n in range(900)]
    odd = [{"a": None, "b": "x", "label": 0}, {"a": "x" * 400, "b": "x", "label": 0}, rows[3] | {"a": "ONE 3"}]
    found = converted(source, lambda _: [*rows, *odd])
    assert len(found) == 500
    assert all(set(row["input"]) <= set("one tw\n0123456789") for row in found)
    assert {len(row["input"].split("\n")) for row in found} == {2}
    again = converted(source, lambda _: reversed([*rows, *odd]))
    assert sorted(row["input"].casefold() for row in found) == sorted(row["input"].casefold() for row in again)
    assert [row["output"] for row in found] == [("off", "on")[int(row["input"].split()[-1]) % 2] for row in found]


def test_a_data_set_that_is_not_what_it_was_is_named_with_what_was_found(tmp_path: Path) -> None:
    def changed(source: str) -> Iterator[Row]:
        for row in hub(source):
            if source == "SetFit/subj@test":
                yield {"sentence": row["text"], "label": 0}
            elif source == "ucirvine/sms_spam@train":
                yield {**row, "label": -1}
            else:
                yield row

    with pytest.raises(DataError) as error:
        write_data(tmp_path / "data", changed, say=lambda _: None)
    message = str(error.value)
    assert message.startswith("2 of 29 data sets cannot be used")
    assert (
        "SetFit/subj@test has the columns sentence, label; expected text, label_text, and text is not there" in message
    )
    assert "ucirvine/sms_spam@train: label is -1; expected a number from 0 to 1" in message
    assert message.endswith("--leave-out suite/subjectivity --leave-out suite/sms-spam")
    assert not (tmp_path / "data").exists()
    write_data(tmp_path / "data", changed, ["suite/subjectivity", "suite/sms-spam"], lambda _: None)
    assert not (tmp_path / "data" / "suite" / "sms-spam.jsonl").exists()


def test_hub_data_sets_are_read_with_numbers_for_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    features = datasets.Features({"sms": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])})
    stored = datasets.Dataset.from_list([{"sms": "win\n", "label": 1}, {"sms": "hello", "label": 0}], features=features)
    asked: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, config: str | None, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        return stored

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = next(one for one in SOURCES if one.file == "suite/sms-spam")
    found = converted(source, hub_rows)
    assert asked == [("ucirvine/sms_spam", None, "train")]
    assert sorted((row["input"], row["output"]) for row in found) == [("hello", "ham"), ("win", "spam")]


def test_without_the_target_nothing_else_is_fetched(tmp_path: Path) -> None:
    asked: list[str] = []

    def unreachable(source: str) -> Iterator[Row]:
        asked.append(source)
        raise DataError(f"{source} cannot be loaded")

    with pytest.raises(DataError, match=r"^mteb/banking77@train cannot be loaded$"):
        write_data(tmp_path / "data", unreachable)
    assert len(asked) == 1


def test_what_cannot_be_left_out_or_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file suite/spam; they are target"):
        write_data(tmp_path / "data", hub, ["suite/spam"])
    with pytest.raises(DataError, match="org/s: text is a number; expected text"):
        converted(Source("icl/s", "org/s", "f"), lambda _: [{"text": 3, "label_text": "a"}])
    with pytest.raises(DataError, match="org/s holds no row"):
        converted(Source("icl/s", "org/s", "f"), lambda _: [{"text": "a", "label_text": None}])
