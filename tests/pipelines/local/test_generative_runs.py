"""Whole runs of language models that write answers: from a suite's files to the report, by the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from planned_run import assert_as_planned, plan_of
from safetensors import safe_open
from tiny_language_models import make_base, write_suite

from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.pipelines.live_table import STEPS

SMALL = {
    "model_max_length": 64,
    "meta_steps": 6,
    "meta_learning_rate": 0.003,
    "extract_dimension": 16,
    "extract_projection_width": 256,
    "estimate_random_subsets": 4,
    "fine_tune_steps": 6,
    "fine_tune_learning_rate": 0.003,
    "train_batch_size": 8,
    "train_precision": "float32",
    "extract_precision": "float32",
    "evaluate_seeds": 1,
    "evaluate_bootstrap": 50,
}


def run(root: Path, suite: Path, base: Path, lora_rank: int) -> str:
    """Run the pipeline as a user does, and return what it printed."""
    command = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "run", "--output", str(root)]
    command += ["--suite", str(suite), "--target", "next", "--base-model", str(base)]
    command += [f"--set={name}={value}" for name, value in {**SMALL, "model_lora_rank": lora_rank}.items()]
    environment = {**os.environ, "GRADSIFT_MLFLOW": "off"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_suite(tmp_path_factory.mktemp("counting"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "lora_rank"),
    [
        ("t5", 4),
        *(
            pytest.param(*each, marks=pytest.mark.exhaustive)
            for each in [("t5", 0), ("llama", 0), ("llama", 4)]
        ),
    ],
)
def test_a_language_model_is_chosen_for_trained_and_judged(
    architecture: str, lora_rank: int, suite: Path, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    base = make_base(tmp_path / "base", architecture)

    printed = run(root, suite, base, lora_rank)

    events = step_events(str(root), json.loads((root / "run.json").read_text())["run_id"])
    ends = {step: events[step][-1]["status"] for step in STEPS}
    assert ends == {**dict.fromkeys(STEPS, "finished"), "target_finetuning": "reused"}
    assert "Selected for next:" in printed
    report = (root / "report.html").read_text()
    [estimates] = root.glob("subset_estimation/*/selection.json")
    assert Selection.read(estimates.parent).auxiliary_tasks == ["before"]
    [judged] = root.glob("evaluation/*/evaluation.json")
    evaluation = Evaluation.read(judged.parent)
    assert evaluation.test_rows == 8
    assert {"selected", "all", "target_only"} <= {model.name for model in evaluation.models}
    assert all({"loss", "exact_match", "rouge_l"} <= model.test.keys() for model in evaluation.models)
    assert evaluation.samples
    assert "exact match" in report.lower()
    assert "what comes next" in report

    settings = {**SMALL, "suite": str(suite), "target": "next", "base_model": str(base)}
    assert_as_planned(root, plan_of({**settings, "model_lora_rank": lora_rank}, root))

    [weights] = root.glob("fine_tuned_models/*/*.safetensors")
    model = LanguageModel.load(weights.parent)
    assert model.settings.adapter == (lora_rank > 0)
    with safe_open(weights, "np") as file:
        assert all(("lora_" in name) == (lora_rank > 0) for name in file.keys())  # noqa: SIM118
