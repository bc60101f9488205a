"""How the search came to its choice: scores, steps, ties, synergy, task map, health, and the estimator."""

import re

from report_page import page
from report_variants import CONTENT, TASKS, explained, explained_sixty_tasks, usual


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
    assert "To this model its labels look random" in text
    assert "what it says of the others has a correlation of 0.01 (± 0.05) with their labels" in text
    assert "what the model says of its rows by the names has a correlation of -0.31 (± 0.04)" in text
    assert "It pulls against the other tasks, sst2 most of all." in text
    assert shown.row("health", "mr_flipped") == ["150", "1.62", "0.80", "-0.31 ± 0.04", "0.42 ± 0.05", "sst2"]
    clean = explained()
    for row in clean["selection"]["health"]:
        row["findings"] = []
    assert f"None of the {len(TASKS)} sources" in page(clean).text("health")


def test_a_mixture_shows_its_members_with_their_weights_and_no_ridge() -> None:
    content = usual()
    content["selection"] |= {"estimator": "simulated", "members": {"rate x0.25": 0.75, "ridge 3": 0.25}}
    shown = page(content)
    assert shown.row("estimator", "Simulated run, 0.25 times the matched length") == ["0.75"]
    assert shown.row("estimator", "Ridge regression, c = 3") == ["0.25"]
    assert len(shown.rows["estimator"]) == 3


def test_a_ridge_estimator_shows_its_ridge() -> None:
    assert page(usual()).row("estimator", "Ridge") == ["0.1"]


def test_methods_run_from_the_lowest_estimated_loss_with_their_subsets() -> None:
    shown = page()
    losses = [float(row[1].split("±")[0]) for row in shown.rows["methods"][1:]]
    assert losses == sorted(losses)
    assert len(losses) == len(CONTENT["selection"]["methods"])
    assert shown.row("methods", "Forward stepwise used") == ["0.3609± 0.0061", "4", "mr, subj, mnli, dbpedia"]
    assert shown.row("methods", "All sources")[1:] == ["11", "all 11 sources"]
    assert shown.row("methods", "Target only")[1:] == ["0", "none, the target's own rows alone"]
