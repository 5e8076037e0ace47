import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepshot.errors import ConfigError
from keepshot.strategies import (
    ADDITIONS,
    METHODS,
    RECOMMENDED,
    TARGET,
    Change,
    Everything,
    Lora,
    Pattern,
    Penalty,
    Roles,
    Strategy,
    StreamSpec,
    Term,
    compose,
    resolve_method,
)
from keepshot.strategies.merge import Merge
from keepshot.strategies.soft_prompt import SoftPrompt

# A soft prompt stands before the target's rows, about which the base is then not asked.
CONTEXTS = [name for name, addition in ADDITIONS.items() if addition.stream and addition.stream.context]
OWN_ROWS = [name for name, addition in ADDITIONS.items() if addition.stream and addition.stream.name == TARGET]
TOGETHER = [name for name, addition in ADDITIONS.items() if addition.prompt is None and name not in OWN_ROWS[1:]]
STREAMS = [name for name, addition in ADDITIONS.items() if addition.stream is not None and name not in OWN_ROWS]


@pytest.mark.parametrize("name", METHODS)
def test_a_name_alone_is_its_trainable_on_the_target(name: str) -> None:
    shown, strategy, rate = resolve_method(name)
    assert (shown, rate) == (name, METHODS[name].learning_rate)
    assert strategy == Strategy(trainable=METHODS[name].trainable)
    assert resolve_method([name]) == (shown, strategy, rate)


def test_auto_stands_for_the_recommended_method_and_takes_additions() -> None:
    first, *additions = RECOMMENDED
    assert resolve_method("auto") == resolve_method([first, *additions])
    assert resolve_method(["auto", "general"]) == resolve_method([first, *additions, "general"])
    # It must work for whoever has no data but the target's.
    assert {stream.source for stream in resolve_method("auto")[1].streams} == {TARGET}


@pytest.mark.parametrize("name", STREAMS)
def test_an_addition_brings_its_stream_and_a_term_that_weighs_its_share_or_half(name: str) -> None:
    shown, strategy, rate = resolve_method(["value", name])
    addition = ADDITIONS[name]
    weight = {"general": 0.1, "icl-mix": 0.2, "few-shot": 0.5, "icl-kl": 0.5, "self-anchor": 0.5}[name]
    assert shown == f"value+{name}"
    assert rate == METHODS["value"].learning_rate
    assert strategy.streams == (StreamSpec(name="target"), addition.stream)
    (target, term) = strategy.terms
    assert (target.kind, target.stream, target.weight) == ("nll", "target", pytest.approx(1 - weight))
    assert (term.kind, term.stream, term.weight) == (addition.term.kind, name, pytest.approx(weight))


@pytest.mark.parametrize("name", CONTEXTS)
def test_contexts_stand_before_the_target_s_own_rows(name: str) -> None:
    shown, strategy, _ = resolve_method(["value", name])
    assert shown == f"value+{name}"
    [stream], [term] = strategy.streams, strategy.terms
    assert (stream.name, stream.sampler, stream.shots, stream.scored) == (TARGET, "context", (5, 5), "last")
    assert (f"ic-{stream.context.kind}", term.weight, term.kind) == (name, 1.0, "nll")
    _, other, _ = resolve_method(
        ["full", {name: {"shots": [2, 4], "scored": "all", "context": {"near": 0.2}}}, "general"]
    )
    assert (other.streams[0].shots, other.streams[0].scored) == ((2, 4), "all")
    assert (other.streams[0].context.near, other.streams[0].context.kind) == (0.2, stream.context.kind)
    assert [stream.name for stream in other.streams] == [TARGET, "general"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["full", "ic-random", "ic-similar"], "two for the same rows: ic-random, ic-similar"),
        (["full", {"ic-random": {"share": 0.2}}], "ic-random has no such option; it has sampler, shots"),
        (["full", {"ic-contrastive": {"context": {"near": 0.7, "paraphrase": 0.4}}}], "at most 1 together"),
        (["full", {"ic-contrastive": {"context": {"kind": "nearest"}}}], "'random', 'similar', 'contrastive'"),
        (
            {"trainable": "full", "streams": [{"name": "target", "sampler": "context"}], "terms": [{}]},
            "the sampler context and the key context come together",
        ),
        (
            {"trainable": "full", "streams": [{"name": "target"}, {"name": "a", "sampler": "context", "context": {},
             "source": "icl", "share": 0.1}], "terms": [{"weight": 0.5}, {"stream": "a", "weight": 0.5}]},
            "made of the target's own examples; source icl",
        ),
    ],
)  # fmt: skip
def test_contexts_that_cannot_be(written: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_method(written)


def test_which_additions_compare_with_the_base_and_which_learn_answers() -> None:
    kinds = {name: resolve_method(["full", name])[1].terms[1].kind for name in STREAMS}
    assert kinds == {"general": "nll", "icl-mix": "nll", "few-shot": "nll", "icl-kl": "kl", "self-anchor": "kl"}
    sources = {name: ADDITIONS[name].stream.source for name in STREAMS}
    assert (sources["icl-kl"], sources["self-anchor"], sources["few-shot"]) == ("anchors", "target", "target")


def weights(*method: object) -> dict[str, float]:
    _, strategy, _ = resolve_method(list(method))
    return {stream.name: strategy.weight(stream.name) for stream in strategy.streams}


def test_two_halves_beside_the_target_are_thirds() -> None:
    third = pytest.approx(1 / 3)
    assert weights("full", "icl-kl", "self-anchor") == {"target": third, "icl-kl": third, "self-anchor": third}


def test_a_weight_beside_the_target_shares_what_fractions_of_the_whole_leave() -> None:
    found = weights("full", "icl-mix", {"icl-kl": {"weight": 0.3}})
    assert found == pytest.approx({"target": 0.8 * 0.7, "icl-mix": 0.2, "icl-kl": 0.8 * 0.3})
    assert weights("full", {"icl-mix": {"weight": 0.3, "share": 0.1}}, {"general": {"share": 0.15}}) == pytest.approx(
        {"target": 0.55, "icl-mix": 0.3, "general": 0.15}
    )


def test_the_order_of_additions_changes_no_weight() -> None:
    names = TOGETHER
    assert weights("full", *names) == pytest.approx(weights("full", *reversed(names)))


def test_an_addition_takes_options_of_its_term() -> None:
    shown, strategy, _ = resolve_method(
        ["full", {"icl-kl": {"weight": 0.3, "temperature": 2, "share": 0.2, "kept": 16, "visits": 2}}]
    )
    stream, term = strategy.streams[1], strategy.terms[1]
    assert shown == "full+icl-kl"
    assert (stream.share, stream.visits, stream.shots, stream.source) == (0.2, 2, (1, 8), "anchors")
    assert (term.kind, term.stream, term.temperature, term.kept) == ("kl", "icl-kl", 2.0, 16)
    assert (strategy.weight("target"), term.weight) == (pytest.approx(0.7), pytest.approx(0.3))
    assert ADDITIONS["icl-kl"].term.temperature == 1


def test_the_auxiliary_loss_may_be_annealed() -> None:
    _, constant, _ = resolve_method(["value", "few-shot"])
    _, annealed, _ = resolve_method(["value", {"few-shot": {"anneal": "linear"}}])
    assert [term.anneal for term in constant.terms] == ["constant", "constant"]
    assert [term.anneal for term in annealed.terms] == ["constant", "linear"]
    assert annealed.terms[1].at(0.5) == pytest.approx(0.25)
    assert annealed.terms[0].at(0.5) == pytest.approx(0.5), "the target's weight stays"


def test_both_directions_on_any_stream_may_be_written_out() -> None:
    _, strategy, _ = resolve_method(
        {
            "trainable": "value",
            "streams": [{"name": "target"}, {"name": "mix", "sampler": "k-shot", "source": "icl", "share": 0.25}],
            "terms": [
                {"weight": 0.4},
                {"kind": "kl", "weight": 0.1},
                {"kind": "reverse-kl", "stream": "mix", "weight": 0.5, "temperature": 2},
            ],
        }
    )
    assert [(term.kind, term.stream) for term in strategy.terms] == [
        ("nll", "target"), ("kl", "target"), ("reverse-kl", "mix"),
    ]  # fmt: skip


def test_additions_go_together() -> None:
    shown, strategy, _ = resolve_method(["full", *TOGETHER])
    assert shown == "+".join(["full", *TOGETHER])
    assert [stream.name for stream in strategy.streams] == ["target", *STREAMS]
    assert [term.kind for term in strategy.terms if term.stream == "target"] == ["nll", "kl", "masked-kl"]
    assert strategy.terms[0].least == 0.4
    assert [penalty.kind for penalty in strategy.penalties] == ["l2sp", "ewc"]
    assert sum(term.weight for term in strategy.terms) == pytest.approx(1)


def test_a_prompt_comes_before_what_the_list_trains() -> None:
    shown, strategy, rate = resolve_method(["value", {"promot": {"tokens": 3, "steps": 7}}, "icl-mix"])
    assert (shown, rate) == ("value+promot+icl-mix", METHODS["value"].learning_rate)
    assert strategy.prompt == SoftPrompt(tokens=3, steps=7)
    assert strategy.trainable == METHODS["value"].trainable
    assert [stream.name for stream in strategy.streams] == ["target", "icl-mix"]
    assert resolve_method(["value", "icl-mix"])[1].prompt is None


@pytest.mark.parametrize("alone", ["promot", ["promot"]])
def test_promot_alone_trains_all_weights(alone: object) -> None:
    assert resolve_method(alone) == resolve_method(["full", "promot"])
    options = {"promot": {"tokens": 3}}
    assert resolve_method(options) == resolve_method(["full", options])


@pytest.mark.parametrize("addition", ["task-kl", "target-masked-kl", "token-masking"])
def test_a_prompt_goes_with_no_term_that_asks_the_base_about_the_target(addition: str) -> None:
    for method in (["full", "promot", addition], ["full", addition, "promot"]):
        with pytest.raises(ConfigError, match=r"asks the base about the target's rows.*leave out the prompt") as error:
            resolve_method(method)
        assert "streams" not in str(error.value)
    resolve_method(["full", "promot", "icl-kl", "self-anchor", "few-shot", "ewc", "l2sp", "general"])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"tokens": 0}, "promot.tokens"), ({"steps": 0}, "promot.steps"), ({"share": 0.1}, "it has tokens, learn")],
)
def test_wrong_options_of_a_prompt_are_one_line(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_method(["full", {"promot": options}])


def test_all_tokens_are_the_target_s_own_rows() -> None:
    _, strategy, _ = resolve_method(["lora", "all-tokens", "general"])
    assert [(stream.name, stream.sampler, stream.scored) for stream in strategy.streams] == [
        (TARGET, "zero-shot", "row"),
        ("general", "zero-shot", "all"),
    ]
    assert strategy.terms == resolve_method(["lora", "general"])[1].terms
    with pytest.raises(ConfigError, match="two for the same rows"):
        resolve_method(["full", "all-tokens", "ic-random"])


def test_a_merge_ends_what_the_list_trains() -> None:
    shown, strategy, rate = resolve_method(["lora", "general", {"wise-ft": {"coefficient": 0.7}}])
    assert (shown, rate) == ("lora+general+wise-ft", METHODS["lora"].learning_rate)
    assert strategy.merge == Merge(coefficient=0.7)
    without = resolve_method(["lora", "general"])[1]
    assert strategy == without.model_copy(update={"merge": strategy.merge})
    assert resolve_method("wise-ft") == resolve_method(["full", "wise-ft"])
    written = {"trainable": "full", "merge": {"coefficient": 0.5}}
    assert resolve_method(written)[1] == resolve_method("wise-ft")[1]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (["full", {"wise-ft": {"coefficient": 1}}], "wise-ft.coefficient"),
        (["full", {"wise-ft": {"share": 0.1}}], "it has coefficient"),
        (["full", "promot", "wise-ft"], "fits its own weights"),
        (["dora", "wise-ft"], "not linear in its scale"),
    ],
)
def test_what_cannot_be_merged_is_one_line(method: list[object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_method(method)


def test_an_addition_takes_options() -> None:
    _, strategy, _ = resolve_method(["full", {"icl-mix": {"share": 0.3, "shots": [2, 4], "source": "target"}}])
    stream = strategy.streams[1]
    assert (stream.share, stream.shots, stream.source, stream.sampler) == (0.3, (2, 4), "target", "k-shot")
    assert strategy.weight("target") == pytest.approx(0.7)
    assert ADDITIONS["icl-mix"].stream.share == 0.2


def test_a_term_on_the_target_shares_its_weight_with_what_is_there() -> None:
    _, strategy, _ = resolve_method(["full", "task-kl"])
    assert strategy.streams == (StreamSpec(name="target"),)
    assert strategy.terms == (Term(weight=0.5), Term(kind="kl", weight=0.5))
    _, strategy, _ = resolve_method(["full", {"target-masked-kl": {"weight": 0.2, "kept": 8}}, "self-anchor"])
    target, masked, anchor = strategy.terms
    assert (masked.kind, masked.stream, masked.kept) == ("masked-kl", "target", 8)
    assert masked.weight == pytest.approx(target.weight / 4)
    assert anchor.weight == pytest.approx(target.weight)


def test_a_change_of_the_targets_own_term_leaves_its_weight() -> None:
    _, strategy, _ = resolve_method(["full", {"token-masking": {"least": 0.1}}])
    assert strategy == Strategy(trainable=Everything(), terms=(Term(least=0.1),))
    _, strategy, _ = resolve_method(["full", "token-masking", "icl-mix"])
    assert [(term.kind, term.weight, term.least) for term in strategy.terms] == [
        ("nll", pytest.approx(0.8), 0.4), ("nll", 0.2, None),
    ]  # fmt: skip
    assert [term.kind for term in strategy.base_terms("target")] == ["nll"]


def test_a_penalty_joins_without_a_weight() -> None:
    _, strategy, _ = resolve_method(["value", {"l2sp": {"strength": 3, "roles": ["value"]}}])
    assert strategy.terms == (Term(),)
    assert strategy.penalties == (Penalty(kind="l2sp", strength=3.0, roles=("value",)),)
    options = {"sampler": "k-shot", "source": "anchors", "shots": [1, 4], "rows": 8, "passes": 4}
    _, strategy, _ = resolve_method(["lora", {"ewc": options}])
    prompts = StreamSpec(name="ewc", sampler="k-shot", source="anchors", shots=(1, 4))
    assert strategy.penalties[0].prompts == prompts
    assert resolve_method(["lora", "ewc"])[1].penalties[0].prompts.scored == "later"
    name, strategy, _ = resolve_method({"trainable": "full", "penalties": [{"kind": "l2sp", "strength": 1}]})
    assert (name, strategy.penalties[0].strength) == ("custom", 1.0)


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
    assert (name, rate, strategy.trainable) == ("custom", 2e-4, Pattern(pattern="v_proj"))
    assert strategy.weight("mix") == 0.5
    assert written["trainable"] == {"pattern": "v_proj"}
    assert resolve_method(json.loads(strategy.model_dump_json())) == (name, strategy, rate)


@pytest.mark.parametrize("like", ["full", "value", "lora"])
def test_a_strategy_written_out_has_the_rate_of_what_it_trains(like: str) -> None:
    """Ten times as low a rate would look like better retention."""
    trainable = METHODS[like].trainable.model_dump(mode="json")
    held = {"trainable": trainable, "penalties": [{"kind": "l2sp", "strength": 0.1}]}
    assert resolve_method(held)[2] == METHODS[like].learning_rate


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("valu", "method 'valu' is unknown; use auto, one of full, lora,"),
        (None, "method None is unknown"),
        ([], r"method \[\] is unknown"),
        (3, "method 3 is unknown"),
        ({}, "method {} is unknown"),
        ([["value"]], r"method \['value'\] is unknown"),
        ("icl-mix", r"icl-mix is an addition; name what to train first, such as \[full, icl-mix\]"),
        (["icl-mix", "value"], "is an addition"),
        (["full", "lora"], "method addition 'lora' is unknown; use general or icl-mix or few-shot or icl-kl or"),
        (["full", {"icl-kl": {"weight": 1}}], r"method.icl-kl.weight 1 must leave some of the loss to the target"),
        (["full", {"icl-mix": {"weight": 1.5}}], r"method.icl-mix.weight 1.5 must leave some"),
        (["full", {"icl-kl": {"weight": 0}}], r"method.icl-kl.weight: "),
        (["full", {"icl-kl": {"temperature": -1}}], r"method.icl-kl.temperature: "),
        (["full", {"icl-kl": {"anneal": True}}], r"method.icl-kl.anneal: "),
        (["full", {"few-shot": {"temperature": 2}}], r"method.few-shot: .*temperature and kept belong to the KL terms"),
        (["full", {"icl-mix": {"weight": 0.6}}, {"general": {"weight": 0.5}}], r"the weights of .* sum to 1\.1"),
        (["full", {"self-anchor": {"source": "icl"}}], r"method.self-anchor: .*the target's own inputs"),
        (["full", {"icl-mix": 3}], "method addition"),
        (["full", {"icl-mix": {}, "general": {}}], "method addition"),
        (["full", ["general"]], "method addition"),
        (["full", "general", "general"], "names an addition twice, .*: general, general"),
        (["full", {"general": {"share": 0.9}}, "icl-mix"], "the shares of general, icl-mix sum to 1.1"),
        (["full", {"general": {"share": 2}}], "method.general.share: "),
        (["full", {"general": {"shots": [3, 5]}}], "method.general.shots: general has no such option; it has name, "),
        (["full", {"icl-mix": {"visits": 9}}], "method.icl-mix.visits: icl-mix has no such option; it has name, "),
        (["full", {"general": {"sare": 0.2}}], "method.general.sare: general has no such option; it has name, "),
        (["full", {"task-kl": {"share": 0.2}}], "method.task-kl.share: task-kl has no such option; it has weight, an"),
        (["full", {"task-kl": {"kind": "nll"}}], "method.task-kl.kind: "),
        (["full", {"task-kl": {"weight": 1}}], "method.task-kl.weight 1 must leave"),
        (["full", {"task-kl": {"least": 0.2}}], "method.task-kl: .*least belongs to the term nll"),
        (["full", "task-kl", "task-kl"], "names an addition twice"),
        (["full", {"token-masking": {"weight": 0.5}}], "method.token-masking.weight: "),
        (["full", {"token-masking": {"least": 1.5}}], "method.token-masking.least: "),
        (["full", {"l2sp": {"strength": 0}}], "method.l2sp.strength: "),
        (["full", {"l2sp": {"rows": 3}}], "method.l2sp: .*rows, passes belong to the penalty ewc"),
        (["full", {"ewc": {"source": "icl"}}], "method.ewc: .*self-anchors are made of the target's own inputs"),
        (["lora", {"l2sp": {"roles": ["query"]}}], "roles of a penalty name weights, and an adapter moves none"),
        ({"trainable": "full", "penalties": [{"kind": "l2sp"}]}, "method.penalties.0.strength: "),
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


PARTS = st.tuples(st.floats(0.01, 0.6), st.floats(0.01, 0.95), st.booleans())


@given(st.lists(PARTS, min_size=1, max_size=4))
def test_weights_sum_to_one_as_they_were_meant_or_are_refused(parts: list[tuple[float, float, bool]]) -> None:
    added = [
        Change(
            f"added {i}", StreamSpec(name=f"added {i}", share=share), Term(stream=f"added {i}", weight=weight), beside
        )
        for i, (share, weight, beside) in enumerate(parts)
    ]
    fixed = sum(weight for _, weight, beside in parts if not beside)
    if sum(share for share, _, _ in parts) >= 1 or fixed >= 1:
        with pytest.raises(ConfigError, match="must leave something over"):
            compose(Everything(), added)
        return
    target, *terms = compose(Everything(), added).terms
    assert target.weight + sum(term.weight for term in terms) == pytest.approx(1)
    for term, (_, weight, beside) in zip(terms, parts, strict=True):
        alone = term.weight / (term.weight + target.weight) if beside else term.weight
        assert alone == pytest.approx(weight)


def test_general_says_what_it_sees_on_the_bundled_model() -> None:
    assert "for the model mini" in ADDITIONS["general"].does
    assert "with an instruction of the bundled universe" in ADDITIONS["general"].does


@pytest.mark.parametrize("value", [*METHODS.values(), *ADDITIONS.values()])
def test_each_says_what_it_costs_and_where_it_comes_from(value: object) -> None:
    assert value.cites
    assert value.costs
    assert (METHODS | ADDITIONS)[value.name] is value
