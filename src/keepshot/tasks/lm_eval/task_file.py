"""The YAML of lm-evaluation-harness task files: includes merged, every key accounted for, no code run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import ScalarNode

from keepshot.errors import DataError
from keepshot.tasks.rows import kind

_READ = {
    *("task", "dataset_path", "dataset_name", "dataset_kwargs", "output_type"),
    *("training_split", "validation_split", "test_split", "fewshot_split", "fewshot_config"),
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter"),
    *("generation_kwargs", "metric_list", "filter_list"),
}

# What changes neither a prompt nor a score, and the number of shots, which an evaluation here sets itself.
_WITHOUT_EFFECT = {
    *("task_alias", "tag", "metadata", "num_fewshot", "unsafe_code"),
    "repeats",  # greedy decoding would write the same again
    *("should_decontaminate", "doc_to_decontamination_query"),
}

_REFUSED = {
    "group": "makes it a group of tasks; name the files of its tasks",
    "task_list": "makes it several tasks; write a file for each",
    "class": "makes it a task in Python, which is not run",
    "custom_dataset": "loads documents with Python code, which is not run; save them as a file",
    "process_docs": "changes documents with Python code, which is not run; save the changed ones as a file",
    "process_results": "scores with Python code, which is not run",
    "use_prompt": "takes prompts from promptsource; write doc_to_text and doc_to_target",
    "doc_to_image": "asks about images; only text is read",
    "doc_to_audio": "asks about sounds; only text is read",
    "gen_prefix": "begins the model's answer, which is not supported",
}

# Plain words that YAML 1.1, which the harness reads, takes for another value than YAML 1.2 does (and a few more).
_AMBIGUOUS = re.compile(
    r"""
      yes | no | on | off
    | [-+]? 0 [0-9a-fxo_]+                              # 012 is ten
    | (?= .*[0-9]) [-+.0-9_]* _ [-+.0-9_e]*             # 1_000
    | [-+]? [0-9_]+ (: [0-9]+)+ (\. [0-9_]*)?           # 12:30 is 750
    | [-+]? [0-9.]+ e [-+]? [0-9]+                      # 1e3 is text
    | [-+] \. [0-9]+                                    # -.5 is text
    """,
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Unread:
    """A value that is not taken, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A task file with what it includes.

    Attributes:
        path: Where it stands.
        config: Its keys, which go before those of included files.
    """

    path: Path
    config: Mapping[str, object]

    @property
    def is_template(self) -> bool:
        """Whether it names no task, so that it can only be included by others."""
        return not self.config.keys() & {"task", "group", "class", "task_list"}

    @property
    def name(self) -> str:
        """Of the task.

        Raises:
            DataError: It is no text.
        """
        name = self.config.get("task")
        if isinstance(name, _Unread):
            raise self.refusal("task", name.reason)
        if isinstance(name, list):
            raise self.refusal("task", "is a list, which makes it a group of tasks; name the files of its tasks")
        if not isinstance(name, str) or not name:
            raise self.refusal("task", f"is {kind(name)}; it must be the task's name")
        return name

    def text(self, key: str, default: str) -> str:
        """The text under `key`.

        Raises:
            DataError: There is something else.
        """
        value = self.config.get(key, default)
        if not isinstance(value, str):
            raise self.refusal(key, f"is {kind(value)}; it must be text")
        return value

    def mapping(self, key: str) -> Mapping[str, object]:
        """The mapping under `key`, empty if there is none.

        Raises:
            DataError: There is something else.
        """
        value = self.config.get(key) or {}
        if not isinstance(value, dict):
            raise self.refusal(key, f"is {kind(value)}; it must be a mapping")
        return value

    def mappings(self, key: str) -> list[Mapping[str, object]]:
        """The list of mappings under `key`, empty if there is none.

        Raises:
            DataError: There is something else.
        """
        value = self.config.get(key) or []
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.refusal(key, "must be a list of mappings")
        return value

    def refusal(self, key: str, reason: str) -> DataError:
        """The error that the file cannot be used for what stands under `key`."""
        return DataError(f"{self.path}: {key} {reason}")

    def check_keys(self) -> None:
        """See that every key is known, and that no value is code or an ambiguous word.

        Raises:
            DataError: It is not so.
        """
        for key, value in self.config.items():
            if value is None or key in _WITHOUT_EFFECT:
                continue
            if key in _REFUSED:
                raise self.refusal(key, _REFUSED[key])
            if key not in _READ:
                raise self.refusal(key, "is no key that the harness knows")
            if unread := next(_unread(value), None):
                raise self.refusal(key, unread.reason)


def load_task_file(path: Path) -> TaskFile:
    """Read a task file and the files that it includes.

    YAML is read as version 1.2, as everywhere in keepshot. The harness reads 1.1: `check_keys` refuses plain words on
    which the two differ (`no`, `012`, `1e3`, …), so that a file means the same to both.

    Raises:
        DataError: A file is missing, is no YAML mapping, or includes itself.
    """
    return TaskFile(path, _merged(path, ()))


def _merged(path: Path, above: tuple[Path, ...]) -> dict[str, object]:
    if path.resolve() in above:
        raise DataError(f"{path}: include leads back to the file itself")
    config = _parsed(path)
    includes = config.pop("include", None) or []
    merged: dict[str, object] = {}
    for included in includes if isinstance(includes, list) else [includes]:
        if not isinstance(included, str):
            raise DataError(f"{path}: include is {kind(included)}; it must be a path")
        inner = _merged(path.parent / included, (*above, path.resolve()))
        inner.pop("task_list", None)
        merged |= inner
    return merged | config


def _parsed(path: Path) -> dict[str, object]:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        config = yaml.load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}{line}: {error.problem}") from None
    except (OSError, ValueError, YAMLError) as error:  # ValueErrors: bytes that are not UTF-8, the 40th of May
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise DataError(f"{path} is no task file: it must be a mapping, such as task: my_task")
    return config


class _Constructor(SafeConstructor):
    """Reads code and ambiguous words as `_Unread`."""

    def construct_code(self, node: ScalarNode) -> _Unread:
        return _Unread(f"is Python code (!function {node.value}), which is not run")

    def construct_object(self, node: object, deep: bool = False) -> object:
        if isinstance(node, ScalarNode) and not node.style and _AMBIGUOUS.fullmatch(node.value):
            word = node.value
            return _Unread(f'has the word {word}, which YAML 1.1 and 1.2 read differently; write "{word}" in quotes')
        return super().construct_object(node, deep=deep)


_Constructor.add_constructor("!function", _Constructor.construct_code)


def _unread(value: object) -> Iterator[_Unread]:
    if isinstance(value, _Unread):
        yield value
    elif isinstance(value, dict):
        for inner in (*value.keys(), *value.values()):
            yield from _unread(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _unread(inner)
