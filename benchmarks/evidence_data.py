"""The data of `make evidence`: public data sets of the Hugging Face hub, as local files.

    python -m benchmarks.evidence_data FOLDER [--leave-out FILE ...]

Needs `keepshot[hub]`. Every file of the folder is one line of `SOURCES`; docs/evidence.md says how they were chosen.
"""

import argparse
import json
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keepshot.errors import DataError, KeepshotError
from keepshot.files import new_folder, write_json, write_text
from keepshot.keys import key
from keepshot.tasks.rows import BadRow, kind, raw_rows

Row = Mapping[str, object]
Reader = Callable[[str], Iterable[Row]]
"""Rows of a hub data set, `[org/]name[:config][@split]`, as columns to values."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file, from one split of one data set.

    Attributes:
        file: What it becomes, under the folder and without `.jsonl`; what comes before the slash is its role.
        hub: `[org/]name[:config][@split]`.
        family: What kind of thing it asks for.
        columns: Of the input; several are put on lines of their own.
        answer: The column of the answer. A list holds the answer and others that count as right.
        names: Of the answers, where the column holds their numbers.
    """

    file: str
    hub: str
    family: str
    columns: tuple[str, ...] = ("text",)
    answer: str = "label_text"
    names: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """`target`, `suite`, `validation`, `icl` or `general`."""
        return self.file.partition("/")[0].partition(".")[0]


# What trains (icl) asks for other kinds of things than what chooses (validation) and what is reported (suite): a method
# that practises other tasks shall not be judged by the kind of task that it practised.
# fmt: off
SOURCES = (
    Source("target.train", "mteb/banking77@train", "request"),
    Source("target.test", "mteb/banking77@test", "request"),

    Source("suite/film-sentiment", "SetFit/sst2@test", "sentiment"),
    Source("suite/product-sentiment", "SetFit/CR@test", "sentiment"),
    Source("suite/news-topic", "SetFit/ag_news@test", "topic"),
    Source("suite/encyclopaedia-topic", "fancyzhx/dbpedia_14@test", "topic", ("content",), "label", (
        "company", "school", "artist", "athlete", "politician", "vehicle", "building", "nature", "village", "animal",
        "plant", "album", "film", "book")),
    Source("suite/school-subject", "SetFit/student-question-categories@test", "topic"),
    Source("suite/question-type", "SetFit/TREC-QC@test", "question type", answer="label_coarse_text"),
    Source("suite/subjectivity", "SetFit/subj@test", "subjectivity"),
    Source("suite/sms-spam", "ucirvine/sms_spam@train", "spam", ("sms",), "label", ("ham", "spam")),
    Source("suite/request-domain", "mteb/MTOPDomainClassification:en@test", "request", answer="label", names=(
        "messaging", "calling", "event", "timer", "music", "weather", "alarm", "people", "reminder", "recipes",
        "news")),

    Source("validation/shop-sentiment", "fancyzhx/yelp_polarity@test", "sentiment", answer="label",
           names=("negative", "positive")),
    Source("validation/market-sentiment", "zeroshot/twitter-financial-news-sentiment@validation", "sentiment",
           answer="label", names=("bearish", "bullish", "neutral")),
    Source("validation/mail-spam", "SetFit/enron_spam@test", "spam"),
    Source("validation/language", "papluca/language-identification@test", "language", answer="labels"),

    Source("icl/paraphrase-news", "SetFit/mrpc@train", "paraphrase", ("text1", "text2")),
    Source("icl/paraphrase-question", "SetFit/qqp@validation", "paraphrase", ("text1", "text2")),
    Source("icl/entailment", "SetFit/rte@train", "entailment", ("text1", "text2")),
    Source("icl/entailment-genres", "SetFit/mnli@validation", "entailment", ("text1", "text2")),
    Source("icl/answers-question", "SetFit/qnli@validation", "entailment", ("text1", "text2")),
    Source("icl/acceptability", "nyu-mll/glue:cola@train", "acceptability", ("sentence",), "label",
           ("unacceptable", "acceptable")),
    Source("icl/offensive", "cardiffnlp/tweet_eval:offensive@train", "offence", answer="label",
           names=("not offensive", "offensive")),
    Source("icl/hate", "cardiffnlp/tweet_eval:hate@train", "offence", answer="label", names=("not hateful", "hateful")),
    Source("icl/irony", "cardiffnlp/tweet_eval:irony@train", "irony", answer="label", names=("sincere", "ironic")),
    Source("icl/emotion", "SetFit/emotion@train", "emotion"),
    Source("icl/counterfactual", "SetFit/amazon_counterfactual_en@train", "counterfactual"),
    Source("icl/science", "allenai/sciq@train", "facts", ("question",), "correct_answer"),
    Source("icl/trivia", "google-research-datasets/nq_open@train", "facts", ("question",), "answer"),

    Source("general", "databricks/databricks-dolly-15k@train", "general", ("instruction", "context"), "response"),
)
# fmt: on

# Rows of a file: as many as an evaluation draws, or as a short training sees.
_MOST = {"target": 10_000, "suite": 500, "validation": 400, "icl": 1_000, "general": 2_000}

# Characters of input and answer: 16 demonstrations fit 2,048 tokens, of texts of about four characters a token.
_LONGEST = {"target": 1_000, "suite": 300, "validation": 300, "icl": 300, "general": 2_000}


def hub_rows(source: str) -> Iterator[Row]:
    """Rows of a hub data set.

    Raises:
        DataError: It cannot be loaded, or a row is not valid.
    """
    for row in raw_rows(source):
        if isinstance(row, BadRow):
            raise DataError(str(row))
        yield row.values


def check_columns(source: str, row: Row, expected: Sequence[str]) -> None:
    """Raises a DataError that names the data set, what was expected and what was found."""
    if missing := [name for name in expected if name not in row]:
        raise DataError(
            f"{source} has the columns {', '.join(row)}; expected {', '.join(expected)}, and {missing[0]} is not there"
        )


def converted(source: Source, read: Reader = hub_rows) -> list[dict[str, object]]:
    """The rows of a source in keepshot's format, in a keyed order; no input twice, none that is empty or too long.

    Args:
        source: Where they come from.
        read: Reads a data set.

    Raises:
        DataError: The data set cannot be read, or is not what `SOURCES` says.
    """
    found: dict[str, dict[str, object]] = {}
    for row in read(source.hub):
        check_columns(source.hub, row, (*source.columns, source.answer))
        answers = _answers(source, row[source.answer])
        parts = [_text(source, name, row[name]) for name in source.columns]
        fits = sum(map(len, (*parts, *answers[:1]))) <= _LONGEST[source.role]
        if parts[0] and answers and fits:
            found.setdefault("\n".join(parts).casefold(), _row(source, parts, answers))
    if not found:
        raise DataError(f"{source.hub} holds no row whose input and answer are short enough and not empty")
    order = sorted(found, key=lambda text: key(0, "evidence", source.file, text))
    return [found[text] for text in order[: _MOST[source.role]]]


def _row(source: Source, parts: Sequence[str], answers: Sequence[str]) -> dict[str, object]:
    if source.role == "general":
        return {"instruction": parts[0], "input": parts[1], "output": answers[0]}
    aliases = {"aliases": list(answers[1:])} if answers[1:] else {}
    return {"input": "\n".join(parts), "output": answers[0], **aliases}


def _answers(source: Source, value: object) -> list[str]:
    """The answer and its aliases; none where the answer is empty."""
    if source.names:
        if not isinstance(value, int) or not 0 <= value < len(source.names):
            raise DataError(
                f"{source.hub}: {source.answer} is {value!r}; expected a number from 0 to {len(source.names) - 1}"
            )
        return [source.names[value]]
    values = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(text for one in values if (text := _text(source, source.answer, one))))


def _text(source: Source, column: str, value: object) -> str:
    if value is None:  # public data have gaps; what is empty is left out
        return ""
    if not isinstance(value, str):
        raise DataError(f"{source.hub}: {column} is {kind(value)}; expected text")
    lines = " ".join(value.split())
    return "".join(letter for letter in lines if unicodedata.category(letter) != "Cc")


def write_data(
    folder: Path, read: Reader = hub_rows, leave_out: Collection[str] = (), say: Callable[[str], None] = print
) -> None:
    """Write every file of `SOURCES`, and `sources.json` that lists them; the folder is complete or absent.

    Args:
        folder: Must not exist.
        read: Reads a data set.
        leave_out: Files to do without, as `SOURCES` names them.
        say: Called with a line for every file.

    Raises:
        DataError: The folder exists, a file to leave out is not known, or data sets cannot be used; all are named.
    """
    if folder.exists():
        raise DataError(f"{folder} exists; remove it, or name another folder")
    if unknown := set(leave_out) - {source.file for source in SOURCES}:
        raise DataError(f"there is no file {min(unknown)}; they are {', '.join(source.file for source in SOURCES)}")
    wanted = [source for source in SOURCES if source.file not in leave_out]
    failed: list[tuple[str, str]] = []
    listed: list[dict[str, object]] = []
    with new_folder(folder) as aside:
        for source in wanted:
            try:
                rows = converted(source, read)
            except DataError as error:
                if (
                    source.role == "target"
                ):  # nothing goes without it; mostly there is no network, or no datasets library
                    raise
                say(f"{source.file}: failed")
                failed.append((source.file, str(error)))
                continue
            say(f"{source.file}: {len(rows)} rows of {source.hub}")
            listed.append({"file": source.file, "hub": source.hub, "family": source.family, "rows": len(rows)})
            write_rows(aside / f"{source.file}.jsonl", rows)
        if failed:
            raise DataError(
                f"{len(failed)} of {len(wanted)} data sets cannot be used: {'; '.join(why for _, why in failed)}. "
                "Correct their lines in benchmarks/evidence_data.py, or do without: "
                f"{' '.join(f'--leave-out {file}' for file, _ in failed)}"
            )
        write_json(aside / "sources.json", {"datasets": _datasets_version(), "sources": listed})


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write JSON lines."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _datasets_version() -> str:
    try:
        return version("datasets")
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    """Download, convert, write."""
    parser = argparse.ArgumentParser(description="Write the data of make evidence, from the Hugging Face hub.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--leave-out", action="append", default=[], metavar="FILE", help="such as suite/sms-spam")
    options = parser.parse_args()
    try:
        write_data(options.folder, leave_out=options.leave_out)
    except KeepshotError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
