import sys

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError, DataError, RunError
from keepshot.evaluation.metrics import (
    OPTION_METRICS,
    TEXT_METRICS,
    ScoredOption,
    check_metric,
    choose_option,
    text_metric,
)

# Each has the most by one metric: the sum, per token, per byte, over its unconditional log-likelihood.
OPTIONS = [
    ScoredOption("certainly", -4.0, 1, -3.0),
    ScoredOption("good morning", -5.0, 2, -4.5),
    ScoredOption("a longer answer than the others", -6.0, 2, -5.0),
    ScoredOption("yes", -7.0, 1, -9.0),
]


@pytest.mark.parametrize(("metric", "chosen"), [*zip(OPTION_METRICS, range(4), strict=True), ("", 0)])
def test_each_metric_prefers_another_option(metric, chosen):
    assert choose_option(metric, OPTIONS) == chosen
    assert choose_option(metric, OPTIONS[::-1]) == 3 - chosen


def test_per_byte_counts_bytes_and_not_characters():
    ascii_text, umlauts = ScoredOption("uuuu", -4.0, 1), ScoredOption("üüü", -4.5, 1)
    assert choose_option("per_byte", [ascii_text, umlauts]) == 1  # by characters the first: -1 against -1.5


@pytest.mark.parametrize("metric", OPTION_METRICS)
def test_the_first_of_equals_is_chosen(metric):
    worse, one, other = (
        ScoredOption(text, value, 2, -1.0) for text, value in (("ab", -3.0), ("cd", -2.0), ("ef", -2.0))
    )
    assert choose_option(metric, [worse, one, other]) == 1
    assert choose_option(metric, [worse, other, one]) == 1


@pytest.mark.parametrize(
    ("metric", "text", "answers", "score"),
    [
        ("exact", " Paris\n", ["Paris"], 1),
        ("exact", "paris", ["Paris"], 0),
        ("exact", "Paris.", ["Paris"], 0),
        ("exact", "Lutetia", ["Paris", "Lutetia"], 1),
        ("set", "red, Green and blue", ["blue; green\nred"], 1),
        ("set", "red, green, and  dark  blue.", ["Dark blue, red, green"], 1),
        ("set", "red, red, green", ["green, red"], 1),
        ("set", "red, green", ["red, green, blue"], 0),
        ("set", "red, green, blue", ["red, green"], 0),
        ("set", "sand, hand", ["s, h"], 0),
        ("set", "", ["red"], 0),
        ("set", "a, b", ["c", "b, a"], 1),
        ("f1", "The cat, sat!", ["cat sat"], 1),
        ("f1", "cat cat cat", ["a cat sat"], 2 / 5),
        ("f1", "the", ["an"], 1),
        ("f1", "the", ["cat"], 0),
        ("f1", "dog", ["cat"], 0),
        ("f1", "one two", ["three", "two three four"], 2 / 5),
        ("", "Paris ", ["Paris"], 1),
    ],
)
def test_texts_are_compared(metric, text, answers, score):
    assert text_metric(metric).score(text, answers) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("9 + 63 = 72", "9 + 63 = <<9+63=72>>72\n#### 72", True),
        ("72", "7", False),
        ("first 72, then 71", "72", False),
        ("It costs $1,234.50.", "1234.5", True),
        ("1,234,567", "1234567", True),
        ("1,2345", "12345", False),
        ("1,2345", "2345", True),
        ("step 1.2.3", "3", True),
        ("2020,2021", "2021", True),
        ("70 to 72.", "72", True),
        ("so 72.00 in all", "72", True),
        ("0.1", "0.10000000000000001", False),
        (".5", "0.5", True),
        ("-3", "3", False),
        ("x=-3", "-3", True),
        ("−3 degrees", "-3", True),
        ("-$3", "-3", True),
        ("$-3", "-3", True),
        ("+3", "3", True),
        ("10-3", "3", True),
        ("(2)-3", "3", True),
        ("GPT-4", "4", True),
        ("50%", "50", True),
        ("50 %", "50", True),
        ("50%", "0.5", False),
        ("3/4", "0.75", True),
        ("6/8", "3/4", True),
        ("-3/4", "-.75", True),
        ("5/0", "0", True),
        ("on 3/4/2024", "2024", True),
        ("none", "0", False),
        ("", "0", False),
        ("9" * 6000, "9" * 6000, True),
        ("9" * 6000 + "8", "9" * 6000, False),
        ("1/" + "9" * 6000, "1", False),
    ],
)
def test_the_last_numbers_are_compared(text, answer, right):
    assert text_metric("numeric").score(text, [answer]) == right


def test_one_of_several_numbers_may_be_right_and_one_of_the_answers_must_hold_a_number():
    numeric = text_metric("numeric").score
    assert numeric("71", ["seventy-one", "71"]) == 1
    assert numeric("none", ["seventy-one", "71"]) == 0
    with pytest.raises(DataError, match=r"'many' holds no number; the metric numeric needs one"):
        numeric("71", ["many"])


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=3), st.sampled_from(["{}", "is ${}.", "a {} b", "({})"])
)
def test_a_number_is_read_however_it_is_written(number, around):
    for written in (f"{number:f}", f"{number:,f}", f"{number:f}000"):
        assert text_metric("numeric").score(around.format(written), [f"{number:f}"]) == 1
    assert text_metric("numeric").score(around.format(f"{number:,f}"), [f"{number + 1:f}"]) == 0


@given(st.text(max_size=30), st.lists(st.text(max_size=30), min_size=1, max_size=3))
def test_scores_lie_between_0_and_1_and_an_answer_itself_gets_1(text, answers):
    for name in ("exact", "set", "f1", "bleu", "chrf"):
        metric = text_metric(name)
        assert 0 <= metric.score(text, answers) <= 1
        if name in ("exact", "set", "f1"):
            assert metric.score(answers[-1], answers) == 1


TEXTS = ["the cat sat on the mat", "there is a dog in the garden", "hello"]
ANSWERS = [
    ["the cat is on the mat", "a cat sat on the mat"],
    ["there is one dog in the garden"],
    ["hello", "hi", "hey"],
]


@pytest.mark.parametrize(("name", "kind"), [("bleu", sacrebleu.BLEU), ("chrf", sacrebleu.CHRF)])
def test_translation_scores_are_sacrebleu_s(name, kind):
    metric = text_metric(name)
    streams = [[answers[i] if i < len(answers) else None for answers in ANSWERS] for i in range(3)]
    assert metric.corpus(TEXTS, ANSWERS) == pytest.approx(kind().corpus_score(TEXTS, streams).score / 100)
    assert 0.1 < metric.corpus(TEXTS, ANSWERS) < 0.95
    assert metric.corpus(TEXTS[:2], [[text] for text in TEXTS[:2]]) == 1
    # Counts are summed over the texts, which is another number than the mean over them.
    assert metric.corpus(TEXTS, ANSWERS) != pytest.approx(sum(map(metric.score, TEXTS, ANSWERS)) / len(TEXTS), abs=1e-3)


def test_a_short_right_translation_has_full_bleu():
    assert text_metric("bleu").score("hello", ["hello"]) == 1
    assert text_metric("bleu").score("hello there", ["hi", "hello there"]) == 1
    assert text_metric("chrf").score("hello there", ["hi", "hello there"]) == 1
    assert text_metric("bleu").score("good evening", ["hello there"]) == 0


def test_only_translation_metrics_are_of_a_corpus():
    assert [name for name in TEXT_METRICS if text_metric(name).corpus] == ["bleu", "chrf"]


def test_missing_sacrebleu_is_said_when_the_metric_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    for name in ("bleu", "chrf"):
        with pytest.raises(ConfigError, match=r'pip install "keepshot\[translation\]"'):
            text_metric(name)
    assert text_metric("f1").score("a cat", ["the cat"]) == 1


@pytest.fixture
def own_metrics(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(
        "import fractions\n"
        "length = 3\n"
        "def same_length(text, answers): return any(len(text) == len(answer) for answer in answers)\n"
        "def half(text, answers): return fractions.Fraction(1, 2)\n"
        "def too_much(text, answers): return 100\n"
        "def nan(text, answers): return float('nan')\n"
        "def nothing(text, answers): pass\n"
        "def fails(text, answers): return text[99]\n"
    )
    (tmp_path / "broken_metrics.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for module in ("own_metrics", "broken_metrics"):
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("own_metrics")
def test_a_metric_by_import_path():
    metric = text_metric("own_metrics:same_length")
    assert metric.name == "own_metrics:same_length"
    assert metric.corpus is None
    scores = [metric.score("abc", ["no", "yes"]), metric.score("abcd", ["no", "yes"])]
    assert scores == [1.0, 0.0]
    assert all(type(score) is float for score in scores)
    assert text_metric("own_metrics:half").score("", [""]) == 0.5


@pytest.mark.usefixtures("own_metrics")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_metrics:none_such", "cannot be imported.*none_such.*package.module:function"),
        ("no_such_metrics:f", "cannot be imported.*No module named 'no_such_metrics'.*PYTHONPATH"),
        ("broken_metrics:f", "cannot be imported.*No module named 'no_such_module'"),
        ("own_metrics:length", "'own_metrics:length' is no function but int"),
        (":f", "cannot be imported"),
        ("own_metrics:", "cannot be imported"),
        ("rouge", "no metric 'rouge' for texts; choose exact, numeric, set, f1, bleu, chrf or package.module:function"),
        ("sum", "no metric 'sum' for texts"),
    ],
)
def test_a_metric_that_is_not_there_is_an_error(name, message):
    with pytest.raises(ConfigError, match=message):
        text_metric(name)


@pytest.mark.usefixtures("own_metrics")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_much", "gave 100 for the text 'abc'; it must give 0 to 1"),
        ("nan", "gave nan"),
        ("nothing", "gave None"),
        ("fails", "failed on the text 'abc': IndexError"),
    ],
)
def test_a_metric_of_the_user_s_that_gives_no_score_is_an_error(name, message):
    with pytest.raises(RunError, match=f"'own_metrics:{name}' {message}"):
        text_metric(f"own_metrics:{name}").score("abc", ["abc"])


@pytest.mark.parametrize(
    ("scoring", "metrics"),
    [("options", OPTION_METRICS), ("generate", (*TEXT_METRICS, "package.module:function")), ("exact_match", ())],
)
def test_metrics_go_with_their_scoring_only(scoring, metrics):
    check_metric(scoring, "")
    for metric in (*OPTION_METRICS, *TEXT_METRICS, "package.module:function", "other"):
        if metric in metrics:
            check_metric(scoring, metric)
        else:
            with pytest.raises(ConfigError, match=f"'{metric}' does not go with scoring '{scoring}'"):
                check_metric(scoring, metric)
