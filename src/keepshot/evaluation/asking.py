"""One demonstration set of a task, asked at every shot count: prompts, scores, items."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from keepshot.episodes import DemonstrationSet
from keepshot.evaluation.backend import Backend, Score
from keepshot.evaluation.items import Item
from keepshot.evaluation.metrics import ScoredOption, choose_option, text_metric
from keepshot.prompts import Prompt, Row, Template, VerbatimTemplate, encode
from keepshot.tasks.example import Example, Task, ending_alike, hold_line_ends

_MORE = 16  # tokens that may be written beyond those of a task's longest answer


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is asked.

    Attributes:
        name: In results.
        backend: Answers.
        tokenizer: The model's.
        template: How prompts are written, unless a task has its own wording.
        context_length: In tokens.
    """

    name: str
    backend: Backend
    tokenizer: PreTrainedTokenizerBase
    template: Template
    context_length: int

    def template_of(self, task: Task) -> Template:
        """How a task's prompts are written: in its own wording, if it has one."""
        return self.template if task.wording is None else VerbatimTemplate(task.wording)


@dataclass(frozen=True, slots=True)
class _Question:
    """A query with the answers that are scored for it, the right one first."""

    query: Example
    answers: tuple[str, ...]


def ask(subject: Subject, task: Task, drawn: DemonstrationSet, shots: Sequence[int]) -> dict[int, list[Item]]:
    """Items of one demonstration set by shot count, for the shot counts whose every prompt fits the context."""
    template = subject.template_of(task)
    # Of the whole task: where an answer ends must not depend on the examples that a set happens to draw.
    lines = hold_line_ends((*task.examples, *task.pool))
    drawn = replace(
        drawn,
        demonstrations=ending_alike(drawn.demonstrations, lines),
        queries=ending_alike(drawn.queries, lines),
    )
    questions = [_Question(query, _candidates(task, query)) for query in drawn.queries]
    levels: dict[int, list[Row]] = {}
    room = _room(subject, task) if task.scoring == "generate" else 0
    for n in (n for n in shots if n <= len(drawn.demonstrations)):
        rows = encode(
            [
                template.render([*drawn.demonstrations[:n], _answered(question.query, answer)])
                for question in questions
                for answer in question.answers
            ],
            subject.tokenizer,
        )
        if max(max(len(row.ids), row.answers[-1][0] + room) for row in rows) > subject.context_length:
            break  # more demonstrations are longer
        levels[n] = rows
    judge = _judge(subject, task, drawn, lines)
    found: dict[int, list[Item]] = {}
    for (n, rows), scores in zip(levels.items(), subject.backend.score(list(levels.values())), strict=True):
        found[n] = list(_items(drawn, n, questions, judge(questions, rows, scores)))
    return found


@dataclass(frozen=True, slots=True)
class _Judged:
    """What became of a question."""

    row: Row
    gold: Score
    predicted: str
    score: float


_Judge = Callable[[Sequence[_Question], Sequence[Row], Sequence[Score]], Iterator[_Judged]]


def _judge(subject: Subject, task: Task, drawn: DemonstrationSet, several_lines: bool) -> _Judge:
    """How scores become predictions."""
    match task.scoring:
        case "options":
            return _Options(task.metric, _unconditional(subject, task, drawn))
        case "exact_match":
            return _ExactMatch(subject.tokenizer)
        case "generate":
            template = subject.template_of(task)
            ends = (*task.stop, *template.turn_end()) if task.stop else template.stop(several_lines)
            return _Generation(subject.backend, task, ends, _room(subject, task))


def _room(subject: Subject, task: Task) -> int:
    """The most tokens that are written: as the task says, or by its longest answer, whichever questions are drawn."""
    if task.max_new_tokens:
        return task.max_new_tokens
    answers = list({answer for example in (*task.examples, *task.pool) for answer in example.answers})
    return max(map(len, subject.tokenizer(answers, add_special_tokens=False, verbose=False)["input_ids"])) + _MORE


@dataclass(frozen=True, slots=True)
class _Options:
    metric: str
    unconditional: dict[Example, float]

    def __call__(
        self, questions: Sequence[_Question], rows: Sequence[Row], scores: Sequence[Score]
    ) -> Iterator[_Judged]:
        for question, mine, row in _grouped(questions, rows, scores):
            by_answer = dict(zip(question.answers, mine, strict=True))
            # Equal likelihoods (16-bit logits are coarse) go to the option that the question names first: the right
            # one stands first among the answers, and must not win by that.
            options = tuple(dict.fromkeys((*question.query.options, *question.answers)))
            scored = [
                ScoredOption(
                    option,
                    by_answer[option].log_likelihood,
                    by_answer[option].num_tokens,
                    self.unconditional.get(_unasked(question.query, option)),
                )
                for option in options
            ]
            chosen = choose_option(self.metric, scored)
            yield _Judged(row, mine[0], options[chosen], float(options[chosen] == question.query.output))


@dataclass(frozen=True, slots=True)
class _ExactMatch:
    tokenizer: PreTrainedTokenizerBase

    def __call__(
        self, questions: Sequence[_Question], rows: Sequence[Row], scores: Sequence[Score]
    ) -> Iterator[_Judged]:
        for question, mine, row in _grouped(questions, rows, scores):
            hits = [answer for answer, score in zip(question.answers, mine, strict=True) if score.exact]
            predicted = hits[0] if hits else self.tokenizer.decode(list(mine[0].written)).strip()
            yield _Judged(row, mine[0], predicted, float(bool(hits)))


@dataclass(frozen=True, slots=True)
class _Generation:
    backend: Backend
    task: Task
    stop: tuple[str, ...]
    room: int

    def __call__(
        self, questions: Sequence[_Question], rows: Sequence[Row], scores: Sequence[Score]
    ) -> Iterator[_Judged]:
        metric = text_metric(self.task.metric)
        texts = self.backend.generate(rows, self.stop, self.room)
        for question, row, score, text in zip(questions, rows, scores, texts, strict=True):
            yield _Judged(row, score, text, metric.score(text, question.query.answers))


def _unconditional(subject: Subject, task: Task, drawn: DemonstrationSet) -> dict[Example, float]:
    """With `pmi`, what every option is worth to the model behind an empty input, without demonstrations."""
    if task.metric != "pmi":
        return {}
    # A wording's description is left out with the demonstrations, as lm-evaluation-harness 0.4.13 does.
    bare = task if task.wording is None else replace(task, wording=replace(task.wording, description=""))
    template = subject.template_of(bare)
    empty = list(dict.fromkeys(_unasked(query, option) for query in drawn.queries for option in query.options))
    prompts = [_begun(template.render([example]), subject.tokenizer) for example in empty]
    [scores] = subject.backend.score([encode(prompts, subject.tokenizer)])
    return {example: score.log_likelihood for example, score in zip(empty, scores, strict=True)}


def _unasked(query: Example, option: str) -> Example:
    return Example("", option, instruction=query.instruction, several_lines=query.several_lines)


def _begun(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The prompt behind an end token, if its answer has nothing before it that could predict it."""
    if prompt.answers[-1][0] > 0 or tokenizer("").input_ids:
        return prompt
    token = tokenizer.bos_token or tokenizer.eos_token
    start, end = prompt.answers[-1]
    return Prompt(token + prompt.text, ((start + len(token), end + len(token)),))


def _candidates(task: Task, query: Example) -> tuple[str, ...]:
    """The answers to score: all options, every answer that counts, or (for its NLL) the main one."""
    match task.scoring:
        case "options":
            return (query.output, *(option for option in query.options if option != query.output))
        case "exact_match":
            return query.answers
        case "generate":
            return (query.output,)


def _answered(query: Example, answer: str) -> Example:
    return query if answer == query.output else replace(query, output=answer)


def _grouped(
    questions: Sequence[_Question], rows: Sequence[Row], scores: Sequence[Score]
) -> Iterator[tuple[_Question, Sequence[Score], Row]]:
    at = 0
    for question in questions:
        yield question, scores[at : at + len(question.answers)], rows[at]
        at += len(question.answers)


def _items(
    drawn: DemonstrationSet, shots: int, questions: Sequence[_Question], judged: Iterator[_Judged]
) -> Iterator[Item]:
    for index, (question, found) in enumerate(zip(questions, judged, strict=True)):
        ids = found.row.ids[: found.row.answers[-1][0]]
        yield Item(
            task=drawn.task,
            set=drawn.index,
            shots=shots,
            query=index,
            prompt=hashlib.blake2b(repr(ids).encode(), digest_size=8).hexdigest(),
            answer=question.query.output,
            aliases=question.query.aliases,
            predicted=found.predicted,
            score=found.score,
            nll=-found.gold.log_likelihood / found.gold.num_tokens,
        )
