"""How options are compared, and how a written answer is.

Each metric is a value: a name and a function to a score from 0 to 1. `Task.metric` names it.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from itertools import zip_longest
from numbers import Real
from types import ModuleType

from keepshot.errors import ConfigError, DataError, RunError
from keepshot.tasks.example import Scoring

Compare = Callable[[str, Sequence[str]], float]
CompareAll = Callable[[Sequence[str], Sequence[Sequence[str]]], float]


@dataclass(frozen=True, slots=True)
class ScoredOption:
    """An option with what the model gives it.

    Attributes:
        text: The option itself.
        log_likelihood: After the question, summed over the option's tokens, in nats.
        num_tokens: Tokens of the option.
        unconditional: Log-likelihood where no question is asked, in nats; only `pmi` needs it.
    """

    text: str
    log_likelihood: float
    num_tokens: int
    unconditional: float | None = None


def _pmi(option: ScoredOption) -> float:
    assert option.unconditional is not None, "pmi needs the log-likelihood of an option without its question"
    return option.log_likelihood - option.unconditional


_OPTION_VALUES: dict[str, Callable[[ScoredOption], float]] = {
    "sum": lambda option: option.log_likelihood,
    "per_token": lambda option: option.log_likelihood / option.num_tokens,
    "per_byte": lambda option: option.log_likelihood / len(option.text.encode()),
    "pmi": _pmi,
}
OPTION_METRICS = tuple(_OPTION_VALUES)


def choose_option(metric: str, options: Sequence[ScoredOption]) -> int:
    """The index of the option that the model prefers; of equals, the first.

    Args:
        metric: One of `OPTION_METRICS`, or empty for the first of them: `sum` of log-likelihoods, `per_token`,
            `per_byte` (UTF-8 bytes of the option's text), or `pmi` (the unconditional log-likelihood subtracted).
        options: In the order in which the question names them.

    Example:
        >>> long, short = ScoredOption("certainly not", -6.0, 3), ScoredOption("yes", -4.0, 1)
        >>> [choose_option(metric, [long, short]) for metric in ("sum", "per_token", "per_byte")]
        [1, 0, 0]

    Reference:
        arXiv 2104.08315 (pmi, there named domain-conditional).
    """
    value = _OPTION_VALUES[metric or OPTION_METRICS[0]]
    return max(range(len(options)), key=lambda index: value(options[index]))


@dataclass(frozen=True, slots=True)
class TextMetric:
    """How a text that a model wrote is compared with the answers that count as right.

    Attributes:
        name: As in `Task.metric`.
        score: From a text and the answers to a score from 0 to 1; the answer that fits best counts.
        corpus: From all texts of a demonstration set, and the answers to each, to one score from 0 to 1; None where
            the mean of `score` is meant.
    """

    name: str
    score: Compare
    corpus: CompareAll | None = None


def text_metric(name: str) -> TextMetric:
    """The metric of that name, ready for use.

    - `exact`: the same text but for white space around it.
    - `numeric`: the last number of the text is that of the answer, exactly: 1,234.50 is 1234.5 and 3/4 is .75. Units,
      currency and percent signs are passed over.
    - `set`: the same items, in any order and case, separated by commas, semicolons, line breaks or `and`.
    - `f1`: F1 of the words in common, without case, articles and ASCII punctuation, as for SQuAD.
    - `bleu`, `chrf`: sacrebleu's with its defaults, as a fraction; for one text BLEU in its effective order.
    - `package.module:function`: a function of a text and its answers, to a number from 0 to 1 or a bool.

    Args:
        name: One of these, or empty for `exact`.

    Raises:
        ConfigError: There is no such metric, it cannot be imported, or sacrebleu is missing.

    Example:
        >>> text_metric("numeric").score("3 x 24 = 72, so $72.00.", ["#### 72"])
        1.0
        >>> text_metric("f1").score("The red house", ["a red car"])
        0.5

    Reference:
        arXiv 2110.14168 (GSM8K, for `numeric`), 1606.05250 (SQuAD, for `f1`), 1804.08771 (sacrebleu).
    """
    if ":" in name:
        return TextMetric(name, _imported(name))
    metric = _TEXT_METRICS.get(name or TEXT_METRICS[0])
    if metric is None:
        raise ConfigError(f"there is no metric {name!r} for texts; {_TEXT_CHOICES}")
    if metric.corpus:
        _sacrebleu()  # if it is missing, that is said before a model has written for an hour
    return metric


def check_metric(scoring: Scoring, metric: str) -> None:
    """Whether the two go together; an empty metric goes with every scoring.

    Raises:
        ConfigError: They do not.

    Example:
        >>> check_metric("options", "per_byte")
    """
    if not metric:
        return
    if scoring == "exact_match":
        raise ConfigError(
            f"metric {metric!r} does not go with scoring 'exact_match', which compares token by token; "
            "leave it out, or use scoring 'options' or 'generate'"
        )
    if scoring == "options" and metric not in OPTION_METRICS:
        raise ConfigError(f"metric {metric!r} does not go with scoring 'options'; choose {', '.join(OPTION_METRICS)}")
    if scoring == "generate" and metric not in TEXT_METRICS and ":" not in metric:
        raise ConfigError(f"metric {metric!r} does not go with scoring 'generate'; {_TEXT_CHOICES}")


def _best(compare: Callable[[str, str], float]) -> Compare:
    return lambda text, answers: max(compare(text, answer) for answer in answers)


def _exact(text: str, answer: str) -> float:
    return float(text.strip() == answer.strip())


# A minus after a word, a number or a closing bracket is a hyphen or a subtraction, not a sign.
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]])[-−+])?[$€£¥]?"
    r"(?P<number>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\w)\.\d+)"
    r"(?:/(?P<divisor>0*[1-9]\d*))?"
)


def _numeric(text: str, answers: Sequence[str]) -> float:
    expected = {_last_number(answer) for answer in answers} - {None}
    if not expected:
        raise DataError(f"the answer {answers[0]!r} holds no number; the metric numeric needs one")
    return float(_last_number(text) in expected)


def _last_number(text: str) -> Fraction | None:
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    last = numbers[-1]
    # Through Decimal, which reads any number of digits; int and Fraction refuse strings of more than 4300.
    value = Fraction(Decimal(last["number"].replace(",", ""))) / Fraction(Decimal(last["divisor"] or "1"))
    return value if last["sign"] in (None, "+") else -value


_BETWEEN_ITEMS = re.compile(r"[,;\n]|(?<!\S)and(?!\S)", re.IGNORECASE)


def _same_set(text: str, answer: str) -> float:
    return float(_items(text) == _items(answer))


def _items(text: str) -> set[str]:
    items = {" ".join(item.casefold().split()).rstrip(". ") for item in _BETWEEN_ITEMS.split(text)}
    return items - {""}


def _f1(text: str, answer: str) -> float:
    ours, theirs = _words(text), _words(answer)
    if not ours or not theirs:
        return float(ours == theirs)
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> Counter[str]:
    words = text.lower().translate(_NO_PUNCTUATION).split()
    return Counter(word for word in words if word not in ("a", "an", "the"))


def _bleu(text: str, answers: Sequence[str]) -> float:
    # A text shorter than four words has no 4-grams; the effective order leaves those out that cannot be there.
    return _fraction(_sacrebleu().BLEU(effective_order=True).sentence_score(text, answers).score)


def _corpus_bleu(texts: Sequence[str], answers: Sequence[Sequence[str]]) -> float:
    return _fraction(_sacrebleu().BLEU(force=True).corpus_score(texts, _streams(answers)).score)


def _chrf(text: str, answers: Sequence[str]) -> float:
    return _fraction(_sacrebleu().CHRF().sentence_score(text, answers).score)


def _corpus_chrf(texts: Sequence[str], answers: Sequence[Sequence[str]]) -> float:
    return _fraction(_sacrebleu().CHRF().corpus_score(texts, _streams(answers)).score)


def _streams(answers: Sequence[Sequence[str]]) -> list[tuple[str | None, ...]]:
    """All first answers, all second answers, …, as sacrebleu takes them; None where a text has fewer."""
    return list(zip_longest(*answers))


def _fraction(percent: float) -> float:
    return min(1.0, percent / 100)  # a perfect score comes as 100.00000000000004


def _sacrebleu() -> ModuleType:
    try:
        return import_module("sacrebleu")
    except ImportError:
        raise ConfigError('the metrics bleu and chrf need sacrebleu: pip install "keepshot[translation]"') from None


def _imported(name: str) -> Compare:
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except Exception as error:
        raise ConfigError(
            f"metric {name!r} cannot be imported ({type(error).__name__}: {error}); write package.module:function, "
            "with the package installed or on PYTHONPATH"
        ) from error
    if not callable(function):
        raise ConfigError(f"metric {name!r} is no function but {type(function).__name__}")

    def score(text: str, answers: Sequence[str]) -> float:
        try:
            value = function(text, answers)
        except Exception as error:
            raise RunError(f"metric {name!r} failed on the text {text!r}: {type(error).__name__}: {error}") from error
        fraction = float(value) if isinstance(value, Real) else math.nan
        if not 0 <= fraction <= 1:
            raise RunError(f"metric {name!r} gave {value!r} for the text {text!r}; it must give 0 to 1, or a bool")
        return fraction

    return score


_TEXT_METRICS = {
    metric.name: metric
    for metric in (
        TextMetric("exact", _best(_exact)),
        TextMetric("numeric", _numeric),
        TextMetric("set", _best(_same_set)),
        TextMetric("f1", _best(_f1)),
        TextMetric("bleu", _bleu, _corpus_bleu),
        TextMetric("chrf", _chrf, _corpus_chrf),
    )
}
TEXT_METRICS = tuple(_TEXT_METRICS)
_TEXT_CHOICES = f"choose {', '.join(TEXT_METRICS)} or package.module:function"
