"""A task file and its documents as a task: where examples come from, how they are worded and how they are scored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from keepshot.errors import DataError
from keepshot.tasks.example import Example, Task, Wording
from keepshot.tasks.lm_eval.form import read_field, read_form
from keepshot.tasks.lm_eval.source import Document, find_source
from keepshot.tasks.lm_eval.task_file import TaskFile
from keepshot.tasks.rows import BadRow, kind

# Metrics of the harness as ours; others are passed over. acc_norm counts characters, which for ASCII are bytes.
_OPTION_METRICS = {"acc": "sum", "acc_norm": "per_byte", "acc_bytes": "per_byte", "acc_mutual_info": "pmi"}
_TEXT_METRICS = {"exact_match": "exact", "f1": "f1", "bleu": "bleu", "chrf": "chrf"}
_METRICS = {"multiple_choice": _OPTION_METRICS, "generate_until": _TEXT_METRICS}

# Filters that change nothing here: one text is written, and white space around it never counts.
_IDLE_FILTERS = ("take_first", "remove_whitespace")

_SEPARATOR = "\n\n"
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first that is there
_DEFAULT_MAX_TOKENS = 256
_SAMPLING = ("temperature", "top_p", "top_k")  # without effect where nothing is sampled

# What demonstrations could have apart from the query: here there is one wording for both.
_WORDING = {"target_delimiter": " ", "doc_to_text": None, "doc_to_target": None, "doc_to_choice": None}


def data_files(file: TaskFile) -> tuple[Path, ...]:
    """The local files that a task's documents stand in; none if the task file does not say."""
    try:
        return tuple(path for paths in find_source(file).files.values() for path in paths)
    except DataError:
        return ()


def lm_eval_task(file: TaskFile) -> tuple[Task, tuple[BadRow, ...]]:
    """The task that a file describes, and the documents that make no example.

    Queries are the test split, or else the validation split. Demonstrations are what `fewshot_config` or
    `fewshot_split` names, or else the training split, the validation split, the queries' own. The metric is the first
    of `metric_list` that keepshot has. Labels are left to `read_suite`.

    Raises:
        DataError: The file asks for something that is not supported, or its documents cannot be used.
    """
    file.check_keys()
    _check_filters(file)
    name = file.name
    output_type = file.config.get("output_type", "generate_until")
    if not isinstance(output_type, str) or output_type not in _METRICS:
        raise file.refusal("output_type", f"is {output_type}; only multiple_choice and generate_until are read")
    asked_split = file.config.get("test_split") or file.config.get("validation_split")
    if not isinstance(asked_split, str):
        raise file.refusal("test_split", "is missing, and so is validation_split; one of them holds the queries")
    shown_split, samples = _shown(file)

    asked = _documents(file, asked_split)
    form = read_form(file, tuple(asked[0]), has_options=output_type == "multiple_choice")
    examples, bad = form.examples(asked, f"{file.path}, split {asked_split}")
    pool: tuple[Example, ...] = ()
    if shown_split != asked_split:
        where = f"split {shown_split}" if shown_split else "fewshot_config.samples"
        shown = _documents(file, shown_split) if shown_split else samples
        pool, others = form.examples(shown, f"{file.path}, {where}")
        bad += others
    wording = Wording(file.text("target_delimiter", " "), _separator(file), _description(file, asked))
    task = Task(name, examples, pool, wording=wording)
    return (_with_options if form.has_options else _generating)(file, task), bad


def _documents(file: TaskFile, split: str) -> Sequence[Document]:
    # Brings Arrow, which is slow to import.
    from keepshot.tasks.lm_eval.documents import read_documents

    source = find_source(file)
    try:
        return read_documents(source, split)
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None


def _shown(file: TaskFile) -> tuple[str, Sequence[Document]]:
    """The split that demonstrations come from; empty where the file holds them itself, with these."""
    config = file.mapping("fewshot_config")
    for key, value in config.items():
        if key in _WORDING and value != file.config.get(key, _WORDING[key]):
            raise file.refusal(f"fewshot_config.{key}", "is another than the query's, which is not supported")
        if key == "sampler" and value not in ("default", "first_n"):
            raise file.refusal("fewshot_config.sampler", f"is {value}; demonstrations are drawn by keepshot")
        if key not in (*_WORDING, "sampler", "split", "samples", "fewshot_delimiter") and value is not None:
            raise file.refusal(f"fewshot_config.{key}", "is not supported")
    splits = [file.config.get(f"{part}_split") for part in ("training", "validation", "test")]
    if (named := config.get("split", file.config.get("fewshot_split"))) is not None:
        splits = [named]
    elif (samples := config.get("samples")) is not None:
        if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
            raise file.refusal("fewshot_config.samples", "must be a list of documents")
        return "", samples
    split = next((split for split in splits if split is not None), None)
    if not isinstance(split, str) or not split:
        raise file.refusal("fewshot_split", f"is {kind(split)}; it must be a split's name")
    return split, ()


def _separator(file: TaskFile) -> str:
    separator = file.mapping("fewshot_config").get("fewshot_delimiter", file.text("fewshot_delimiter", _SEPARATOR))
    if not isinstance(separator, str):
        raise file.refusal("fewshot_config.fewshot_delimiter", f"is {kind(separator)}; it must be text")
    return separator


def _description(file: TaskFile, documents: Sequence[Document]) -> str:
    if not file.config.get("description"):
        return ""
    field = read_field(file, "description", tuple(documents[0]))
    try:
        texts = {str(field(document)) for document in documents}
    except DataError as error:
        raise DataError(f"{file.path}: {error}") from None
    if len(texts) > 1:
        raise file.refusal("description", "differs from document to document; it must be one for all")
    return texts.pop()


def _with_options(file: TaskFile, task: Task) -> Task:
    assert task.wording, "a task of a file has its own wording"
    name, _ = _metric(file, "multiple_choice")
    options = {option for row in (*task.examples, *task.pool) for option in row.options}
    if name == "acc_norm" and not all(option.isascii() for option in options):
        raise file.refusal("metric_list", "has acc_norm first, which counts characters; put acc or acc_bytes first")
    if name != "acc" and task.wording.delimiter.strip():
        raise file.refusal("target_delimiter", f"has more than white space, which {name} would count with every option")
    if name == "acc_mutual_info" and task.wording.description:
        raise file.refusal("description", "would stand before every option; acc_mutual_info takes them without")
    ends = {_end(row.input) for row in (*task.examples, *task.pool)}
    if len(ends) == 1:
        task = _space_to_answer(task, task.wording, ends.pop())
    elif name != "acc":
        raise file.refusal("doc_to_text", f"ends with white space here and there, which {name} would count unevenly")
    return replace(task, scoring="options", metric=_OPTION_METRICS[name])


def _end(text: str) -> str:
    return text[len(text.rstrip()) :]


def _space_to_answer(task: Task, wording: Wording, space: str) -> Task:
    """The same prompts with the inputs' last white space in the answers' spans: the harness scores it with options."""

    def cut(rows: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(replace(row, input=row.input.rstrip()) for row in rows)

    wording = replace(wording, delimiter=space + wording.delimiter)
    return replace(task, examples=cut(task.examples), pool=cut(task.pool), wording=wording)


def _generating(file: TaskFile, task: Task) -> Task:
    name, entry = _metric(file, "generate_until")
    for key, value in entry.items():
        if value and key not in ("metric", "aggregation", "higher_is_better"):
            raise file.refusal("metric_list", f"gives {name} {key}, which is not supported")
    if task.wording and task.wording.delimiter.strip():
        raise file.refusal(
            "target_delimiter", "has more than white space, which the harness leaves out of the question"
        )
    settings = file.mapping("generation_kwargs")
    for key, value in settings.items():
        if key not in ("until", "do_sample", *_MAX_TOKENS, *_SAMPLING) and (key, value) != ("num_beams", 1):
            raise file.refusal(f"generation_kwargs.{key}", "is not supported; texts are written greedily")
    sampled = settings.get("do_sample")
    if (bool(settings.get("temperature")) if sampled is None else sampled) is not False:
        raise file.refusal("generation_kwargs", "asks for sampling; texts are written greedily (do_sample: false)")
    until = settings.get("until", file.text("fewshot_delimiter", _SEPARATOR))
    stop = [until] if isinstance(until, str) else until
    if not isinstance(stop, list) or not stop or not all(isinstance(end, str) and end for end in stop):
        raise file.refusal("generation_kwargs.until", 'must say in texts where an answer ends, such as ["\\n"]')
    most = next((settings[key] for key in _MAX_TOKENS if settings.get(key) is not None), _DEFAULT_MAX_TOKENS)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise file.refusal("generation_kwargs", f"has {most!r} as the most tokens; it must be a whole number from 1")
    return replace(task, scoring="generate", metric=_TEXT_METRICS[name], stop=tuple(stop), max_new_tokens=most)


def _check_filters(file: TaskFile) -> None:
    for pipeline in file.mappings("filter_list"):
        steps = pipeline.get("filter")
        for step in steps if isinstance(steps, list) else [steps]:
            name = step.get("function") if isinstance(step, dict) else step
            if name not in _IDLE_FILTERS:
                raise file.refusal("filter_list", f"has the filter {name}; only {' and '.join(_IDLE_FILTERS)} are read")


def _metric(file: TaskFile, output_type: str) -> tuple[str, Mapping[str, object]]:
    """The first metric of the file that keepshot has, by the harness's name, with its entry."""
    known = _METRICS[output_type]
    default = {"metric": next(iter(known))}
    listed = [default] if file.config.get("metric_list") is None else file.mappings("metric_list")
    for entry in listed:
        name = entry.get("metric")
        if isinstance(name, str) and name in known:
            if entry.get("aggregation", "mean") not in ("mean", name):
                raise file.refusal(
                    "metric_list", f"aggregates {name} by {entry['aggregation']}, which is not supported"
                )
            return name, entry
    names = ", ".join(str(entry.get("metric")) for entry in listed)
    raise file.refusal("metric_list", f"has {names or 'no metric'}; for {output_type} there are {', '.join(known)}")
