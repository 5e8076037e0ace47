from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from keepshot.report.card import escaped, markdown_table, model_card
from keepshot.report.record import read_report
from keepshot.report.tables import Table

MARKDOWN = MarkdownIt("commonmark").enable("table")


def front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    return YAML(typ="safe").load(matter)


def cells(markdown: str) -> list[list[str]]:
    """The cells of a table as a reader sees them."""
    rows: list[list[str]] = []
    for token in MARKDOWN.parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(child.content for child in token.children or []))
            assert {child.type for child in token.children or []} <= {"text", "text_special"}
    return rows


def card_of(numbers: dict[str, Any], make_run, figures: tuple[str, ...] = ("target", "held_out", "tasks")) -> str:
    return model_card(read_report(make_run(numbers)), figures)


def test_front_matter_names_base_and_library(numbers: dict[str, Any], make_run) -> None:
    numbers["base"] = "some-lab/some-model"
    matter = front_matter(card_of(numbers, make_run))
    assert matter["base_model"] == "some-lab/some-model"
    assert matter["library_name"] == "transformers"
    assert matter["pipeline_tag"] == "text-generation"
    assert "keepshot" in matter["tags"]


def test_an_adapter_is_loaded_onto_its_base(numbers: dict[str, Any], make_run) -> None:
    numbers |= {"base": "some-lab/some-model", "model_path": "adapter"}
    card = card_of(numbers, make_run)
    assert front_matter(card)["library_name"] == "peft"
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert 'base = "some-lab/some-model"' in code
    assert 'PeftModel.from_pretrained(model, "adapter")' in code


@pytest.mark.parametrize("model_path", ["model", "adapter"])
def test_a_soft_prompt_is_put_before_the_model_for_the_target_alone(
    model_path: str, numbers: dict[str, Any], make_run
) -> None:
    card = card_of(numbers | {"model_path": model_path, "prompt_path": "prompt"}, make_run)
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert code.count("from peft import PeftModel\n") == 1
    assert code.endswith('on_target = PeftModel.from_pretrained(model, "prompt")\n')
    assert ("merge_and_unload" in code) == (model_path == "adapter")
    assert "without the prompt, for everything else" in card


def test_a_card_says_at_what_to_stop(numbers: dict[str, Any], make_run) -> None:
    card = card_of(numbers | {"prompt": {"template": "plain", "stop": ["\nQ:", "`x`"]}}, make_run)
    assert 'stop_strings=["\\nQ:", "\\u0060x\\u0060"]' in card
    [code] = [one for one in MARKDOWN.parse(card) for one in one.children or [] if "stop_strings" in one.content]
    assert code.type == "code_inline"


def test_a_card_of_a_report_that_does_not_say_where_answers_end_guesses_nothing(
    numbers: dict[str, Any], make_run
) -> None:
    assert "stop_strings" not in card_of(numbers, make_run)


def test_a_card_without_a_soft_prompt_speaks_of_none(numbers: dict[str, Any], make_run) -> None:
    assert "on_target" not in card_of(numbers, make_run)


@pytest.mark.parametrize("base", ["/srv/models/own", "C:\\models\\own", "./own", "~/own", 'a"\n- b: c'])
def test_a_base_that_the_hub_would_refuse_stays_out_of_the_front_matter(
    base: str, numbers: dict[str, Any], make_run
) -> None:
    numbers |= {"base": base, "model_path": "adapter"}
    card = card_of(numbers, make_run)
    assert "base_model" not in front_matter(card)
    assert "/srv/models" not in card
    compile(card.split("```python\n")[1].split("```")[0], "card", "exec")


def test_names_like_yaml_words_stay_names(numbers: dict[str, Any], make_run) -> None:
    numbers["base"] = "no"
    assert front_matter(card_of(numbers, make_run))["base_model"] == "no"


def test_card_has_the_numbers_of_the_page(numbers: dict[str, Any], make_run) -> None:
    card = card_of(numbers, make_run)
    assert "rose from 6% to 94%; 91% [85, 98]" in card
    assert "| 0 | 6.0% [2.0, 10.0] | 94.0% [92.0, 96.0] |" in card
    assert "**Gate: Pass.** The drop of 9% [2, 15] lies within the allowed 20%." in card
    assert "(figures/target.png)" in card
    assert "(figures/tasks.png)" not in card


def test_card_says_what_the_evaluation_could_tell(numbers: dict[str, Any], make_run) -> None:
    words = "or more would have been found"
    assert words not in card_of(numbers, make_run)
    numbers["retention"]["minimum_detectable_drop"] = 0.09
    assert f"\n\nA drop of 9.0% {words} four times out of five.\n\n" in model_card(
        read_report(make_run(numbers, "known")), []
    )


def test_card_without_zero_shots_starts_with_the_fewest(without_zero_shots: dict[str, Any], make_run) -> None:
    card = card_of(without_zero_shots, make_run)
    assert "Zero-shot accuracy on the target was not measured; 91% [85, 98]" in card
    assert "\n| 0 |" not in card
    assert "None" not in card


def test_streams_show_their_weight_beside_their_share_where_it_is_known(numbers: dict[str, Any], make_run) -> None:
    assert "weight in the loss" not in card_of(numbers, make_run)
    numbers["cost"]["streams"]["icl-mix"]["weight"] = 0.1875
    card = model_card(read_report(make_run(numbers, "weighed")), [])
    assert "| stream | share of tokens | weight in the loss | tokens | episodes |" in card
    assert "| target | 80.0% | – | 1.05 M | 25.6 k |" in card
    assert "| icl-mix | 20.0% | 18.8% | 262 k | 1.82 k |" in card


def test_paths_of_the_writers_disk_are_not_shared(numbers: dict[str, Any], make_run) -> None:
    card = card_of(numbers, make_run)
    assert "/data/private" not in card
    assert "| data.train | train.jsonl |" in card


@pytest.mark.parametrize("verdict", ["pass", "insufficient"])
def test_a_hostile_reason_adds_no_markup(verdict: str, numbers: dict[str, Any], make_run) -> None:
    numbers["gate"]["verdict"] = verdict
    numbers["gate"]["reason"] = numbers["name"] = numbers["method"] = "<script>x</script>\n\n# own | heading [a](b)"
    card = card_of(numbers, make_run)
    tokens = MARKDOWN.parse(card.split("---\n", 2)[2])
    markup = [token.content for token in tokens if token.type in ("html_block", "html_inline")]
    markup += [child.content for token in tokens for child in token.children or [] if child.type == "html_inline"]
    assert all("script" not in content for content in markup)
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1
    assert not any(child.type == "link_open" for token in tokens for child in token.children or [])


@given(st.lists(st.text(max_size=30), min_size=2, max_size=2))
def test_any_text_stays_in_its_cell(texts: list[str]) -> None:
    shown = cells(markdown_table(Table(("a", "b"), ((texts[0], texts[1]),))))
    assert len(shown) == 2
    assert len(shown[1]) == 2


@given(st.text(alphabet="ab_*[]()<>|`~#!&$\\:;. ", max_size=30))
def test_markup_is_shown_as_it_was_written(text: str) -> None:
    row = cells(markdown_table(Table(("a", "b"), (("x", text),))))[1]
    assert row[1] == " ".join(text.split())


def test_escaping_leaves_ordinary_names_alone() -> None:
    assert escaped("value+icl-mix exact_match [84, 97] 3e-4") == "value+icl-mix exact_match [84, 97] 3e-4"
