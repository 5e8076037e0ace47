from collections import Counter
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training import plan, target

from keepshot.episodes import Sampler
from keepshot.episodes.episode import Episode
from keepshot.episodes.self_anchors import SelfAnchors, recurring
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.prompts import PLAIN
from keepshot.tasks.anchor_functions import ANCHOR_TRANSFORMATIONS, anchor_predicates
from keepshot.tasks.builtin import builtin_target
from keepshot.tasks.example import Example, Turn
from keepshot.tasks.own_inputs import own_input_tasks
from keepshot.tasks.text_functions import input_kind
from keepshot.tasks.universe import word
from keepshot.train import Stream

FIRST_NAMES = ["John", "Mary", "Anna", "Otto", "Peter", "Irene", "Olga", "Max"]
NAMES = [f"{first} {last}" for first in FIRST_NAMES for last in ("Smith", "Jones", "Adams", "Fox", "Li")]
SAID = [
    "what",
    "is",
    "the",
    "can",
    "you",
    "please",
    "tell",
    "me",
    "my",
    "a",
    "new",
    "play",
    "book",
    "flight",
    "to",
    "not",
]


def utterances(count=400, shortest=3, longest=14):
    random = generator("utterances", shortest, longest)
    drawn = {" ".join(random.choices(SAID, k=random.randint(shortest, longest))): None for _ in range(4 * count)}
    return list(drawn)[:count]


def inputs_of(name):
    return [example.input for example in builtin_target(name).train[:400]]


INPUTS = {
    "words": inputs_of("word-rule"),
    "names": NAMES,
    "utterances": utterances(),
    "numbers": [str(number) for number in range(100)],
    "years": [str(year) for year in range(1400, 2020, 3)],
    "bits": inputs_of("bit-changes"),
    "pairs": inputs_of("number-sum"),
    "digits": inputs_of("digit-order"),
}


def labelled(inputs, outputs=("yes", "no")):
    """The same inputs with labels that say nothing."""
    return [Example(text, generator("label", text).choice(outputs)) for text in inputs]


def drawn(anchors, count=600):
    return [anchors.draw(index) for index in range(count)]


def kind_of(episode):
    """`look-up`, `predicate` or `transformation`, and which."""
    kind, _, which = episode.name.partition("(")[2].removesuffix(")").partition(", ")
    return kind, which


def of_kind(episodes, kind):
    return [episode for episode in episodes if kind_of(episode)[0] == kind]


def functions(episodes, kind):
    return {kind_of(episode)[1] for episode in of_kind(episodes, kind)}


@pytest.fixture(scope="module", params=INPUTS)
def each(request):
    """Inputs of every kind, and many rows made of them."""
    inputs = INPUTS[request.param]
    return inputs, drawn(SelfAnchors("s", labelled(inputs), 0))


def within(count, total, share, sigmas=3):
    return abs(count - share * total) <= sigmas * sqrt(total * share * (1 - share))


def test_order_of_visit_changes_nothing_and_seed_and_stream_decide():
    anchors = SelfAnchors("s", labelled(INPUTS["words"]), 0)
    assert isinstance(anchors, Sampler)
    assert anchors.size is None
    forwards = {index: anchors.draw(index) for index in range(30)}
    assert {index: replace(anchors).draw(index) for index in reversed(range(30))} == forwards
    for other in (replace(anchors, seed=1), replace(anchors, stream="t")):
        assert [other.draw(index).examples for index in range(30)] != [
            episode.examples for episode in forwards.values()
        ]


def test_a_third_each_and_every_name_once(each):
    _, episodes = each
    counts = Counter(kind_of(episode)[0] for episode in episodes)
    assert counts.keys() == {"look-up", "predicate", "transformation"}
    assert all(within(count, len(episodes), 1 / 3) for count in counts.values())
    assert len({episode.name for episode in episodes}) == len(episodes)
    assert {episode.name.split(" (")[0] for episode in episodes[:2]} == {"s episode 0", "s episode 1"}


def test_all_numbers_of_pairs_are_drawn(each):
    assert {len(episode.examples) for episode in each[1]} == set(range(8, 17))
    few = drawn(SelfAnchors("s", labelled(each[0]), 0, pairs=(2, 3), scored="last"), 60)
    assert {(len(episode.examples), episode.scored) for episode in few} == {(2, "last"), (3, "last")}


def test_look_ups_give_each_of_six_inputs_one_answer_and_return_to_them(each):
    look_ups = of_kind(each[1], "look-up")
    assert {len(set(episode.examples)) for episode in look_ups} <= set(range(2, 7))
    assert all(len({e.input for e in episode.examples}) == len(set(episode.examples)) for episode in look_ups)
    known = sum(len(episode.examples) - 1 in recurring(episode) for episode in look_ups)
    assert known / len(look_ups) > 0.7  # 1 - (5/6)^(n-1) is .72 for 8 pairs and .94 for 16
    assert len({example.input for episode in look_ups for example in episode.examples}) > 35


def test_half_of_the_look_ups_have_fresh_words_and_half_the_targets_answers():
    outputs = tuple(f"label {place}" for place in range(10))
    examples = labelled(INPUTS["words"], outputs)
    truth = {example.input: example.output for example in examples}
    look_ups = of_kind(drawn(SelfAnchors("s", examples, 0), 3000), "look-up")
    fresh = [episode for episode in look_ups if kind_of(episode)[1] == "fresh"]
    assert within(len(fresh), len(look_ups), 0.5)
    for episode in fresh:
        assert len({e.output for e in episode.examples}) == len({e.input for e in episode.examples})
    dealt = [example for episode in look_ups if episode not in fresh for example in set(episode.examples)]
    assert {example.output for example in dealt} == set(outputs)
    assert sum(example.output == truth[example.input] for example in dealt) / len(dealt) < 0.13


def test_no_fresh_word_is_an_answer_of_the_target():
    # All numbers that fresh words can be, in the four places where answers stand, and many of the short words.
    short = sorted({word(generator("short", place), 2, 2) for place in range(400)})
    examples = [
        Example(
            f"{text}-{place}",
            output=f"{place % 50}",
            aliases=(short[place % len(short)].upper(),),
            options=(f"{place % 50}", f"{50 + place % 50}"),
        )
        for place, text in enumerate(INPUTS["words"])
    ]
    taken = {text.casefold() for e in examples for text in (*e.answers, *e.options)}
    episodes = drawn(SelfAnchors("s", examples, 0))
    fresh = [e for e in episodes if kind_of(e)[1] == "fresh" or kind_of(e)[0] == "predicate"]
    words = {example.output for episode in fresh for example in episode.examples}
    assert len(words) > 300
    assert not taken & {text.casefold() for text in words}


@pytest.mark.parametrize("output", ["same", "a long answer " * 9])
def test_without_two_short_answers_all_look_ups_have_fresh_words(output):
    long = len(output) > 80
    examples = [Example(text, output + text * long) for text in INPUTS["words"]]
    assert functions(drawn(SelfAnchors("s", examples, 0), 200), "look-up") == {"fresh"}


def affixes(plain, answers, place):
    """Whether all answers are the plain ones with one and the same word at a place, or nothing where there is none."""
    if place == "before":
        words = {
            answer.removesuffix(text) for text, answer in zip(plain, answers, strict=True) if answer.endswith(text)
        }
    elif place == "behind":
        words = {
            answer.removeprefix(text) for text, answer in zip(plain, answers, strict=True) if answer.startswith(text)
        }
    else:
        return plain == answers
    return (
        len(words) == 1
        and all(word.strip() for word in words)
        and all(len(a) > len(t) for t, a in zip(plain, answers, strict=True))
    )


def test_half_of_the_transformations_carry_a_fresh_word(each):
    inputs, _ = each
    rows = of_kind(drawn(SelfAnchors("s", labelled(inputs), 0), 3000), "transformation")
    carrying = [episode for episode in rows if " with a word " in kind_of(episode)[1]]
    assert within(len(carrying), len(rows), 0.5)
    places = [kind_of(episode)[1].rpartition(" ")[2] for episode in carrying]
    assert within(places.count("before"), len(places), 0.5)


def test_functions_are_computed_on_inputs_that_differ(each):
    inputs, episodes = each
    kind = input_kind(inputs)
    transformations = {function.name: function for function in ANCHOR_TRANSFORMATIONS[kind]}
    predicates = {function.name: function for group in anchor_predicates(kind, inputs) for function in group}
    for episode in (*of_kind(episodes, "predicate"), *of_kind(episodes, "transformation")):
        what, name = kind_of(episode)
        assert len({example.input for example in episode.examples}) == len(episode.examples)
        if what == "transformation":
            core, _, place = name.partition(" with a word ")
            plain = [transformations[core].apply(e.input) if core != "as-it-is" else e.input for e in episode.examples]
            assert affixes(plain, [e.output for e in episode.examples], place)
        else:
            words = {(predicates[name].apply(e.input), e.output) for e in episode.examples}
            assert len(words) == len({holds for holds, _ in words}) == len({output for _, output in words})


def test_every_function_tells_inputs_apart(each):
    inputs, episodes = each
    for function in used(inputs, episodes, "predicate") + used(inputs, episodes, "transformation"):
        values = Counter(function.apply(text) for text in inputs)
        assert values.most_common(1)[0][1] <= 0.85 * len(inputs), function.name
    # Enough of them that a row hardly says which function it is about before it is read.
    assert len(used(inputs, episodes, "transformation")) >= 5


def used(inputs, episodes, what):
    """The functions that stand in the names of rows."""
    kind = input_kind(inputs)
    names = functions(episodes, what)
    if what == "transformation":
        return [function for function in ANCHOR_TRANSFORMATIONS[kind] if function.name in names]
    return [function for group in anchor_predicates(kind, inputs) for function in group if function.name in names]


def test_no_anchor_asks_what_an_own_input_task_asks(each):
    inputs, episodes = each
    tasks = own_input_tasks(labelled(inputs), seed=0)
    assert len(tasks) == 6
    for task in tasks[:4]:
        for function in used(inputs, episodes, "transformation"):
            agree = sum(function.apply(e.input) == e.output for e in task.examples)
            assert agree <= 0.6 * len(task.examples), (task.name, function.name)
    for task in tasks[4:]:
        own = np.array([e.output == task.labels[0] for e in task.examples])
        for function in used(inputs, episodes, "predicate"):
            values = np.array([function.apply(e.input) for e in task.examples])
            # The agreement of predicates that hold half of the time: (1 + |correlation|) / 2.
            assert abs(np.corrcoef(own, values)[0, 1]) <= 0.2 + 1e-9, (task.name, function.name)


@pytest.mark.parametrize("outputs", [("yes", "no"), ("no", "yes")])
def test_the_rule_of_a_target_of_two_labels_is_no_anchor(outputs):
    def names(rule):
        examples = [Example(text, outputs[rule(text)]) for text in INPUTS["words"]]
        return functions(drawn(SelfAnchors("s", examples, 0)), "predicate")

    assert "contains e" not in names(lambda text: "e" in text)
    assert "contains e" in names(lambda text: "a" in text)
    assert "even length" not in names(lambda text: len(text) % 2 == 0)
    # The rule with exceptions is the rule still; a tenth of the words end in x or q.
    assert "contains e" not in names(lambda text: ("e" in text) != (text[-1] in "xq"))


def test_what_a_generative_target_does_is_no_anchor():
    for name in ("reverse", "upper", "last-character"):
        function = next(f for f in ANCHOR_TRANSFORMATIONS["characters"] if f.name == name)
        examples = [Example(text, function.apply(text)) for text in INPUTS["words"]]
        names = functions(drawn(SelfAnchors("s", examples, 0), 300), "transformation")
        assert name not in names
        assert len({name for name in names if " with a word " not in name}) == 8
        assert not any(other.startswith(f"{name} with") for other in names)


def test_a_function_of_one_answer_is_passed_over():
    inputs = [f"a{text}" for text in INPUTS["words"] if len(text) == 5]
    names = functions(drawn(SelfAnchors("s", labelled(inputs), 0)), "transformation")
    assert {"first-character", "length"}.isdisjoint(names)
    assert {"last-character", "reverse"} <= names


def test_of_what_a_user_has_written_only_inputs_and_answers_remain():
    examples = [
        Example(text, "yes", "Say yes.", ("yes", "no"), ("y",), (Turn("user", "hi"), Turn("assistant", "hello")))
        for text in INPUTS["words"]
    ]
    for episode in drawn(SelfAnchors("s", [*examples, Example("other", "no")], 0), 60):
        assert all(example == Example(example.input, example.output) for example in episode.examples)


def test_long_inputs_make_shorter_rows_of_their_last_words():
    inputs = [f"begin alike {text} (number {place}.)" for place, text in enumerate(utterances(300, 20, 400))]
    anchors = SelfAnchors("s", labelled(inputs), 0)
    episodes = drawn(anchors, 200)
    assert {len(episode.examples) for episode in episodes} == {4}
    for episode in episodes:
        for example in episode.examples:
            assert len(example.input) <= 500
            whole = next(text for text in inputs if text.endswith(f"{example.input[-12:]}"))
            assert whole.endswith(example.input)
            assert example.input == whole or whole[-len(example.input) - 1].isspace()
    shown = [len(e.input) for episode in episodes for e in episode.examples]
    assert max(shown) > 490
    known = [len(episode.examples) - 1 in recurring(episode) for episode in of_kind(episodes, "look-up")]
    assert sum(known) / len(known) > 0.7
    middling = SelfAnchors("s", labelled(utterances(300, 30, 40)), 0)
    assert {len(episode.examples) for episode in drawn(middling, 50)} <= set(range(8, 15))
    assert len(middling.draw(0).examples) * 150 < 2500


@pytest.mark.parametrize(("shortest", "longest", "most"), [(3, 14, 300), (20, 400, 300), (20, 400, 3000), (1, 2, 130)])
def test_a_row_keeps_four_pairs_however_short_rows_are(shortest, longest, most):
    """A row that is cut to its last pair would be the target's own prompt, on which the base must not be kept."""
    examples = labelled(utterances(100, shortest, longest))

    def fits(pairs):
        return len(PLAIN.render(pairs).text) <= most

    episodes = drawn(SelfAnchors("s", examples, 0, fits=fits), 200)
    assert all(fits(episode.examples[-4:]) for episode in episodes)
    assert {episode.name.split("(")[1].split(",")[0] for episode in episodes} >= {"look-up", "predicate"}
    roomy = drawn(SelfAnchors("s", examples, 0, fits=lambda pairs: True), 50)
    assert roomy == drawn(SelfAnchors("s", examples, 0), 50), "what fits anyway is drawn as without a bound"


def test_rows_too_short_for_four_pairs_are_refused_before_anything_is_drawn():
    with pytest.raises(DataError, match=r"show at least 4 of the target's inputs.*raise data.max_length, or leave"):
        SelfAnchors("s", labelled(utterances(100, 20, 40)), 0, fits=lambda pairs: len(PLAIN.render(pairs).text) <= 50)


def test_a_word_without_end_is_cut():
    examples = [Example("x" * 900 + str(place), "y") for place in range(10, 30)]
    assert {len(e.input) for episode in drawn(SelfAnchors("s", examples, 0), 20) for e in episode.examples} == {500}


def test_no_paragraph_is_written_anew():
    short, long = utterances(300, 3, 8), utterances(300, 25, 60)
    whole = {"upper", "repeated-last-word"}
    assert whole <= functions(drawn(SelfAnchors("s", labelled(short), 0)), "transformation")
    episodes = drawn(SelfAnchors("s", labelled(long), 0))
    assert whole.isdisjoint(functions(episodes, "transformation"))
    assert max(len(e.output) for episode in episodes for e in episode.examples) <= 80
    # A few long ones among many short ones change nothing.
    assert whole <= functions(drawn(SelfAnchors("s", labelled([*short, *long[:20]]), 0)), "transformation")


def test_two_inputs_make_rows_and_one_does_not():
    episodes = drawn(SelfAnchors("s", [Example("left", "a"), Example("right", "b"), Example("left", "b")], 0), 60)
    assert {e.input for episode in episodes for e in episode.examples} == {"left", "right"}
    assert "look-up" in {kind_of(episode)[0] for episode in episodes}
    with pytest.raises(DataError, match=r"at least 2 different inputs, and the stream 's' has 1;.*rows or leave"):
        SelfAnchors("s", [Example("left", "a"), Example("left", "b"), Example(" \n", "b")], 0)


@settings(max_examples=60)
@given(st.lists(st.text(min_size=0, max_size=30), min_size=2, max_size=30, unique=True), st.integers(0, 2**40))
def test_any_text_makes_rows_with_answers(inputs, seed):
    examples = [*labelled(inputs), *labelled(["one", "two three"])]
    for episode in drawn(SelfAnchors("s", examples, seed, pairs=(2, 5), characters=40), 6):
        assert 2 <= len(episode.examples) <= 5
        for example in episode.examples:
            assert example.output == example.output.strip() != ""
            assert example.input.strip()
            assert len(example.input) <= 10


def test_what_the_context_determines():
    a, b, c = (Example(text, text.upper()) for text in "abc")
    episode = Episode("s", "s episode 0", (a, b, a, c, b, a))
    assert recurring(episode) == (2, 4, 5)
    assert recurring(episode.without_demonstrations(2)) == (3,)
    assert recurring(episode.without_demonstrations(5)) == ()


def test_a_row_that_is_too_long_keeps_its_last_pairs():
    anchors = SelfAnchors("s", labelled(utterances()), 0)
    planner = plan(target(0.5), Stream("s", anchors, 0.9, 0.5), rows=8, max_length=256)
    rows = [row for row in planner.plan(planner.start()).rows if row.stream == "s"]
    assert len(rows) > 5
    for index, row in enumerate(rows):
        assert len(row.row.ids) <= 256
        assert len(row.scored) >= 2
        assert bytes(row.row.ids).decode().endswith(f"A: {anchors.draw(index).examples[-1].output}\n")
    assert any(len(row.scored) < len(anchors.draw(index).examples) for index, row in enumerate(rows))
