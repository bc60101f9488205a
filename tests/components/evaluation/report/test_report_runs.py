"""What the runs before the choice showed: calibration, confirmation, layers, and whether first order held."""

import re
from typing import Any

import pytest
from report_page import page
from report_variants import EXPLANATIONS, bare, explained, rendered, surgical, usual, with_kernel_report


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


def test_the_kernel_report_shows_what_kernels_answer() -> None:
    shown = page(with_kernel_report())
    text = shown.text("first-order")
    assert "on 96 of the final model's 96 train rows" in text
    assert "Their gradients are computed for this report." in text
    assert shown.row("first-order", "Kernel alone, ridge 3.0") == ["0.5000", "74.5%"]
    assert shown.row("first-order", "30.0") == ["0.5600", "70.0%"]
    assert "answer 100 validation rows" in text
    assert shown.row("first-order", "Asymmetric kernel of SignGD, ridge 1.0") == ["0.5600", "71.0%"]
    assert shown.row("first-order", "Fine-tuned on the target alone") == ["0.6200", "77.0%"]


def test_without_labels_or_signs_the_kernel_report_has_no_regressions() -> None:
    content = with_kernel_report()
    content["kernel"] |= {"regression": None, "sign_kernels": None}
    text = page(content).text("first-order")
    assert "Kernel alone" not in text
    assert "SignGD" not in text
    content = with_kernel_report()
    for each in content["kernel"]["regression"]["curve"]:
        each["accuracy"] = None
    assert page(content).row("first-order", "Kernel alone, ridge 3.0") == ["0.5000", "-"]


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


def test_clusters_are_shown_by_their_typical_rows() -> None:
    content = usual()
    chosen = content["selection"]["selected"][0]
    row = {"id": "a", "text": "the <b>fish</b> of today", "answer": "fine"}
    clusters = [
        {"task": task, "rows": rows, "labels": labels, "typical": [row]}
        for task, rows, labels in ((chosen, 40, {"bad": 1, "fine": 39}), ("mixed#01", 20, {"bad": 20}))
    ]
    content["clusters"] = {
        "cut": [{"source": "mixed", "rows": 60, "clusters": clusters}],
        "whole": ["small"],
    }
    shown = page(content)
    text = shown.text("clusters")
    assert "1 of 2 sources was cut into clusters" in text
    assert "too few rows or all their rows are alike: small" in text
    assert "mixed: 60 rows in 2 clusters" in text
    typical = "the <b>fish</b> of today → fine"
    assert shown.row("clusters", f"{chosen}chosen") == ["40", "bad 1, fine 39", typical]
    assert shown.row("clusters", "mixed#01") == ["20", "bad 20", typical]
    assert "clusters" not in page().texts


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


def test_a_suspicious_source_has_the_true_losses_with_and_without_it_beside_its_findings() -> None:
    content = confirmed()
    content["selection"]["health"] = explained()["selection"]["health"]
    content["selection"]["confirmation"]["runs"][0]["subset"] = ["mr_flipped"]
    found = page(content).text("health")
    assert "the lowest true loss with it is 0.2000 (1 of 3 subsets), and 0.3000 without it." in found
    assert found.count("true loss with it") == 1, "no run has the other one"


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
