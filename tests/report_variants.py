"""Contents of reports, from the usual one to the widest, and the pages that they give."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from gradsift.components.evaluation.report.report import ReportContent, render_report

FOLDER = Path(__file__).parent / "components" / "evaluation" / "report"
CONTENT = json.loads((FOLDER / "report_content.json").read_text(encoding="utf-8"))
TASKS = CONTENT["selection"]["auxiliary_tasks"]
EXPLANATIONS = json.loads((FOLDER / "report_explanations.json").read_text(encoding="utf-8"))


def usual() -> dict[str, Any]:
    return deepcopy(CONTENT)


def without_gain() -> dict[str, Any]:
    content = usual()
    chosen = content["evaluation"]["models"][0]
    chosen["test"]["accuracy"] = {"mean": 0.8919, "low": 0.8779, "high": 0.9059}
    content["evaluation"]["difference_to"][0]["test"] |= {
        "accuracy": {"mean": -0.0034, "low": -0.0161, "high": 0.0093},
        "loss": {"mean": 0.0048, "low": -0.0105, "high": 0.0201},
    }
    content["evaluation"]["verdict"] = {"helped": False, "text": "Nothing was gained by choosing."}
    return content


def bare() -> dict[str, Any]:
    """Nothing chosen by a method without a path, one seed, and every optional part missing."""
    content = without_gain() | {"statistics": [], "settings": {}, "versions": {}, "seconds": {}}
    content["selection"] |= {"selected": [], "path": [], "method": "best_of_m"}
    content["evaluation"] |= {"seeds": 1, "spearman": None, "base_model": None, "difference_to": []}
    for model in content["evaluation"]["models"]:
        model |= {"runs": model["runs"][:1], "true_val_loss_sd": 0.0}
    return content


def sixty_tasks() -> dict[str, Any]:
    content = usual()
    tasks = [f"task{number}_scan_structured_text_generation_command_action_short" for number in range(60)]
    chosen = tasks[:30]
    step, score = content["selection"]["path"][1], content["selection"]["task_scores"][0]
    content["selection"] |= {
        "auxiliary_tasks": tasks,
        "selected": chosen,
        "path": [step | {"task": task, "subset": tasks[: number + 1]} for number, task in enumerate(chosen)],
        "task_scores": [score | {"task": task, "selected": task in chosen} for task in tasks],
    }
    for holder in (*content["selection"]["methods"], *content["evaluation"]["models"]):
        holder["subset"] = chosen
    content["statistics"] = [entry | {"task": task} for task in tasks for entry in content["statistics"][:1]]
    return content


def explained() -> dict[str, Any]:
    """With every optional explanation, and a search that went on after the chosen step."""
    content, explanations = usual(), deepcopy(EXPLANATIONS)
    shares = explanations.pop("shares")
    selection = content["selection"]
    for score in selection["task_scores"]:
        score["share"] = shares[score["task"]]
    selection |= explanations | {"calibrated": True}
    subset = ["mr", "subj", "trec", "dbpedia"]
    selection["path"].append(
        selection["path"][-1]
        | {"action": "swap", "task": "trec", "removed": "mnli", "subset": subset, "estimated_loss": 0.3598}
    )
    return content


def explained_sixty_tasks() -> dict[str, Any]:
    content = sixty_tasks()
    tasks = content["selection"]["auxiliary_tasks"]
    values = [
        [0.001 * ((row + column) % 7 - 3) * (row != column) for column in range(30)] for row in range(30)
    ]
    content["selection"] |= {
        "synergy": {"tasks": tasks[:30], "values": values},
        "task_map": {
            "tasks": ["sst2", *tasks],
            "x": [number % 9 for number in range(61)],
            "y": [number % 7 for number in range(61)],
            "cluster": [number % 2 for number in range(61)],
        },
    }
    return content


def written() -> dict[str, Any]:
    """Of a target whose answers are texts: other metrics, samples in place of the confusion matrix."""

    def renamed(metrics: dict[str, Any]) -> dict[str, Any]:
        loss, first, second = metrics.values()
        return {"loss": loss, "rouge_l": first, "exact_match": second, "token_accuracy": second}

    content = usual()
    evaluation = content["evaluation"]
    for model in evaluation["models"]:
        model["test"] = renamed(model["test"])
        for run in model["runs"]:
            run["test"] = renamed(run["test"])
    for difference in evaluation["difference_to"]:
        difference["test"] = renamed(difference["test"])
    samples = [
        {
            "id": "gsm_1",
            "prompt": "1 + 1?\nThink.",
            "expected": ["2", "two"],
            "written": "It is 2",
            "right": True,
        },
        {"id": "gsm_7", "prompt": "2 + 2?", "expected": ["4"], "written": "", "right": False},
    ]
    base = renamed(evaluation["base_model"])
    evaluation |= {"labels": [], "confusion": None, "samples": samples, "base_model": base}
    return content


def with_kernel_report() -> dict[str, Any]:
    """Fine-tuned from the pretrained weights, on sst2 by the default recipe: derivatives at two points."""

    def tangent(point: str, r2: list[float], correlation: float, slope: float, loss: float) -> dict[str, Any]:
        return {
            "point": point,
            "r2": r2,
            "correlation": correlation,
            "slope": slope,
            "answered": {"loss": loss, "accuracy": 0.775},
            "verdict": "holds in direction",
        }

    kernel = {
        "rows": 200,
        "val_rows": 481,
        "relative_step": 0.00586,
        "start": {"loss": 0.6311, "accuracy": 0.645},
        "fine_tuned": {"loss": 0.6313, "accuracy": 0.76},
        "tangents": [
            tangent("base", [0.95, 0.85, 0.73, 0.65], 0.85, 1.83, 0.4859),
            tangent("meta", [0.79, 0.68, 0.58, 0.51], 0.82, 2.4, 0.4964),
        ],
        "features": {"cosine": 0.79, "change": 7.5, "growth": 8.1, "projection_cosine": 0.97},
        "regression": {
            "rows": 96,
            "train_rows": 96,
            "stored": False,
            "curve": [
                {"ridge": ridge, "loss": loss, "accuracy": accuracy}
                for ridge, loss, accuracy in (
                    (0.03, 0.9, 0.72),
                    (0.3, 0.61, 0.73),
                    (3.0, 0.5, 0.745),
                    (30.0, 0.56, 0.7),
                )
            ],
        },
        "sign_kernels": {
            "train_rows": 96,
            "target_rows": 96,
            "rows": 100,
            "start": {"loss": 0.64, "accuracy": 0.66},
            "fine_tuned": {"loss": 0.62, "accuracy": 0.77},
            "kernels": [
                {"kernel": kernel, "answered": {"ridge": 1.0, "loss": loss, "accuracy": 0.71}}
                for kernel, loss in (("sgd", 0.55), ("a_sign", 0.56), ("sign", 0.58))
            ],
        },
    }
    return usual() | {"kernel": kernel}


def surgical() -> dict[str, Any]:
    """Late layers were chosen, and are compared with all of them."""
    content = usual()
    tried = [
        ("late", 1e-3, 5_300_000, 0.4012, (-0.07, -0.05, -0.03)),
        ("all", 1e-4, 10_600_000, 0.4512, (0.0, 0.0, 0.0)),
        ("early", 1e-4, 3_500_000, 0.6012, (0.1, 0.15, 0.2)),
    ]
    runs = [
        {
            "layers": {"scope": scope, "learning_rate": rate},
            "trained_parameters": parameters,
            "seconds": 12.5,
            "val_loss": loss,
            "standard_error": 0.02,
            "difference": dict(zip(("low", "mean", "high"), gap, strict=True)),
            "chosen": scope == "late",
        }
        for scope, rate, parameters, loss, gap in tried
    ]
    reason = "The late layers alone are trained: validation loss 0.4012."
    content["sweep"] = {"tried": runs, "reference": runs[1]["layers"], "reason": reason}
    evaluation = content["evaluation"]
    difference = {"accuracy": (0.01, 0.03, 0.05), "loss": (-0.09, -0.06, -0.03)}
    evaluation["all_layers"] = {
        "scope": "late",
        "model": deepcopy(evaluation["models"][0]) | {"name": "all_layers"},
        "difference": deepcopy(evaluation["difference_to"][0]) | {"name": "all_layers"},
    }
    evaluation["all_layers"]["difference"]["test"] |= {
        name: dict(zip(("low", "mean", "high"), ends, strict=True)) for name, ends in difference.items()
    }
    return content


def sampled() -> dict[str, Any]:
    """A sampler chose sources of meta-training in two rounds, and left some out for their labels."""
    content = usual()
    target, *sources = [content["selection"]["target"], *content["selection"]["auxiliary_tasks"]]
    first, second, *others = sources
    adapted = {source: 0.5 + 0.4 * place for place, source in enumerate(sources)}
    rounds = [
        {
            "shares": dict.fromkeys([target, *sources], 0.0) | {target: 0.25, chosen: 0.75},
            "adapted": adapted,
            "dropped": [others[-1]],
            "stands_for": {target: [target], chosen: [first, second, *others[:-1]]},
        }
        for chosen in (first, second)
    ]
    content["schedule"] = {"sampler": "derts", "target": target, "rounds": rounds}
    return content


def grouped() -> dict[str, Any]:
    """Two groups of test rows are compared, and a limit kept their covariance small."""
    content = usual()

    def model(name: str, accuracy: float, gap: float, covariance: float) -> dict[str, Any]:
        means = {
            "accuracy": accuracy,
            "accuracy_group": accuracy - 0.02,
            "accuracy_others": accuracy + 0.02,
            "favoured_group": 0.3 + gap,
            "favoured_others": 0.3,
            "parity_gap": gap,
            "true_positive_gap": gap / 2,
            "covariance": covariance,
        }
        test = {name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01} for name, mean in means.items()}
        return {"name": name, "subset": ["mr"], "test": test, "labels_given": 2}

    cost = {"accuracy": -0.015, "parity_gap": -0.1, "covariance": -0.16}
    content["groups"] = {
        "group": "north",
        "positive": "granted",
        "limit": 0.05,
        "space": "margin",
        "start": "base",
        "group_rows": 612,
        "other_rows": 388,
        "rows_without_group": 7,
        "models": [model("selected", 0.81, 0.09, 0.06), model("unconstrained", 0.825, 0.19, 0.22)],
        "cost": {
            "name": "unconstrained",
            "test": {
                name: {"mean": mean, "low": mean - 0.01, "high": mean + 0.01} for name, mean in cost.items()
            },
        },
        "training": {
            "settings": {"group": "north", "positive": "granted"},
            "tasks": ["sst2", "mr"],
            "unlimited_tasks": ["trec"],
            "path": [{"step": step, "upper": 0.02 * step, "lower": 0.0} for step in range(41)],
        },
        "warnings": ["Only 7 test rows are of other groups."],
    }
    content["selection"]["gap_limit"] = 0.12
    for number, method in enumerate(content["selection"]["methods"]):
        method["estimated_gap"] = 0.05 * (number + 1)
    return content


def over_time() -> dict[str, Any]:
    """Meta-training drew past periods by how far they agree with now; an old one most of all."""
    content = usual()
    target, *sources = [content["selection"]["target"], *content["selection"]["auxiliary_tasks"]]
    past = dict(zip(sources[1:4], ["2007", "2006", "2005"], strict=True))
    cosines = {source: 0.1 + 0.2 * place for place, source in enumerate(sources[1:4])} | {sources[-1]: -0.3}
    shares = dict.fromkeys([target, *sources], 0.0) | {target: 0.2, sources[1]: 0.1, sources[3]: 0.7}
    rounds = [
        {"shares": shares, "cosines": {source: cosine + shift for source, cosine in cosines.items()}}
        for shift in (-0.05, 0.05)
    ]
    content["schedule"] = {
        "sampler": "l2s",
        "target": target,
        "rounds": rounds,
        "periods": past | {target: "2008"},
    }
    return content


def rendered(content: dict[str, Any]) -> str:
    return render_report(ReportContent(**content))


VARIANTS = [
    usual,
    without_gain,
    bare,
    sixty_tasks,
    explained,
    explained_sixty_tasks,
    written,
    with_kernel_report,
    surgical,
    sampled,
    grouped,
    over_time,
]
