from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from keepshot.strategies import Everything, Roles, Strategy, StreamSpec, Term

MIX = StreamSpec(name="mix", sampler="k-shot", source="icl", share=0.3)


def strategy(*added: StreamSpec, **fields: Any) -> Strategy:
    weight = 1 / (1 + len(added))
    terms = (Term(weight=weight), *(Term(stream=stream.name, weight=weight) for stream in added))
    return Strategy(
        **{"trainable": Everything(), "streams": (StreamSpec(name="target"), *added), "terms": terms} | fields
    )


def test_a_strategy_is_zero_shot_target_rows_unless_told() -> None:
    plain = Strategy(trainable=Everything())
    assert [(stream.name, stream.sampler, stream.source, stream.share) for stream in plain.streams] == [
        ("target", "zero-shot", "target", None)
    ]
    assert plain.weight("target") == 1


def test_weights_are_found_by_stream_not_by_place() -> None:
    terms = (Term(stream="mix", weight=0.2), Term(weight=0.8))
    assert strategy(MIX, terms=terms).weight("target") == 0.8
    assert strategy(MIX, terms=terms).weight("mix") == 0.2


def test_a_stream_may_have_several_terms_and_weighs_their_sum() -> None:
    terms = (Term(weight=0.5), Term(kind="kl", weight=0.2), Term(kind="reverse-kl", stream="mix", weight=0.3))
    found = strategy(MIX, terms=terms)
    assert found.weight("target") == pytest.approx(0.7)
    assert found.weight("mix") == 0.3
    assert found.base_terms("target") == terms[1:2]
    assert found.base_terms("mix") == terms[2:]
    assert strategy(MIX).base_terms("mix") == ()


@pytest.mark.parametrize(("progress", "left"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (1.0, 0.0), (1.2, 0.0)])
def test_a_weight_stays_or_falls_in_a_straight_line_to_0(progress: float, left: float) -> None:
    assert Term(weight=0.4).at(progress) == 0.4
    assert Term(weight=0.4, anneal="linear").at(progress) == pytest.approx(0.4 * left)


def test_weights_may_be_rounded_as_one_writes_them() -> None:
    thirds = (Term(weight=0.6666667), Term(stream="mix", weight=0.3333333))
    assert strategy(MIX, terms=thirds).weight("mix") == 0.3333333


def test_a_strategy_comes_back_from_its_written_form() -> None:
    whole = strategy(MIX, trainable=Roles(roles=("value", "output")))
    assert TypeAdapter(Strategy).validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"streams": (StreamSpec(name="target"), MIX, MIX)}, "stream names must differ"),
        ({"streams": (MIX,)}, "the first stream must be called target"),
        ({"streams": (StreamSpec(name="target", share=0.5), MIX)}, "and have no share"),
        ({"streams": (StreamSpec(name="target"), StreamSpec(name="mix"))}, "stream mix needs a share"),
        ({"streams": (StreamSpec(name="target"), MIX, StreamSpec(name="b", share=0.7))}, "the shares sum to 1;"),
        ({"terms": (Term(),)}, r"every stream needs a term; streams are \['target', 'mix'\], .* \['target'\]"),
        ({"terms": (Term(stream="mix"),)}, r"every stream needs a term; .* bound to \['mix'\]"),
        ({"terms": (Term(), Term(stream="other"))}, r"every stream needs a term; .* \['other', 'target'\]"),
        ({"terms": (Term(weight=0.3), Term(weight=0.3), Term(stream="mix", weight=0.4))}, "two terms of one kind"),
        (
            {"terms": (Term(weight=0.4), *(Term(kind="kl", stream="mix", weight=w) for w in (0.2, 0.4)))},
            "two terms of one kind",
        ),
        ({"terms": (Term(), Term(stream="mix", weight=0.5))}, r"the weights of the terms sum to 1\.5;"),
        ({"terms": (Term(weight=0.5), Term(stream="mix", weight=0.49999))}, r"sum to 0\.99999;"),
        ({"trainable": {"kind": "magic"}}, "magic"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        strategy(MIX, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a/b"},
        {"sampler": "self-anchor", "source": "icl"},
        {"visits": 0},
        {"share": 0},
        {"share": 1},
        {"share": float("nan")},
        {"shots": (0, 4)},
        {"shots": (5, 4)},
        {"sampler": "few"},
        {"source": "anywhere"},
        {"scored": "first"},
    ],
)
def test_a_stream_has_sensible_numbers_and_known_kinds(fields: dict[str, Any]) -> None:
    assert StreamSpec(name="ok", share=0.5, shots=(4, 4)).shots == (4, 4)
    with pytest.raises(ValidationError):
        StreamSpec(**{"name": "ok", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"weight": 0},
        {"weight": -1},
        {"kind": "js"},
        {"anneal": "cosine"},
        {"kind": "kl", "temperature": 0},
        {"kind": "kl", "temperature": float("inf")},
        {"kind": "kl", "kept": 0},
    ],
)
def test_a_term_has_sensible_numbers_and_known_kinds(fields: dict[str, Any]) -> None:
    assert Term(kind="kl", weight=0.1, temperature=2, kept=1).temperature == 2
    with pytest.raises(ValidationError):
        Term(**fields)


@pytest.mark.parametrize("fields", [{"temperature": 2.0}, {"kept": 8}])
def test_what_only_a_kl_term_has_is_refused_elsewhere(fields: dict[str, Any]) -> None:
    assert Term(kind="reverse-kl", **fields)
    with pytest.raises(ValidationError, match="temperature and kept belong to the KL terms"):
        Term(**fields)
