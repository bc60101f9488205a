"""The whole page: well formed, its headline and choice, with every part and with none."""

import json
import re
from typing import Any

import pytest
from report_page import Page, page
from report_variants import (
    CONTENT,
    TASKS,
    VARIANTS,
    bare,
    explained,
    explained_sixty_tasks,
    rendered,
    sixty_tasks,
    usual,
    without_gain,
)

EXPLAINED = {"ties", "synergy", "task-map", "surrogates", "calibration", "health"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_page_is_well_formed_and_needs_nothing_from_elsewhere(variant: Any) -> None:
    html = rendered(variant())
    tags = Page(html).tags
    loading = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"}
    assert not {tag for tag, _ in tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "use",
    }
    assert not [attributes for _, attributes in tags if loading & set(attributes)]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import|@font-face", html)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("variant", VARIANTS)
def test_drawings_have_a_name_and_labels_exist(variant: Any) -> None:
    tags = page(variant()).tags
    ids = {attributes.get("id") for _, attributes in tags}
    for number, (tag, attributes) in enumerate(tags):
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img"
            assert tags[number + 1][0] == "title"
        assert set((attributes.get("aria-labelledby") or "").split()) <= ids


@pytest.mark.parametrize("variant", [sixty_tasks, explained_sixty_tasks])
def test_sixty_tasks_stay_small(variant: Any) -> None:
    assert len(rendered(variant()).encode()) < 400_000


def test_headline_and_cards_say_what_the_choice_bought() -> None:
    shown = page()
    title = "Choosing 4 of 11 sources helped sst2: 91.3% test accuracy, against 89.5% with all of them."
    assert title in shown.text("header")
    assert CONTENT["evaluation"]["verdict"]["text"] in shown.text("header")
    assert ("header", {"class": "good"}) in shown.tags
    cards = shown.text("key-numbers")
    assert "91.3%95% interval 90.0 to 92.8%" in cards
    assert "89.5%chosen minus this: +1.8 points (+0.5 to +3.1)" in cards
    assert "87.6%chosen minus this: +3.7 points (+2.4 to +5.1)" in cards
    assert "4 of 11" in cards
    assert "2,114in 3.4 s" in cards


def test_headline_says_plainly_that_choosing_did_not_clearly_help() -> None:
    shown = page(without_gain())
    title = (
        "Choosing 4 of 11 sources did not clearly help sst2: 89.2% test accuracy, against 89.5% with all of"
    )
    assert f"No clear gain {title} them." in shown.text("header")
    assert ("header", {"class": "neutral"}) in shown.tags


def test_headline_warns_where_the_choice_is_clearly_worse() -> None:
    content = without_gain()
    content["evaluation"]["difference_to"][0]["test"]["accuracy"] = {
        "mean": -0.03,
        "low": -0.04,
        "high": -0.02,
    }
    shown = page(content)
    assert "Selection did worse Choosing 4 of 11 sources did not help sst2" in shown.text("header")
    assert ("header", {"class": "bad"}) in shown.tags
    assert shown.row("differences", "All sources")[0] == "-3.0-4.0 to -2.0worse"


@pytest.mark.parametrize(
    ("chosen", "words"),
    [([], "Leaving out every one of the 11 sources helped"), (TASKS, "Keeping all 11 sources helped")],
)
def test_headline_for_none_and_for_all(chosen: list[str], words: str) -> None:
    content = usual()
    content["selection"]["selected"] = chosen
    assert words in page(content).text("header")


def test_choice_lists_the_sources_and_marks_the_corrupted() -> None:
    shown = page()
    chosen, left_out = shown.text("choice").split("Left out")
    assert CONTENT["selection"]["reason"] in chosen
    assert re.findall(r"chosen: (\w+)", chosen) == ["mr", "subj", "dbpedia", "mnli"]
    assert re.findall(r"left out: (\w+)", left_out) == [
        task for task in TASKS if task not in CONTENT["selection"]["selected"]
    ]
    assert "mr_flipped labels flipped on purpose" in left_out
    assert "mr_shuffled labels shuffled on purpose" in left_out
    assert "Every source that was corrupted on purpose (2) was left out." in left_out


def test_choice_admits_that_a_corrupted_source_was_chosen() -> None:
    content = usual()
    content["selection"]["selected"] = ["mr", "mr_flipped"]
    assert "1 of the 2 sources that were corrupted on purpose was chosen." in page(content).text("choice")


def test_report_without_explanations_has_no_trace_of_them() -> None:
    shown = page()
    assert not EXPLAINED & set(shown.texts)
    assert set(page(explained()).texts) >= EXPLAINED
    assert "only the order is claimed" in shown.text("truth")


def test_settings_versions_and_times_are_listed() -> None:
    text = page().text("made")
    assert "meta_train6 min 53 s" in text
    for words in ("projection_seed0", "seeds[0, 1, 2]", "max_sourcesnull", "suites3://data/classification"):
        assert words in text.partition("Settings by step")[2]
    assert "transformers5.23.0" in text.partition("Versions")[2]


def test_missing_parts_leave_no_trace() -> None:
    shown = page(bare())
    assert "Best of m takes no steps" in shown.text("path")
    assert "Too few models for a rank correlation." in shown.text("truth")
    assert "one seed" in shown.text("truth")
    assert shown.row("metrics", "Chosen sources")[-1] == "0.2620"
    assert "Base model" not in shown.text("metrics")
    assert not {"differences", "data"} & set(shown.rows)


def test_hostile_names_are_shown_as_text() -> None:
    hostile = "<script>alert('x')</script>\"&{{ 7*7 }}"
    content = json.loads(
        json.dumps(explained()).replace('"sst2"', '"mr"').replace('"mr"', json.dumps(hostile))
    )
    content["selection"]["reason"] = content["evaluation"]["verdict"]["text"] = hostile
    content["evaluation"]["models"][3]["name"] = content["evaluation"]["difference_to"][2]["name"] = hostile
    content["evaluation"]["confusion"]["labels"][0] = hostile
    content["selection"]["ties"][0]["method"] = hostile
    content |= {"settings": {hostile: {hostile: [hostile]}}, "versions": {hostile: hostile}}
    html = rendered(content)
    shown = Page(html)
    assert "<script" not in html
    for section in (
        "header",
        "choice",
        "scores",
        "path",
        "ties",
        "synergy",
        "task-map",
        "calibration",
        "truth",
        "metrics",
        "differences",
        "confusion",
        "data",
    ):
        assert hostile in shown.text(section), section
    assert shown.text("made").count(hostile) == 4
