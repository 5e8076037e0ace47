from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.episodes import Bank, InstructedUniverse, KShot, Mixture, Universe, ZeroShot
from keepshot.errors import DataError
from keepshot.keys import generator
from keepshot.tasks.example import Example, Task
from keepshot.tasks.universe import word


def task_of(name, count, labels=()):
    examples = tuple(Example(f"{name} {i}", str(i)) for i in range(count))
    return Task(name, examples, labels=labels)


EXAMPLES = task_of("z", 13).examples
TASKS = (task_of("a", 9), task_of("b", 3), task_of("c", 20))
SAMPLERS = {
    "zero-shot": ZeroShot("s", EXAMPLES, 0),
    "k-shot": KShot("s", TASKS, (1, 6), 0),
    "universe": Universe("s", (1, 6), 0),
    "instructed universe": InstructedUniverse("s", 0),
    "mixture": Mixture("s", (ZeroShot("s", EXAMPLES, 0), Universe("s", (1, 6), 0)), (1.0, 2.0), 0),
    "bank": Bank("s", KShot("s", TASKS, (1, 6), 0), 9, 0),
}


@pytest.fixture(params=SAMPLERS)
def sampler(request):
    return SAMPLERS[request.param]


def test_order_of_visit_changes_nothing(sampler):
    forwards = {i: sampler.draw(i) for i in range(40)}
    again = replace(sampler)
    assert {i: again.draw(i) for i in reversed(range(40))} == forwards
    assert again.draw(7) == again.draw(7) == forwards[7]


def test_seed_and_stream_decide(sampler):
    drawn = [sampler.draw(i).examples for i in range(30)]
    assert drawn != [replace(sampler, seed=1).draw(i).examples for i in range(30)]
    renamed = replace(sampler, stream="other")
    assert drawn != [renamed.draw(i).examples for i in range(30)]


def test_episodes_name_their_stream_and_differ(sampler):
    drawn = [sampler.draw(i) for i in range(12)]
    assert {episode.stream for episode in drawn} == {"s"}
    assert len({episode.examples for episode in drawn}) > 6


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**40))
def test_each_example_comes_once_a_pass_in_an_order_of_its_own(count, turn, seed):
    sampler = ZeroShot("s", task_of("z", count).examples, seed)
    assert sampler.size == count
    passes = [[sampler.draw(count * t + i).examples for i in range(count)] for t in (turn, turn + 1)]
    wanted = sorted((example,) for example in map(str, range(count)))
    assert [sorted((episode[0].output,) for episode in one) for one in passes] == [wanted, wanted]
    assert all(len(episode) == 1 for one in passes for episode in one)
    if count > 12:  # two of 13! orders are hardly equal
        assert passes[0] != passes[1]


def test_zero_shot_names_the_row_that_a_user_can_look_up():
    for i in range(len(EXAMPLES)):
        episode = SAMPLERS["zero-shot"].draw(i)
        assert episode.name == f"s example {EXAMPLES.index(episode.examples[0]) + 1}"


def test_k_shot_never_repeats_an_example_and_keeps_to_one_task_and_its_shots():
    sampler = SAMPLERS["k-shot"]
    by_name = {task.name: task for task in TASKS}
    shots = Counter()
    for i in range(600):
        episode = sampler.draw(i)
        task = by_name[episode.examples[0].input[0]]
        assert set(episode.examples) <= set(task.examples)
        assert len(set(episode.examples)) == len(episode.examples)
        assert f"({task.name})" in episode.name
        assert episode.scored == "all"
        shots[task.name, len(episode.examples) - 1] += 1
    assert {count for name, count in shots if name == "c"} == {1, 2, 3, 4, 5, 6}
    assert {count for name, count in shots if name == "b"} == {1, 2}  # three examples are at most two shots
    assert all(140 < sum(n for (name, _), n in shots.items() if name == task.name) < 260 for task in TASKS)
    assert sampler.size == 32


def test_every_example_of_a_task_can_be_its_query():
    sampler = KShot("s", (TASKS[1],), (1, 1), 0, scored="last")
    drawn = [sampler.draw(i) for i in range(60)]
    assert {episode.examples[-1] for episode in drawn} == set(TASKS[1].examples)
    assert {episode.scored for episode in drawn} == {"last"}


def test_a_task_of_one_example_has_no_few_shot_rows():
    with pytest.raises(DataError, match="'lone' has 1 example"):
        KShot("s", (TASKS[0], task_of("lone", 1)), (1, 2), 0)


def test_a_question_that_stands_in_the_data_again_and_again_stands_once_in_an_episode():
    """Else its answer would be copied from the demonstration of itself."""
    few = [Example(f"Play  {word}" if again % 2 else f"play {word}", word) for again in range(10) for word in "abcde"]
    sampler = KShot("s", (replace(TASKS[0], examples=tuple(few)),), (4, 8), 0)
    for index in range(50):
        shown = [example.output for example in sampler.draw(index).examples]
        assert sorted(shown) == list("abcde")
    with pytest.raises(DataError, match="has 1 example; few-shot rows need at least 2 different"):
        KShot("s", (replace(TASKS[0], examples=(few[0], few[5])),), (1, 2), 0)


def shouts(episode):
    """Whether it shows the task that writes a word in capitals."""
    return all(
        example.output != example.input and example.output == example.input.upper() for example in episode.examples
    )


UNRELATED = Task("unrelated", (Example("3 1", "which?"),))
UPPER = Task("upper", tuple(Example(text, text.upper()) for text in (word(generator(i)) for i in range(12))))


def test_the_universe_never_draws_a_task_that_answers_as_an_excluded_one():
    free, apart = Universe("s", (4, 6), 0), Universe("s", (4, 6), 0, apart_from=(UNRELATED, UPPER))
    changed = []
    for i in range(400):
        before, after = free.draw(i), apart.draw(i)
        if before != after:
            changed.append(before)
        assert not shouts(after)
    # What was drawn again is the excluded task, under whatever name (`upper+consonants`, say), and only that.
    assert len(changed) >= 2
    assert all(shouts(episode) for episode in changed)


def test_the_universe_tells_tasks_apart_by_more_than_their_first_answers():
    almost = replace(UPPER, examples=(*UPPER.examples[:-1], Example("word", "other")))
    drawn = [Universe("s", (4, 6), 0, apart_from=(almost,)).draw(i).name for i in range(400)]
    assert any(name.endswith("(upper)") for name in drawn)


def test_the_universe_has_no_pass_and_all_its_shots():
    sampler = Universe("s", (1, 4), 0)
    assert sampler.size is None
    assert {len(sampler.draw(i).examples) for i in range(60)} == {2, 3, 4, 5}


def test_a_mixture_draws_each_part_as_often_as_its_weight_says():
    parts = [ZeroShot(name, EXAMPLES, 0) for name in "abc"]
    mixture = Mixture("mixed", parts, (1.0, 3.0, 0.0), 0)
    drawn = [mixture.draw(i) for i in range(2000)]
    counts = Counter(episode.stream for episode in drawn)
    assert counts["c"] == 0
    assert abs(counts["b"] / 2000 - 0.75) < 0.04  # four standard deviations
    assert all(episode == parts["ab".index(episode.stream)].draw(i) for i, episode in enumerate(drawn))


def test_the_size_of_a_mixture():
    parts = (ZeroShot("a", EXAMPLES, 0), SAMPLERS["k-shot"])
    assert Mixture("m", parts, (1.0, 1.0), 0).size == 13 + 32
    assert Mixture("m", (*parts, SAMPLERS["universe"]), (1.0, 1.0, 1.0), 0).size is None


@given(st.integers(1, 30), st.integers(0, 4), st.integers(0, 2**40))
def test_a_bank_shows_every_row_once_a_pass_in_an_order_of_its_own(rows, turn, seed):
    source = Universe("s", (1, 2), seed)
    bank = Bank("s", source, rows, seed)
    passes = [[bank.draw(rows * t + i) for i in range(rows)] for t in (turn, turn + 1)]
    kept = {bank.row(place).name: source.draw(place).examples for place in range(rows)}
    assert len(kept) == rows
    for one in passes:
        assert {episode.name: episode.examples for episode in one} == kept
    if rows > 12:  # two of 13! orders are hardly equal
        assert passes[0] != passes[1]
        assert [episode.name for episode in passes[0]] != list(kept), "the first pass has an order of its own as well"


def test_rows_of_a_bank_have_names_of_their_own_where_the_source_repeats_them():
    """A pass over few examples ends, and two files have an example 1 each."""
    parts = [ZeroShot("s", task_of(name, 3).examples, 0) for name in "ab"]
    bank = Bank("s", Mixture("s", parts, (1.0, 1.0), 0), 20, 0)
    rows = [bank.row(place) for place in range(22)]
    assert len({bank.sampler.draw(place).name for place in range(22)}) < 6
    assert len({row.name for row in rows}) == 22
    assert {bank.draw(index).name for index in range(60)} == {row.name for row in rows[:20]}
    by_name = {row.name: row for row in rows}
    assert all(bank.draw(index) == by_name[bank.draw(index).name] for index in range(40))
    assert all(row.name.startswith(bank.sampler.draw(place).name) for place, row in enumerate(rows))


def test_a_bank_does_not_follow_the_order_of_another_stream():
    source = Universe("s", (1, 1), 0)
    orders = [[Bank(stream, source, 20, 0).draw(index).name for index in range(20)] for stream in ("first", "second")]
    assert orders[0] != orders[1]


def test_a_bank_of_examples_counts_epochs_as_its_source_does():
    assert Bank("s", SAMPLERS["k-shot"], 5, 0).size == 32
    assert Bank("s", SAMPLERS["universe"], 5, 0).size is None


def test_an_episode_loses_demonstrations_from_the_front_and_never_its_query():
    episode = KShot("s", TASKS[:1], (4, 4), 0, scored="last").draw(3)
    for count in range(5):
        shorter = episode.without_demonstrations(count)
        assert shorter == replace(episode, examples=episode.examples[count:])
    with pytest.raises(AssertionError):
        episode.without_demonstrations(5)


def test_the_instructed_universe_gives_single_examples_with_an_instruction():
    episodes = [InstructedUniverse("s", 0).draw(index) for index in range(60)]
    assert all(len(episode.examples) == 1 and episode.examples[0].instruction for episode in episodes)
    assert len({episode.examples[0].instruction for episode in episodes}) > 15
    capitals = InstructedUniverse("s", 0, drawn_from=("relation",))
    facts = {(e.input, e.output) for i in range(300) for e in capitals.draw(i).examples}
    asked = dict.fromkeys(sorted(facts)[::2])
    apart = InstructedUniverse("s", 0, asked, ("relation",))
    drawn = {(e.input, e.output) for i in range(300) for e in apart.draw(i).examples}
    assert drawn
    assert not drawn & asked.keys()


def test_few_shot_episodes_leave_out_what_is_asked_with_an_instruction():
    free = Universe("s", (3, 6), 0, drawn_from=("relation", "category"))
    facts = sorted({(e.input, e.output) for i in range(200) for e in free.draw(i).examples})
    asked = dict.fromkeys(facts[::3])
    apart = Universe("s", (3, 6), 0, drawn_from=("relation", "category"), asked=asked)
    drawn = [apart.draw(index) for index in range(200)]
    assert not {(e.input, e.output) for episode in drawn for e in episode.examples} & asked.keys()
    assert all(4 <= len(episode.examples) <= 7 for episode in drawn)
    nothing = Universe("s", (1, 2), 0, drawn_from=("bits",), asked=asked)
    assert nothing.draw(3) == Universe("s", (1, 2), 0, drawn_from=("bits",)).draw(3), "what does not meet it stays"
