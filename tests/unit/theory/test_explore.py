"""One question, its answers."""

import pytest

from keepshot.errors import ConfigError
from keepshot.theory.explore import METHODS, Question, answer_lines, ask
from keepshot.theory.regression import from_spectrum, geometry, isotropic, target
from keepshot.theory.value import value_risk, value_risk_limit

SETTING = isotropic(5, 0.1)


def test_answers_for_the_target() -> None:
    answers = {answer.method: answer for answer in ask(Question(SETTING))}
    assert tuple(answers) == METHODS
    assert answers["pretrained"].helped_from == 3
    assert answers["full"].zero_shot == pytest.approx(0.1)
    assert answers["full"].helped_from is None
    assert answers["full"].very_many == pytest.approx(1.1)
    assert answers["value"].zero_shot == pytest.approx(0.1 + 2 / 9)
    assert answers["value"].w == pytest.approx(21 / 26.5)
    assert answers["value"].few_shot == pytest.approx(
        value_risk(20, geometry(SETTING, *[target(5)] * 2), 5, 0.1, 21 / 26.5)
    )
    assert answers["value+few-shot"].few_shot < answers["value"].few_shot


@pytest.mark.parametrize(("w", "helped"), [(20 / 26, 22), (0.66, 21)])
def test_value_only_with_a_given_w(w: float, helped: int) -> None:
    same = geometry(SETTING, target(5), target(5))
    [answer] = ask(Question(SETTING, w=w), ("value",))
    assert answer.w == pytest.approx(w)
    assert answer.few_shot == pytest.approx(value_risk(20, same, 5, 0.1, w))
    assert answer.very_many == pytest.approx(value_risk_limit(same, 5, 0.1, w), abs=1e-6)
    assert answer.helped_from == helped


def test_full_with_a_given_w() -> None:
    [answer] = ask(Question(SETTING, w=0.52), ("full",))
    assert (answer.w, round(answer.few_shot, 4)) == (pytest.approx(0.52), 1.4113)


def test_an_uneven_covariance_at_an_angle() -> None:
    question = Question(from_spectrum([2.0, 1.0, 0.5], 0.1), shots=0, angle=60.0)
    answers = ask(question)
    assert all(answer.few_shot == answer.zero_shot for answer in answers)
    text = "\n".join(answer_lines(question, answers))
    assert "S 1.167, R 0.5833 (task at 60 degrees to the target)" in text
    assert "always saying 0: 1.2667" in text


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match="m is at least 1 and n at least 0, not 0 and 20"):
        Question(SETTING, context=0)
    with pytest.raises(ConfigError, match="w is positive, not 0"):
        Question(SETTING, w=0.0)
