from dataclasses import astuple, replace

import pytest
from tests.architectures import ARCHITECTURES
from tests.backends import RIGHT_NATS, WRONG_NATS, rigged, text_of
from tokenizers import processors
from transformers import AutoTokenizer

from keepshot.episodes import demonstration_set
from keepshot.evaluation import LocalModel, Subject, score_rows
from keepshot.evaluation.asking import ask
from keepshot.models.load import load_tokenizer
from keepshot.models.source import model_source
from keepshot.prompts import INSTRUCTION, PLAIN, VerbatimTemplate, encode
from keepshot.prompts.template import BlockTemplate
from keepshot.tasks.example import Example, Task, Wording

NEXT = Task("next", tuple(Example(str(i), str(i + 1), aliases=(f"{i + 1}.0",)) for i in range(60)))
PARITY = Task(
    "parity",
    tuple(Example(str(i), ("even", "odd")[i % 2], options=("odd", "even", "none")) for i in range(60)),
    scoring="options",
    labels=("odd", "even"),
)
LONG = ("no", "yes, of course", "ça ira", "q", "naïve")
MIXED = Task(
    "mixed",
    tuple(Example(f"is {i}?", LONG[i % 4], instruction="AB"[i % 2], options=LONG) for i in range(60)),
    scoring="options",
)
STORY = replace(NEXT, scoring="generate")
SHOTS = (0, 1, 3)


def draw(task, queries=8):
    return demonstration_set(task, 1, sets=2, shots=max(SHOTS), queries=queries, seed=5)


def asked(subject, task, shots=SHOTS):
    """All items of one demonstration set, in order of shots."""
    found = ask(subject, task, draw(task), shots)
    assert tuple(found) == tuple(shots)
    return [item for n in shots for item in found[n]]


def answer_of(text):
    return str(int(text) + 1)


@pytest.fixture(scope="module")
def llama():
    tokenizer = load_tokenizer("mini")
    return Subject("llama", LocalModel(ARCHITECTURES["llama"](), tokenizer), tokenizer, PLAIN, 256)


def likelihood(subject, template, *examples):
    """Of the last answer, by itself, with its number of tokens."""
    [score] = score_rows(subject.backend.model, encode([template.render(examples)], subject.tokenizer))
    return score.log_likelihood, score.num_tokens


def by_hand(subject, task, metric):
    """For every query of every shot count the option that the metric prefers, written out."""
    drawn = draw(task)
    chosen = []
    for n in SHOTS:
        for query in drawn.queries:
            values = {}
            for option in query.options:
                total, tokens = likelihood(subject, PLAIN, *drawn.demonstrations[:n], replace(query, output=option))
                empty, _ = likelihood(subject, PLAIN, Example("", option, instruction=query.instruction))
                values[option] = {
                    "sum": total,
                    "per_token": total / tokens,
                    "per_byte": total / len(option.encode()),
                    "pmi": total - empty,
                }[metric]
            chosen.append(max(values, key=values.__getitem__))
    return chosen


class Recording:
    """A backend that remembers what it was asked."""

    shares = True

    def __init__(self, backend):
        self.backend, self.rows = backend, []

    def identity(self):
        return self.backend.identity()

    def score(self, levels):
        self.rows += [row for rows in levels for row in rows]
        return self.backend.score(levels)

    def generate(self, rows, stop, max_new_tokens):
        return self.backend.generate(rows, stop, max_new_tokens)


METRICS = ("sum", "per_token", "per_byte", "pmi")


@pytest.fixture(scope="module")
def expected(llama):
    return {metric: by_hand(llama, MIXED, metric) for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS)
def test_options_are_chosen_as_by_hand(metric, llama, expected):
    items = asked(llama, replace(MIXED, metric=metric))
    assert [item.predicted for item in items] == expected[metric]
    assert [item.score for item in items] == [float(item.predicted == item.answer) for item in items]
    others = [expected[other] for other in METRICS if other != metric]
    assert expected[metric] not in others, "a metric that agrees with another everywhere would hide a mistake"


def test_no_metric_is_the_sum(llama, expected):
    assert [item.predicted for item in asked(llama, MIXED)] == expected["sum"]


def test_nll_is_that_of_the_right_option_scored_by_itself(llama):
    drawn = draw(MIXED)
    items = asked(llama, replace(MIXED, metric="pmi"))
    scores = [likelihood(llama, PLAIN, *drawn.demonstrations[:n], query) for n in SHOTS for query in drawn.queries]
    assert [item.nll for item in items] == pytest.approx([-total / tokens for total, tokens in scores], abs=1e-4)


def test_pmi_behind_a_task_s_own_wording_leaves_its_description_out():
    task = replace(PARITY, metric="pmi", wording=Wording(" -> ", "; ", "odd or even? "))
    subject = rigged(lambda question, shots: None)
    asked(subject, task)
    assert [text_of(row) for row in subject.backend.asked[:3]] == [(" ->", f" {o}") for o in ("odd", "even", "none")]


def test_pmi_needs_no_begin_token(llama):
    tokenizer = AutoTokenizer.from_pretrained(model_source("mini"))
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert tokenizer("").input_ids == []
    task = replace(MIXED, metric="pmi", wording=Wording(" ", "\n\n"))
    rows = encode([VerbatimTemplate(task.wording).render([Example("", option)]) for option in LONG], llama.tokenizer)
    assert [text_of(row) for row in rows] == [("", f" {option}") for option in LONG]  # behind the begin token
    backend = Recording(llama.backend)
    ask(replace(llama, tokenizer=tokenizer, backend=backend), task, draw(task), SHOTS)
    assert set(rows) <= set(backend.rows)
    assert not any(row.ids[0] == tokenizer.bos_token_id for row in backend.rows if row not in rows)


@pytest.mark.parametrize("metric", METRICS)
def test_options_that_the_subject_holds_equal_go_to_the_first_and_not_to_the_right_one(metric):
    task = replace(
        PARITY, metric=metric, examples=tuple(Example(str(i), "ab"[i % 2], options=("b", "a")) for i in range(60))
    )
    items = asked(rigged(lambda question, shots: None), task)
    assert {item.predicted for item in items} == {"b"}
    assert {item.score for item in items} == {1.0, 0.0}


def test_the_likeliest_option_is_the_answer_even_if_the_subject_would_write_something_else():
    items = asked(rigged(lambda question, shots: "oddly"), PARITY)  # `odd` is the option that it agrees with longest
    assert {item.predicted for item in items} == {"odd"}
    assert all(item.score == (item.answer == "odd") for item in items)
    exact = asked(rigged(lambda question, shots: "oddly"), replace(PARITY, scoring="exact_match"))
    assert not any(item.score for item in exact)


def test_options_are_scored_with_the_right_answer_s_nll():
    items = asked(rigged(lambda question, shots: ("even", "odd")[int(question) % 2]), PARITY)
    assert all(item.score == 1.0 for item in items)
    assert [item.nll for item in items] == pytest.approx([RIGHT_NATS] * len(items))


def test_the_subject_sees_as_many_demonstrations_as_an_item_says():
    drawn = draw(NEXT)
    subject = rigged(lambda question, shots: answer_of(question) if shots == 1 else "no")
    assert [item.score for item in asked(subject, NEXT)] == [0.0] * 8 + [1.0] * 8 + [0.0] * 8
    last = text_of(subject.backend.asked[-1])[0]
    shown = "".join(f"Q: {example.input}\nA: {example.output}\n" for example in drawn.demonstrations)
    assert last == f"{shown}Q: {drawn.queries[-1].input}\nA:"


def test_nll_is_per_token_of_the_main_answer_terminator_included():
    for item in asked(rigged(lambda text, shots: answer_of(text) if int(text) % 2 else "no"), NEXT):
        tokens = len(f" {item.answer}\n")
        wrong = tokens - 1 if int(item.answer) % 2 else 0  # the space is right
        assert item.nll == pytest.approx((wrong * WRONG_NATS + (tokens - wrong) * RIGHT_NATS) / tokens)


def test_a_wrong_answer_is_shown_up_to_its_first_deviation():
    items = asked(rigged(lambda text, shots: "1x"), NEXT)
    assert {item.predicted for item in items if item.answer[0] == "1" and len(item.answer) > 1} == {"1x"}
    assert {item.predicted for item in items if item.answer[0] != "1"} == {"1"}


def test_an_answer_must_end_to_be_right():
    items = asked(rigged(lambda text, shots: f"{answer_of(text)}0"), NEXT)
    assert not any(item.score for item in items)
    assert all(item.predicted == f"{item.answer}0" for item in items)


def test_an_alias_is_right_and_reported_and_leaves_the_nll_alone():
    for item in asked(rigged(lambda text, shots: f"{answer_of(text)}.0"), NEXT):
        assert (item.score, item.predicted, item.aliases) == (1.0, f"{item.answer}.0", (f"{item.answer}.0",))
        assert item.nll > 1


def test_an_item_says_where_it_stands_and_what_was_asked():
    drawn = draw(NEXT)
    items = asked(rigged(lambda text, shots: "1"), NEXT)
    places = [(item.task, item.set, item.shots, item.query) for item in items]
    assert places == [("next", 1, n, i) for n in SHOTS for i in range(len(drawn.queries))]
    assert [item.answer for item in items] == [query.output for query in drawn.queries] * len(SHOTS)


# What is written


@pytest.mark.parametrize(
    ("metric", "said", "score"),
    [
        ("", "{}", 1.0),
        ("", "{} or so", 0.0),
        ("exact", "{}.0", 1.0),
        ("numeric", "it is {},000/1000 of them", 1.0),
        ("numeric", "{}1", 0.0),
        ("f1", "the {} and more", 0.5),
        ("set", "{}, {}", 1.0),
        ("tests.backends:half", "about {}", 0.5),
    ],
)
def test_a_written_answer_is_compared_by_the_task_s_metric(metric, said, score):
    task = replace(STORY, metric=metric)
    for item in asked(rigged(lambda text, shots: said.replace("{}", answer_of(text))), task):
        assert item.predicted == said.replace("{}", item.answer)
        assert item.score == pytest.approx(score)
        # The answer itself is scored beside it, as with exact match; its aliases are not.
        gold, told = f" {item.answer}\n", f" {item.predicted}\n"
        right = next((i for i in range(len(gold)) if gold[i] != told[i]), len(gold))
        nats = right * RIGHT_NATS + (len(gold) - right) * WRONG_NATS
        assert item.nll == pytest.approx(nats / len(gold))


def test_an_alias_counts_for_a_written_answer_and_only_the_main_one_is_scored():
    subject = rigged(lambda text, shots: f"{answer_of(text)}.0 words")
    items = asked(subject, replace(STORY, metric="f1"))
    assert all(0 < item.score < 1 for item in items)
    assert len(subject.backend.asked) == len(items)


def test_writing_goes_on_from_the_prompt_up_to_a_stop_string():
    subject = rigged(lambda text, shots: f"{answer_of(text)}\nQ: more")
    items = asked(subject, replace(STORY, max_new_tokens=7))
    assert {item.score for item in items} == {1.0}
    prompts = [text_of(row)[0] for row in subject.backend.asked]
    assert subject.backend.written == [(prompt, ("\n",), 7) for prompt in prompts]


@pytest.mark.parametrize("part", ["examples", "pool"])
def test_one_long_answer_in_the_task_lets_every_set_write_several_lines(part):
    drawn = draw(STORY)
    elsewhere = next(e for e in STORY.examples if e not in (*drawn.queries, *drawn.demonstrations))
    lines = replace(elsewhere, output="1\n2")
    examples = tuple(lines if example is elsewhere else example for example in STORY.examples)
    task = replace(STORY, examples=examples) if part == "examples" else replace(STORY, pool=examples)
    assert "\n" not in "".join(e.output for e in (*draw(task).queries, *draw(task).demonstrations))
    subject = rigged(lambda text, shots: f"{answer_of(text)}\nmore\nQ: another")
    assert asked(subject, task)[0].predicted.endswith("\nmore")
    assert {stop for _, stop, _ in subject.backend.written} == {("\nQ:",)}


def test_the_answers_of_such_a_task_are_scored_with_the_next_block_that_ends_them():
    elsewhere = next(e for e in STORY.examples if e not in (*draw(STORY).queries, *draw(STORY).demonstrations))
    examples = tuple(replace(e, output="1\n2") if e is elsewhere else e for e in STORY.examples)
    for task, end in ((STORY, "\n"), (replace(STORY, examples=examples), "\nQ:")):
        subject = rigged(lambda text, shots: answer_of(text))
        asked(subject, replace(task, scoring="exact_match", metric=""))
        for row in subject.backend.asked:
            start, stop = row.answers[-1]
            assert subject.tokenizer.decode(row.ids[start:stop]).endswith(end)
            assert stop == len(row.ids)


def test_a_task_s_own_stop_strings_go_before_the_template_s():
    subject = rigged(lambda text, shots: f"{answer_of(text)}; \n{text}")
    items = asked(subject, replace(STORY, stop=(";",)))
    assert {item.score for item in items} == {1.0}
    assert {stop for _, stop, _ in subject.backend.written} == {(";",)}


@pytest.mark.parametrize("most", [0, 9])
def test_as_much_is_written_as_the_longest_answer_needs_unless_the_task_says(most):
    """A fixed number would cut long answers, so that a perfect writer has none right."""
    longest = "ab" * 60
    task = replace(STORY, examples=(*STORY.examples, replace(STORY.examples[0], output=longest)), max_new_tokens=most)
    subject = rigged(lambda text, shots: answer_of(text))
    asked(subject, task)
    needed = len(subject.tokenizer(longest, add_special_tokens=False)["input_ids"])
    assert {room for _, _, room in subject.backend.written} == {most or needed + 16}


def test_a_turn_s_end_ends_an_answer_whatever_stop_strings_a_task_has():
    class Turns(BlockTemplate):
        def turn_end(self):
            return ("<end>",)

    subject = rigged(lambda text, shots: f"{answer_of(text)}<end>{text}", template=Turns("turns", *astuple(PLAIN)[1:]))
    items = asked(subject, replace(STORY, stop=(";",)))
    assert {item.score for item in items} == {1.0}
    assert {stop for _, stop, _ in subject.backend.written} == {(";", "<end>")}


# How it is written


@pytest.mark.parametrize("scoring", ["exact_match", "generate"])
@pytest.mark.parametrize("template", [PLAIN, INSTRUCTION], ids=lambda template: template.name)
def test_a_task_s_own_wording_stands_whatever_the_template(template, scoring):
    task = replace(NEXT, wording=Wording("\n= ", " ## ", "Count on: "), scoring=scoring)
    drawn = draw(task)
    subject = rigged(lambda question, shots: "1", template=template)
    asked(subject, task, (2,))
    a, b = drawn.demonstrations[:2]
    shown = f"Count on: {a.input}\n= {a.output} ## {b.input}\n= {b.output} ## "
    expected = [
        (f"{shown}{query.input}\n=", f" {answer}")
        for query in drawn.queries
        for answer in (query.answers if scoring == "exact_match" else (query.output,))
    ]
    assert [text_of(row) for row in subject.backend.asked] == expected
    assert {stop for _, stop, _ in subject.backend.written} == ({(" ## ",)} if scoring == "generate" else set())


def test_a_task_without_a_wording_is_written_by_the_template():
    subject = rigged(lambda question, shots: "1", template=INSTRUCTION)
    asked(subject, NEXT, (0,))
    assert text_of(subject.backend.asked[0])[0].startswith("### Input:\n")


# What fits


def tokens(task, shots, answer=True):
    """Of the longest prompt of a shot count, with or without its answer."""
    drawn = draw(task)
    rows = encode(
        [PLAIN.render([*drawn.demonstrations[:shots], replace(q, output=a)]) for q in drawn.queries for a in q.answers],
        load_tokenizer("mini"),
    )
    return max(len(row.ids) if answer else row.answers[-1][0] for row in rows)


def fits(task, context_length):
    return tuple(ask(rigged(lambda text, shots: "1", context_length=context_length), task, draw(task), SHOTS))


def test_a_shot_count_fits_if_its_longest_answer_does():
    longest = tokens(NEXT, 3)
    assert longest > tokens(NEXT, 1)
    assert fits(NEXT, longest) == (0, 1, 3)
    assert fits(NEXT, longest - 1) == (0, 1)
    assert fits(NEXT, 3) == ()


def test_what_is_to_be_written_needs_room():
    task = replace(STORY, max_new_tokens=30)
    longest = tokens(task, 3, answer=False) + 30
    assert longest > tokens(task, 3)
    assert fits(task, longest) == (0, 1, 3)
    assert fits(task, longest - 1) == (0, 1)
    short = replace(task, max_new_tokens=1)  # the answer is scored, too
    main = replace(short, examples=tuple(replace(example, aliases=()) for example in NEXT.examples))
    assert fits(main, tokens(main, 3)) == (0, 1, 3)
    assert fits(main, tokens(main, 3) - 1) == (0, 1)


def test_more_demonstrations_than_were_drawn_are_not_asked():
    drawn = replace(draw(NEXT), demonstrations=draw(NEXT).demonstrations[:1])
    assert tuple(ask(rigged(lambda text, shots: "1"), NEXT, drawn, SHOTS)) == (0, 1)
