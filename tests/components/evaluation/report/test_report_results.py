"""What the choice bought: estimates beside the truth, metrics, differences, answers, and the data."""

import re

from report_page import Page, page
from report_variants import rendered, usual, without_gain, written


def test_estimates_stand_beside_the_truth_with_their_ranks() -> None:
    shown = page()
    assert shown.row("truth", "All sources") == ["0.42152nd lowest", "0.28702nd lowest"]
    assert "not calibrated" in shown.text("truth")
    assert "Rank correlation (Spearman) over these 4 models: 0.80" in shown.text("truth")
    chart = rendered(usual()).partition('class="scatter"')[2].partition("</svg>")[0]
    assert re.findall(r'class="dot (\w+)"', chart) == ["strong", "weak", "weak", "weak"]


def test_calibrated_estimates_are_drawn_with_the_line_of_equality() -> None:
    content = usual()
    content["selection"]["calibrated"] = True
    shown = page(content)
    assert "not calibrated" not in shown.text("truth")
    assert [attributes for _, attributes in shown.tags if attributes.get("class") == "equal"]


def test_metrics_are_those_of_every_model_and_run() -> None:
    shown = page()
    chosen = ["91.3%90.0 to 92.8%", "91.1%89.6 to 92.7%", "0.27200.2410 to 0.3030", "0.2620± 0.0053"]
    assert shown.row("metrics", "Chosen sources") == chosen
    assert shown.row("metrics", "Base model")[:2] == ["50.7%47.6 to 53.8%", "off this axis"]
    runs = [row for row in shown.rows["metrics"] if len(row) == 7][1:]
    assert len(runs) == 4 * 3
    assert [cell.strip() for cell in runs[0]][2:] == ["0", "90.8%", "90.5%", "0.2670", "0.2580"]


def test_report_says_what_the_models_start_from_and_have_seen() -> None:
    content = usual()
    from_base = rendered(content)
    assert "Each model is the base model fine-tuned" in from_base
    assert "Base model, not fine-tuned" in from_base
    assert "Meta-trained model" not in from_base
    assert "Meta-training has seen" not in from_base
    content["evaluation"]["start"] = "meta"
    from_meta = rendered(content)
    sources = len(content["selection"]["auxiliary_tasks"])
    seen = f"Meta-training has seen the train rows of all {sources} sources and of the target before any"
    assert f"{seen} fine-tuning, so Target only has seen them too" in from_meta
    for words in ("Each model is the meta-trained model", "Meta-trained model, not fine-tuned"):
        assert words in from_meta
    assert "after fine-tuning the meta-trained model on the subset" in from_meta


def test_differences_claim_only_what_the_interval_allows() -> None:
    shown = page(without_gain())
    assert shown.row("differences", "All sources") == [
        "-0.3-1.6 to +0.9no clear difference",
        "+0.0048-0.0105 to +0.0201no clear difference",
    ]
    assert shown.row("differences", "Target only")[1] == "-0.0510-0.0720 to -0.0300better"
    content = without_gain()
    content["evaluation"]["difference_to"][0]["test"]["loss"] = {"mean": 0, "low": 0, "high": 0}
    assert [cell[-14:] for cell in page(content).row("differences", "All sources")] == ["the same model"] * 2


def test_metrics_of_written_answers_stand_under_their_names() -> None:
    shown = page(written())
    title = "Choosing 4 of 11 sources helped sst2: 91.3% test ROUGE-L, against 89.5% with all of them."
    assert title in shown.text("header")
    assert "ROUGE-L with the chosen sources91.3%" in shown.text("key-numbers")
    assert "of a written answer, the mean over its tokens" in shown.text("key-numbers")
    heads = [cell for row in shown.rows["metrics"] for cell in row if row[0] == "Model"]
    metrics = ["ROUGE-L", "Exact match", "Token accuracy", "Test loss, nats", "Validation loss, nats"]
    assert [head for head in heads[:7] if head in metrics] == metrics
    share = "91.1%89.6 to 92.7%"
    row = ["91.3%90.0 to 92.8%", share, share, "0.27200.2410 to 0.3030", "0.2620± 0.0053"]
    assert shown.row("metrics", "Chosen sources") == row
    assert "ROUGE-L in percentage points, more is better" in shown.text("differences")
    everything = "".join(shown.texts.values())
    assert "Macro F1" not in everything
    assert "two equally likely labels" not in everything


def test_samples_show_what_was_asked_expected_and_written() -> None:
    shown = page(written())
    assert "confusion" not in shown.rows
    assert shown.row("samples", "gsm_1") == ["1 + 1? Think.", "2 or two", "It is 2"]
    assert shown.row("samples", "gsm_7") == ["2 + 2?", "4", "nothing"]
    assert [row[0] for row in shown.rows["samples"][1:]] == [
        "gsm_1✓ right",
        "gsm_7\N{MULTIPLICATION SIGN} wrong",
    ]
    assert "1 + 1?\nThink." in shown.texts["samples"]
    assert "samples" not in page().rows


def test_texts_of_samples_are_shown_as_texts() -> None:
    hostile = "<script>alert(1)</script>"
    content = written()
    content["evaluation"]["samples"][0] |= {"id": hostile, "prompt": hostile, "expected": [hostile]}
    content["evaluation"]["samples"][0]["written"] = hostile
    html = rendered(content)
    assert "<script" not in html
    assert Page(html).text("samples").count(hostile) == 4


def test_confusion_matrix_shows_counts_and_shares_of_the_true_label() -> None:
    content = usual()
    content["evaluation"]["confusion"] = {
        "labels": ["a", "b", "c"],
        "matrix": [[3, 1, 0], [0, 0, 0], [0, 0, 1500]],
    }
    shown = page(content)
    assert shown.row("confusion", "a") == ["375%", "125%", "00%"]
    assert shown.row("confusion", "b") == ["00%", "00%", "00%"]
    assert shown.row("confusion", "c") == ["00%", "00%", "1,500100%"]


def test_data_table_puts_the_target_first_and_tolerates_missing_numbers() -> None:
    content = usual()
    content["statistics"].insert(0, {"task": "unknown"})
    shown = page(content)
    assert shown.rows["data"][1][0].strip() == "sst2"
    assert shown.row("data", "sst2")[:9] == ["target", "200", "481", "1,000", "2", "18", "38", "7", "3"]
    assert shown.row("data", "unknown") == ["-"] * 10


def test_data_table_counts_long_prompts_and_completions_of_a_language_model() -> None:
    content = usual()
    content["statistics"][0] |= {
        "removed": {"train": {"too_long": 4}, "val": {"too_long": 1}},
        "cut": {"train": 30, "val": 2},
    }
    shown = page(content)
    assert shown.rows["data"][0][-3:] == ["Too long, removed", "Prompts cut", "Licence"]
    assert shown.row("data", content["statistics"][0]["task"])[-3:-1] == ["5", "32"]
    assert shown.row("data", content["statistics"][1]["task"])[-3:-1] == ["0", "-"]
    assert "Prompts cut" not in page().text("data")


def test_data_table_has_a_line_for_groups_and_one_for_times() -> None:
    content = usual()
    assert len(page(content).rows["data"]) == 1 + len(content["statistics"])
    content["statistics"][0] |= {
        "groups": {"largest": {"male|white": 1163, "<b>": 2}, "others": 7},
        "times": {"first": "2011", "last": "2018-12-29"},
    }
    content["statistics"][1] |= {"times": {"first": "2017", "last": "2017"}}
    rows = page(content).rows["data"]
    assert ["Of 2017"] in rows
    assert ["Groups: male|white 1,163, <b> 2, others 7"] in rows
    assert ["From 2011 to 2018-12-29"] in rows
