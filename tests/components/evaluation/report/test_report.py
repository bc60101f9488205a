import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from report_variants import (
    CONTENT,
    EXPLANATIONS,
    VARIANTS,
    bare,
    explained,
    explained_sixty_tasks,
    rendered,
    sixty_tasks,
    surgical,
    usual,
    with_kernel_report,
    without_gain,
    written,
)

EXPLAINED = {"ties", "synergy", "task-map", "surrogates", "calibration", "health"}
TASKS = CONTENT["selection"]["auxiliary_tasks"]
VOID = {"meta", "wbr"}
DRAWN = {"line", "rect", "circle", "path", "polygon"}
HYPHENS = str.maketrans("\N{MINUS SIGN}\N{EN DASH}", "--")


class Page(HTMLParser):
    """The report as its reader gets it: text and tables by section, tags with their attributes.

    Minus signs and dashes are read as hyphens. Fails on a tag that is not closed, or closed in a wrong place.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section = "header"
        self.texts: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["aria-labelledby"] or ""
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in {"td", "th"}:
            self.rows[self.section][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"style", "title"} & set(self.open):
            return
        data = data.translate(HYPHENS)
        self.texts[self.section] = self.texts.get(self.section, "") + data
        if {"td", "th"} & set(self.open):
            self.rows[self.section][-1][-1] += data

    def text(self, section: str) -> str:
        return " ".join(self.texts[section].split())

    def row(self, section: str, name: str) -> list[str]:
        """The cells of the first row that starts with `name`, without the drawings."""
        rows = ([" ".join(cell.split()) for cell in row] for row in self.rows[section])
        return [cell for cell in next(row for row in rows if row[0].startswith(name))[1:] if cell]


def page(content: dict[str, Any] | None = None) -> Page:
    return Page(rendered(content or usual()))


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


def test_headline_says_plainly_that_choosing_did_not_help() -> None:
    shown = page(without_gain())
    title = "Choosing 4 of 11 sources did not help sst2: 89.2% test accuracy, against 89.5% with all of them."
    assert f"No clear gain {title}" in shown.text("header")
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


def test_scores_run_from_best_to_worst_with_their_errors() -> None:
    shown = page()
    scores = [float(re.match(r"[+-]\d\.\d{4}", row[2])[0]) for row in shown.rows["scores"][1:]]
    assert scores == sorted((row["score"] for row in CONTENT["selection"]["task_scores"]), reverse=True)
    bars = [attributes["class"] for _, attributes in shown.tags if "bar" in (attributes.get("class") or "")]
    assert bars[:11] == ["bar solid"] * 4 + ["bar hollow"] * 7
    assert shown.row("scores", "mr ✓chosen") == ["+0.0612+0.0434 to +0.0790"]
    assert shown.row("scores", "mr_flipped") == ["-0.0731-0.0929 to -0.0533"]


def test_path_names_every_step() -> None:
    content = usual()
    path = content["selection"]["path"]
    path.append(path[-1] | {"action": "swap", "task": "trec", "removed": "mnli", "estimated_loss": 0.3555})
    path.append(path[-1] | {"action": "drop", "task": None, "removed": "subj", "estimated_loss": 0.3551})
    content["selection"]["selected"] = path[-1]["subset"]
    shown = page(content)
    assert shown.row("path", "Start: target only") == ["0.4388± 0.0061"]
    assert shown.row("path", "+ added mr") == ["0.3888± 0.0061"]
    assert shown.row("path", "⇄ trec for mnli") == ["0.3555± 0.0061"]
    assert shown.row("path", "- dropped subj chosen") == ["0.3551± 0.0061"]


def test_chosen_step_is_marked_though_the_search_went_on() -> None:
    shown = page(explained())
    assert shown.row("path", "+ added dbpedia chosen") == ["0.3609± 0.0061"]
    assert shown.row("path", "⇄ trec for mnli") == ["0.3598± 0.0061"]
    assert "went on after the step that was chosen" in shown.text("path")
    assert "went on" not in page().text("path")
    marks = [attributes["class"] for _, attributes in shown.tags if attributes.get("class") == "dot chosen"]
    assert len(marks) == 1


def test_path_that_left_the_chosen_subset_marks_no_step() -> None:
    content = usual()
    content["selection"]["selected"] = ["trec"]
    shown = page(content)
    assert "chosen" not in [
        cell.split()[-1] for row in shown.rows["path"] for cell in row[:1] if cell.split()
    ]


def test_shares_stand_beside_the_scores() -> None:
    shown = page(explained())
    assert shown.row("scores", "mr ✓chosen")[-1] == "100%"
    assert shown.row("scores", "trec")[-1] == "42%"
    assert "how often the search takes the source" in shown.text("scores")
    assert "how often" not in page().text("scores")


def test_share_that_is_not_known_is_a_dash() -> None:
    content = explained()
    content["selection"]["task_scores"][0]["share"] = None
    assert page(content).row("scores", "mr ✓chosen")[-1] == "-"


def test_ties_say_how_they_differ_from_the_choice() -> None:
    shown = page(explained())
    assert shown.row("ties", "Random ensemble") == [
        "with blimp_agreement without dbpedia",
        "4",
        "0.3640± 0.0061",
    ]
    assert shown.row("ties", "Step 3 of the search") == ["without dbpedia", "3", "0.3657± 0.0061"]


def test_synergy_lists_the_strongest_pairs_of_either_kind() -> None:
    text = page(explained()).text("synergy")
    together, less = text.partition("More together than apart")[2].split("Less together than apart")
    assert together.strip().startswith("mr and mr_flipped -0.0121")
    assert less.strip().startswith("mr and subj +0.0148")
    assert "best are shown" not in text
    assert "only the 30 best are shown" in page(explained_sixty_tasks()).text("synergy")


def test_task_map_lists_its_groups() -> None:
    text = page(explained()).text("task-map")
    assert "Group 1 3 sst2 target, mr ✓chosen, subj ✓chosen" in text
    assert "Group 4 3 mnli ✓chosen, blimp_agreement, blimp_npi" in text
    assert "and 21 more" in page(explained_sixty_tasks()).text("task-map")


def test_surrogates_are_shown_with_how_well_they_predict() -> None:
    content = explained()
    content["selection"]["surrogates"][1]["held_out_spearman"] = None
    shown = page(content)
    assert shown.row("surrogates", "Linear") == ["1,400", "0.87", "0.92"]
    assert shown.row("surrogates", "RBF kernel") == ["1,400", "0.97", "-"]


def test_health_names_what_looks_suspicious_first() -> None:
    shown = page(explained())
    text = shown.text("health")
    assert f"2 of {len(TASKS)} sources deserve a look" in text
    assert "mr_shuffled" in text
    assert "To this model its labels look random: held-out rows cost 104% of what" in text
    assert "before any training its labels cost 162% of what guessing costs" in text
    assert "It pulls against the other tasks, sst2 most of all." in text
    assert shown.row("health", "mr_flipped") == ["150", "1.62", "0.80", "sst2"]
    clean = explained()
    for row in clean["selection"]["health"]:
        row["findings"] = []
    assert f"None of the {len(TASKS)} sources" in page(clean).text("health")


def test_the_kernel_report_says_whether_fine_tuning_kept_to_first_order() -> None:
    shown = page(with_kernel_report())
    text = shown.text("first-order")
    assert "200 of the 481 validation rows" in text
    assert "Holds in directionR² 0.65, correlation 0.85" in text
    assert "the ranks of the estimates may be trusted, their values only once calibrated" in text
    assert (
        "By derivatives at the meta-trained weights, which the estimates use, the assumption holds in" in text
    )
    assert "The features did not stay fixed: the rows' kernels before and after have a cosine of 0.79" in text
    assert "the trace grew by a factor of 8.10" in text
    assert shown.row("first-order", "100.0%") == ["0.65", "0.51"]
    assert shown.row("first-order", "Base model, not fine-tuned") == ["0.6311", "64.5%"]
    assert shown.row("first-order", "Linear in the step, derivatives at the pretrained") == [
        "0.4859",
        "77.5%",
    ]
    assert shown.row("first-order", "Fine-tuned") == ["0.6313", "76.0%"]


def test_the_kernel_report_says_what_to_do_where_first_order_fails() -> None:
    content = with_kernel_report()
    content["kernel"]["tangents"] = [
        content["kernel"]["tangents"][0]
        | {"r2": [0.9, 0.4, 0.1, -0.5], "correlation": None, "slope": None, "verdict": "fails"}
    ]
    shown = page(content)
    text = shown.text("first-order")
    assert "FailsR² -0.50 " in text
    assert "shorten it, start it at the meta-trained weights, or rely on calibration runs" in text
    assert "Slope" not in text
    assert ("p", {"class": "remark bad"}) in shown.tags


def test_a_run_without_a_kernel_report_has_no_part_for_it() -> None:
    assert "first-order" not in page().rows
    assert "first-order" not in rendered(usual())


def test_layers_that_were_tried_stand_beside_all_of_them() -> None:
    shown = page(surgical())
    text = shown.text("layers")
    assert "The late layers alone are trained: validation loss 0.4012." in text
    assert "Training the late layers alone helped on the test rows. Against all layers, the accuracy" in text
    assert "changes by +3.0 points (+1.0 to +5.0), the loss by -0.0600 nats" in text
    assert shown.row("layers", "Late layers, rate 0.001") == [
        "5,300,000",
        "12.5 s",
        "0.4012± 0.0200",
        "-0.0500-0.0700 to -0.0300",
    ]
    assert shown.row("layers", "All layers, rate 0.0001") == ["10,600,000", "12.5 s", "0.4512± 0.0200"]
    assert shown.row("metrics", "Chosen sources, all layers")
    assert "layers" not in page().texts


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((-0.01, 0.01, 0.03), "did not clearly help on the test rows."),
        ((0.01, 0.02, 0.03), "did not help on the test rows: all layers are better there."),
    ],
)
def test_a_part_of_the_layers_that_does_not_pay_is_reported(ends: tuple[float, ...], words: str) -> None:
    content = surgical() | {"sweep": None}
    loss = dict(zip(("low", "mean", "high"), ends, strict=True))
    content["evaluation"]["all_layers"]["difference"]["test"]["loss"] = loss
    assert f"Training the late layers alone {words}" in page(content).text("layers")


def test_calibration_shows_its_errors_beside_that_of_the_mean() -> None:
    shown = page(explained())
    assert shown.row("calibration", "Rank correlation, Spearman") == ["0.92"]
    assert shown.row("calibration", "Rank correlation, Kendall") == ["0.81"]
    assert shown.row("calibration", "Error of the raw estimates") == ["43.5%"]
    assert shown.row("calibration", "Error once calibrated") == ["2.1%"]
    assert shown.row("calibration", "Error of predicting the mean") == ["7.5%"]
    assert shown.row("calibration", "Spread between seeds") == ["0.0061"]
    assert ("p", {"class": "remark good"}) in shown.tags
    runs = [row for row in shown.rows["calibration"] if len(row) == 6][1:]
    assert len(runs) == len(EXPLANATIONS["calibration"]["runs"])
    assert [cell.strip() for cell in runs[0]][1:] == ["0", "0.4388", "0.3065", "0.2995", "91.5%"]


def test_calibration_without_repeated_seeds_has_no_noise_band() -> None:
    content = explained()
    content["selection"]["calibration"] |= {"noise": None, "spearman": None, "kendall": None}
    shown = page(content)
    assert [tag for tag, _ in page(explained()).tags].count("polygon") == 1
    assert "polygon" not in [tag for tag, _ in shown.tags]
    assert "Spread between seeds" not in shown.text("calibration")
    assert shown.row("calibration", "Rank correlation, Kendall") == ["-"]


def test_the_report_says_how_well_the_estimates_rank_or_that_nothing_is_known() -> None:
    shown = page(explained()).text("truth")
    assert re.search(
        r"These estimates rank subsets at 0\.\d\d \(.* to .*\) over \d+ fine-tuned subsets\.", shown
    )
    assert "Nothing is known about how well these estimates rank" in page(bare()).text("truth")


def test_every_run_before_the_choice_is_drawn_beside_the_models() -> None:
    content = explained()
    runs, models = content["selection"]["calibration"]["runs"], content["evaluation"]["models"]
    drawn = rendered(content).split('aria-labelledby="models-chart-title')[1].split("</svg>")[0]
    assert drawn.count('class="dot') == len(runs) + len(models)
    assert drawn.count('class="noise"') == 1


def test_a_mixture_shows_its_members_with_their_weights_and_no_ridge() -> None:
    content = usual()
    content["selection"] |= {"estimator": "simulated", "members": {"rate x0.25": 0.75, "ridge 3": 0.25}}
    shown = page(content)
    assert shown.row("estimator", "Simulated run, 0.25 times the matched length") == ["0.75"]
    assert shown.row("estimator", "Ridge regression, c = 3") == ["0.25"]
    assert len(shown.rows["estimator"]) == 3


def test_a_ridge_estimator_shows_its_ridge() -> None:
    assert page(usual()).row("estimator", "Ridge") == ["0.1"]


def confirmed() -> dict[str, Any]:
    """With three subsets that were fine-tuned on, one of which may not be chosen."""
    content = usual()
    chosen = content["selection"]["selected"]
    run = {"estimated_loss": 0.35, "train_rows": 600, "permitted": True, "chosen": False}
    content["selection"]["confirmation"] = {
        "runs": [
            {**run, "subset": ["trec"], "permitted": False, "true_loss": 0.2, "excess": interval(-0.1)},
            {**run, "subset": chosen, "chosen": True, "true_loss": 0.3, "excess": interval(0.0)},
            {**run, "subset": [], "true_loss": 0.4, "excess": interval(0.1)},
        ],
        "cost": {
            "runs": 3,
            "optimizer_steps": 120,
            "rows": 3840,
            "tokens": 80_000,
            "padding": 20_000,
            "seconds": 60.0,
            "seconds_of_all": 6000.0,
        },
    }
    content["selection"] |= {"seconds": 10.0, "subsets_estimated": 300}
    content["seconds"] |= {"meta_training": 80.0, "gradient_extraction": 50.0}
    return content


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}


def test_a_confirmed_choice_stands_among_the_subsets_that_were_trained() -> None:
    shown = page(confirmed())
    assert shown.row("confirmation", "trec") == [
        "1",
        "600",
        "0.3500",
        "0.2000",
        "-0.1500",
        "-0.1000-0.1200 to -0.0800",
    ]
    assert "may not be chosen" in shown.text("confirmation")
    assert shown.row("confirmation", "none") == [
        "0",
        "600",
        "0.3500",
        "0.4000",
        "+0.0500",
        "+0.1000+0.0800 to +0.1200",
    ]
    assert "The estimate of the chosen one was off by -0.0500 nats." in shown.text("confirmation")
    assert "unconfirmed" not in shown.text("choice")


def test_what_choosing_cost_stands_beside_training_on_every_subset() -> None:
    content = confirmed()
    assert (
        "These 3 runs took 120 steps on 3,840 rows (80,000 tokens, 25.0% of them padding) and 1 min 00 s; "
        "meta-training, gradients and estimates took 2 min 20 s. Together this is 3.3% of the "
        "1 h 40 min that training on each of the 300 estimated subsets would take, within the "
        "5.0% that choosing should cost."
    ) in page(content).text("confirmation")
    content["selection"]["confirmation"]["cost"]["seconds_of_all"] = 3000.0
    assert "6.7% of the 50 min 00 s" in page(content).text("confirmation")
    assert "above the 5.0%" in page(content).text("confirmation")


def test_a_choice_by_estimates_alone_is_called_unconfirmed() -> None:
    shown = page()
    assert "The choice is unconfirmed: it rests on estimates alone" in shown.text("choice")
    assert "confirmation" not in shown.texts


def test_report_without_explanations_has_no_trace_of_them() -> None:
    shown = page()
    assert not EXPLAINED & set(shown.texts)
    assert set(page(explained()).texts) >= EXPLAINED
    assert "only the order is claimed" in shown.text("truth")


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


def test_methods_run_from_the_lowest_estimated_loss_with_their_subsets() -> None:
    shown = page()
    losses = [float(row[1].split("±")[0]) for row in shown.rows["methods"][1:]]
    assert losses == sorted(losses)
    assert len(losses) == len(CONTENT["selection"]["methods"])
    assert shown.row("methods", "Forward stepwise used") == ["0.3609± 0.0061", "4", "mr, subj, mnli, dbpedia"]
    assert shown.row("methods", "All sources")[1:] == ["11", "all 11 sources"]
    assert shown.row("methods", "Target only")[1:] == ["0", "none, the target's own rows alone"]


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
    rows = page(content).rows["data"]
    assert ["Groups: male|white 1,163, <b> 2, others 7"] in rows
    assert ["From 2011 to 2018-12-29"] in rows


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
