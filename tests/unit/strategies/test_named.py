import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError
from keepshot.strategies import (
    ADDITIONS,
    METHODS,
    Everything,
    Lora,
    Pattern,
    Roles,
    Strategy,
    StreamSpec,
    compose,
    resolve_method,
)


@pytest.mark.parametrize("name", METHODS)
def test_a_name_alone_is_its_trainable_on_the_target(name: str) -> None:
    shown, strategy, rate = resolve_method(name)
    assert (shown, rate) == (name, METHODS[name].learning_rate)
    assert strategy == Strategy(trainable=METHODS[name].trainable)
    assert resolve_method([name]) == (shown, strategy, rate)


@pytest.mark.parametrize("name", ADDITIONS)
def test_an_addition_brings_its_stream_and_a_term_as_large_as_its_share(name: str) -> None:
    shown, strategy, rate = resolve_method(["value", name])
    share = ADDITIONS[name].stream.share
    assert shown == f"value+{name}"
    assert rate == METHODS["value"].learning_rate
    assert strategy.streams == (StreamSpec(name="target"), ADDITIONS[name].stream)
    assert (strategy.weight("target"), strategy.weight(name)) == (1 - share, share)


def test_all_additions_go_together() -> None:
    shown, strategy, _ = resolve_method(["full", *ADDITIONS])
    assert shown == "+".join(["full", *ADDITIONS])
    assert [stream.name for stream in strategy.streams] == ["target", *ADDITIONS]
    assert sum(term.weight for term in strategy.terms) == pytest.approx(1)


def test_an_addition_takes_options() -> None:
    _, strategy, _ = resolve_method(["full", {"icl-mix": {"share": 0.3, "shots": [2, 4], "source": "target"}}])
    stream = strategy.streams[1]
    assert (stream.share, stream.shots, stream.source, stream.sampler) == (0.3, (2, 4), "target", "k-shot")
    assert strategy.weight("target") == pytest.approx(0.7)
    assert ADDITIONS["icl-mix"].stream.share == 0.2


@pytest.mark.parametrize(
    ("written", "trainable", "shown", "like"),
    [
        ({"pattern": "mlp"}, Pattern(pattern="mlp"), "pattern", "value"),
        ({"roles": ["query"]}, Roles(roles=("query",)), "roles", "value"),
        ({"lora": {"r": 4}}, Lora(r=4), "lora", "lora"),
        ({"kind": "lora", "r": 4}, Lora(r=4), "lora", "lora"),
        ("everything", Everything(), "everything", "full"),
        ("value", Roles(roles=("value",)), "roles", "value"),
    ],
)
def test_a_trainable_may_be_written_out(written: object, trainable: object, shown: str, like: str) -> None:
    name, strategy, rate = resolve_method([{"trainable": written}, "general"])
    assert (name, strategy.trainable, rate) == (f"{shown}+general", trainable, METHODS[like].learning_rate)


def test_a_whole_strategy_may_be_written_out() -> None:
    written = {
        "trainable": {"pattern": "v_proj"},
        "streams": [{"name": "target"}, {"name": "mix", "sampler": "k-shot", "source": "icl", "share": 0.25}],
        "terms": [{"weight": 0.5}, {"stream": "mix", "weight": 0.5}],
    }
    name, strategy, rate = resolve_method(written)
    assert (name, rate, strategy.trainable) == ("custom", None, Pattern(pattern="v_proj"))
    assert strategy.weight("mix") == 0.5
    assert written["trainable"] == {"pattern": "v_proj"}
    assert resolve_method(json.loads(strategy.model_dump_json())) == (name, strategy, rate)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("valu", "method 'valu' is unknown; use one of full, lora,"),
        (None, "method None is unknown"),
        ([], r"method \[\] is unknown"),
        (3, "method 3 is unknown"),
        ({}, "method {} is unknown"),
        ([["value"]], r"method \['value'\] is unknown"),
        ("icl-mix", r"icl-mix is an addition; name what to train first, such as \[full, icl-mix\]"),
        (["icl-mix", "value"], "is an addition"),
        (["full", "lora"], "method addition 'lora' is unknown; use general or icl-mix"),
        (["full", {"icl-mix": 3}], "method addition"),
        (["full", {"icl-mix": {}, "general": {}}], "method addition"),
        (["full", ["general"]], "method addition"),
        (["full", "general", "general"], "names an addition twice: general, general"),
        (["full", {"general": {"share": 0.9}}, "icl-mix"], "the shares of general, icl-mix sum to 1.1"),
        (["full", {"general": {"share": 2}}], "method.general.share: "),
        (["full", {"general": {"sare": 0.2}}], "method.general.sare: "),
        ({"trainable": {"pattern": "("}}, r"method.trainable\S*: .*no regular expression"),
        ({"trainable": {"roles": ["vale"]}}, r"method.trainable.roles.roles.0: "),
        ({"trainable": {"lora": {"rank": 3}}}, "method.trainable.lora.rank: "),
        ({"trainable": {"magic": 1}}, "method.trainable: "),
        ({"trainable": None}, "method.trainable: "),
        (
            {"trainable": {"lora": {"r": 8}, "targets": ["value"]}},
            "method.trainable has targets beside lora; .*inside it",
        ),
        ({"trainable": {"targets": ["value"], "lora": {"r": 8}}}, "method.trainable has targets beside lora; "),
        ({"trainable": {"roles": ["value"], "pattern": "mlp"}}, "method.trainable has roles beside pattern; "),
        ({"trainable": "full", "terms": [{"weight": 0.8}]}, r"method: .*sum to 0\.8"),
        ({"streams": [{"name": "target"}]}, "method.trainable: "),
        ({"trainable": "full", "streams": [{"name": "main"}]}, "method: .*first stream must be called target"),
        ({"trainable": "full", "terms": [{"weight": -1}]}, "method.terms.0.weight: "),
    ],
)
def test_what_is_no_method_is_one_line_that_says_where(written: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"({message})") as caught:
        resolve_method(written)
    assert "\n" not in str(caught.value)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4))
def test_weights_sum_to_one_or_the_shares_are_refused(shares: list[float]) -> None:
    added = [StreamSpec(name=f"added {i}", share=share) for i, share in enumerate(shares)]
    if sum(shares) >= 1:
        with pytest.raises(ConfigError, match="must leave something over"):
            compose(Everything(), added)
    else:
        assert sum(term.weight for term in compose(Everything(), added).terms) == pytest.approx(1)


def test_general_says_what_it_sees_on_the_model_without_general_data() -> None:
    assert "for the model mini" in ADDITIONS["general"].sees
    assert "few-shot episodes of the bundled universe" in ADDITIONS["general"].sees


@pytest.mark.parametrize("value", [*METHODS.values(), *ADDITIONS.values()])
def test_each_says_what_it_costs_and_where_it_comes_from(value: object) -> None:
    assert value.cites
    assert value.costs
    assert (METHODS | ADDITIONS)[value.name] is value
