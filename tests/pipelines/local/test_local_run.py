"""`gradsift run` as a user calls it: a whole run on real text, run again, killed, and given wrong input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kfp import components, local
from local_command import SMALL, call, command
from planned_run import assert_as_planned, plan_of
from planted_code import code_that_ran, plant_code
from transformers import AutoTokenizer, BertConfig, BertModel

from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.shared.records.source_clusters import SourceClusters
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.pipelines.live_table import STEPS
from gradsift.pipelines.pipeline import gradsift_pipeline

COMMITTED = Path(__file__).parents[3] / "pipelines" / "pipeline.yaml"
PARTS = {"calibration-plan", "calibration-0", "finalists", "choice", "comparisons-plan", "comparisons-0"}
REUSED = {**dict.fromkeys(STEPS, "reused"), "preflight": "finished"}


def statuses(root: Path | str) -> dict[str, str]:
    home = Path(root) / "run.json"
    events = step_events(str(root), json.loads(home.read_text())["run_id"])
    return {step: events[step][-1]["status"] for step in STEPS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> tuple[Path, str]:
    """Run the whole pipeline once, with MLflow in its default place; return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    plant_code(folder)
    root = folder / "out"
    done = call(command(root, tiny_encoder), mlflow_on=True, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return root, done.stdout


def test_a_run_ends_with_the_choice_the_report_and_the_model(finished: tuple[Path, str]) -> None:
    root, printed = finished
    assert "Selected for sst2:" in printed
    assert f"Report: {root / 'report.html'}" in printed.replace("\n", "")
    report = (root / "report.html").read_text()
    assert report.lstrip().lower().startswith("<!doctype html>")
    [selection_file] = root.glob("subset_estimation/*/selection.json")
    [evaluation_file] = root.glob("evaluation/*/evaluation.json")
    selection = Selection.read(selection_file.parent)
    evaluation = Evaluation.read(evaluation_file.parent)
    assert set(selection.auxiliary_tasks) == {"mr", "trec", "mr_flipped"}
    assert {model.name for model in evaluation.models} == {"selected", "all", "target_only", "random"}
    assert evaluation.test_rows == 1000
    assert evaluation.verdict.text in printed.replace("\n", " ")
    [model] = root.glob("fine_tuned_models/*/model.safetensors")
    assert str(model.parent) in printed.replace("\n", "")
    assert statuses(root) == {**dict.fromkeys(STEPS, "finished"), "target_finetuning": "reused"}
    assert "choose" in printed
    [choice] = root.glob("choices/*/selection.json")
    chosen = Selection.read(choice.parent)
    assert chosen.confirmation is not None
    assert [run.subset for run in chosen.confirmation.runs if run.chosen] == [chosen.selected]
    assert len(chosen.confirmation.runs) == 6
    assert evaluation.model_of("selected").subset == chosen.selected  # type: ignore[union-attr]
    assert not list(root.glob("candidate_models/*/model.safetensors"))


def test_the_plan_counted_what_the_run_did(finished: tuple[Path, str], tiny_encoder: Path) -> None:
    root, _ = finished
    assert_as_planned(root, plan_of({**SMALL, "base_model": str(tiny_encoder)}, root))


def test_no_code_of_the_current_folder_runs(finished: tuple[Path, str]) -> None:
    assert code_that_ran(finished[0].parent) == []


def test_mlflow_holds_one_parent_and_one_child_a_step(finished: tuple[Path, str]) -> None:
    root, _ = finished
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    [experiment] = [e for e in client.search_experiments() if e.name == "gradsift"]
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["kfp.pipeline_run_id"] == json.loads((root / "run.json").read_text())["run_id"]
    assert parent.data.params["fine_tune_steps"] == "4"
    assert "test_accuracy" in parent.data.metrics
    children = {run.data.tags["gradsift.step"]: run for run in runs if run is not parent}
    assert set(children) == {*STEPS, *PARTS}
    assert all(child.data.tags["mlflow.parentRunId"] == parent.info.run_id for child in children.values())
    assert {each.dataset.name for each in children["meta_training"].inputs.dataset_inputs} == {
        "sst2",
        "mr",
        "trec",
        "mr_flipped",
    }
    artifacts = {file.path for file in client.list_artifacts(children["evaluation"].info.run_id)}
    assert {"report.html", "evaluation.json", "selection.json"} <= artifacts
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    [logged] = client.search_logged_models([experiment.experiment_id])
    answer = mlflow.pyfunc.load_model(logged.model_uri).predict(["a great film"])
    assert answer["label"][0] in {"negative", "positive"}


@pytest.mark.exhaustive
def test_a_second_run_reuses_every_step(finished: tuple[Path, str], tiny_encoder: Path) -> None:
    root, _ = finished
    first = json.loads((root / "run.json").read_text())["run_id"]
    done = call(command(root, tiny_encoder))
    assert done.returncode == 0, done.stderr
    assert statuses(root) == REUSED
    assert json.loads((root / "run.json").read_text())["run_id"] != first


@pytest.mark.slow
def test_a_changed_setting_repeats_only_what_depends_on_it(
    finished: tuple[Path, str], tiny_encoder: Path
) -> None:
    root, _ = finished
    done = call(command(root, tiny_encoder, evaluate_bootstrap=50))
    assert done.returncode == 0, done.stderr
    assert statuses(root) == {**REUSED, "evaluation": "finished"}


@pytest.mark.slow
def test_calibration_runs_choose_the_estimator(finished: tuple[Path, str], tiny_encoder: Path) -> None:
    root, _ = finished
    done = call(command(root, tiny_encoder, calibrate_runs=4, confirm_runs=0))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fine-tune first" in done.stdout
    [calibration] = [
        selection.calibration
        for selection in (Selection.read(path.parent) for path in root.glob("*/*/selection.json"))
        if selection.calibration and not selection.finalists
    ]
    subsets = [run.subset for run in calibration.runs]
    assert len({tuple(subset) for subset in subsets}) == len(subsets) == 6
    assert min(map(len, subsets)) == 0
    assert max(map(len, subsets)) == 3
    again = call(command(root, tiny_encoder, calibrate_runs=4, confirm_runs=0))
    assert again.stdout.count("reused") == len(STEPS) + 1


@pytest.mark.slow
def test_a_run_that_registers_its_model_ends_early_where_nothing_is_new(
    finished: tuple[Path, str], tiny_encoder: Path
) -> None:
    root, _ = finished
    first = call(command(root, tiny_encoder, promote_model_name="reviews"), mlflow_on=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "promote model" in first.stdout
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    assert set(client.get_registered_model("reviews").aliases) == {"candidate", "champion"}
    again = call(command(root, tiny_encoder, promote_model_name="reviews", evaluate_seed=0), mlflow_on=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing new: data and settings are those of a judged version of reviews." in again.stdout
    assert "meta-train" not in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("form", [pytest.param("source", marks=pytest.mark.exhaustive), "committed YAML"])
def test_source_and_committed_yaml_run_under_the_local_runner(
    form: str, finished: tuple[Path, str], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = finished
    monkeypatch.setenv("KFP_RUN_ID", form.replace(" ", "-"))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    pipeline = gradsift_pipeline if form == "source" else components.load_component_from_file(str(COMMITTED))
    # Another seed of the data and another cap: every step has its own work to do.
    arguments = {**SMALL, "prepare_seed": {"source": 1, "committed YAML": 2}[form]}
    arguments |= {"prepare_max_rows_per_task": 24, "evaluate_max_runs": 1}
    arguments |= {"output_uri": str(root), "base_model": str(tiny_encoder)}
    pipeline(**form_of(arguments))
    events = step_events(str(root), form.replace(" ", "-"))
    ends = {step: log[-1]["status"] for step, log in events.items()}
    assert ends == {**dict.fromkeys([*STEPS, *PARTS], "finished"), "target_finetuning": "reused"}
    [metrics] = tmp_path.rglob("evaluate/executor_output.json")
    artifacts = json.loads(metrics.read_text())["artifacts"]
    assert "confusionMatrix" in str(artifacts["confusion"])
    assert artifacts["metrics"]["artifacts"][0]["metadata"]["test_accuracy"] > 0
    [report] = tmp_path.rglob("evaluate/report")
    assert "<!doctype html>" in report.read_text().lower()
    [statistics] = tmp_path.rglob("prepare-data/statistics")
    assert r"mr\_flipped" in statistics.read_text()


@pytest.mark.exhaustive
def test_killed_at_any_moment_a_run_continues_with_the_first_unfinished_step(
    tmp_path: Path, tiny_encoder: Path, finished: tuple[Path, str]
) -> None:
    root = tmp_path / "out"
    moments = random.Random(0)
    environment = {**os.environ, "GRADSIFT_MLFLOW": "off"}
    for _ in range(4):
        process = subprocess.Popen(
            command(root, tiny_encoder),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(8, 30))
        process.send_signal(signal.SIGKILL)
        process.wait()
        _wait_until_nothing_runs(root)
    done = call(command(root, tiny_encoder))
    assert done.returncode == 0, done.stderr
    undisturbed = finished[0]
    for name in ("data_preparation", "gradient_extraction"):
        [manifest] = root.glob(f"{name}/*/manifest.json")
        assert manifest.read_bytes() == (undisturbed / manifest.relative_to(root)).read_bytes()


@pytest.mark.exhaustive
def test_a_run_with_its_root_in_s3(
    s3_root: str, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    root = f"{s3_root}/run"
    done = call(command(root, tiny_encoder))
    assert done.returncode == 0, done.stdout + done.stderr
    keys = open_storage(root).keys()
    for ending in ("report.html", "selection.json", "fine_tuned_models", "manifest.json", "evaluation.jsonl"):
        assert any(ending in key for key in keys), ending
    report = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "report", "--output", root]
    assert call([*report, "--to", str(tmp_path / "report.html")]).returncode == 0
    assert "sst2" in (tmp_path / "report.html").read_text()
    again = call(command(root, tiny_encoder))
    assert again.stdout.count("reused") == len(STEPS) + 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        pytest.param({"suite": "/does/not/exist"}, "/does/not/exist", marks=pytest.mark.slow),
        ({"extract_dimension": 0}, "extract_dimension"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    changes: dict[str, Any], sentence: str, tmp_path: Path, tiny_encoder: Path
) -> None:
    """What else preflight finds wrong is tested there."""
    done = call(command(tmp_path / "out", tiny_encoder, **changes))
    assert done.returncode == 2, done.stdout + done.stderr
    [error] = done.stderr.strip().splitlines()
    assert error.startswith("Error: ")
    assert sentence in error
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((tmp_path / "out").glob("*/*/manifest.json"))


def test_two_runs_in_one_folder_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    root = tmp_path / "out"
    first = subprocess.Popen(
        command(root, tiny_encoder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (root / "run.json").exists():
            time.sleep(0.1)
        second = call(command(root, tiny_encoder))
    finally:
        first.terminate()
        first.wait()
    assert second.returncode == 2
    assert "Another run works in" in second.stderr


def _wait_until_nothing_runs(root: Path) -> None:
    """A killed command's steps notice within seconds and stop."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        if not any(str(root).encode() in line for line in commands):
            return
        time.sleep(0.5)
    raise AssertionError("a step of the killed run still works")


@pytest.mark.slow
def test_a_run_may_cut_its_sources_and_choose_which_layers_it_trains(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    encoder, root = tmp_path / "encoder", tmp_path / "out"
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(encoder)
    BertModel(BertConfig.from_pretrained(tiny_encoder, num_hidden_layers=3)).save_pretrained(encoder)
    layers = {"fine_tune_scopes": ["early", "late"], "fine_tune_rates": [1e-4, 1e-3], "confirm_runs": 0}
    layers |= {"extract_cluster_sources": 2, "prepare_max_rows_per_task": 96, "calibrate_runs": 4}
    done = call(command(root, encoder, **layers))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "choose layers" in done.stdout
    [sweep_file] = root.glob("scope_sweeps/*/scope_sweep.json")
    sweep = ScopeSweep.read(sweep_file.parent)
    assert len(sweep.tried) == 4
    chosen = sweep.chosen
    [model] = root.glob("fine_tuned_models/*")
    training = json.loads((model / "training.json").read_text())
    assert (training["recipe"]["scope"], training["recipe"]["learning_rate"]) == (
        chosen.layers.scope,
        chosen.layers.learning_rate,
    )
    assert 3 * training["trained_parameters"] == training["parameters_of_all"]
    assert not list(root.glob("candidate_models/*/model.safetensors"))
    [evaluation_file] = root.glob("evaluation/*/evaluation.json")
    evaluation = Evaluation.read(evaluation_file.parent)
    assert evaluation.all_layers is not None
    assert evaluation.all_layers.scope == chosen.layers.scope
    report = (root / "report.html").read_text()
    assert "Which layers were trained, and why" in report
    assert sweep.reason in report
    _check_cut_sources(root, training["rows"])
    assert "What the sources were cut into" in report
    again = call(command(root, encoder, **layers))
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("reused") == len(STEPS) + 3
    assert again.stdout.count("choose layers") == again.stdout.count("cut sources") == 1


def _check_cut_sources(root: Path, trained_rows: dict[str, int]) -> None:
    """Clusters are the sources of the selection, the runs and the mixture, each with its own rows."""
    [record_file] = root.glob("source_clusters/*/source_clusters.json")
    record = SourceClusters.read(record_file.parent)
    rows = {cluster.task: cluster.rows for cut in record.cut for cluster in cut.clusters}
    assert all(sum(each.rows for each in cut.clusters) == cut.rows for cut in record.cut)
    [selection_file] = root.glob("subset_estimation/*/selection.json")
    selection = Selection.read(selection_file.parent)
    assert set(selection.auxiliary_tasks) == {*rows, *record.whole}
    assert "mr#00" in rows
    assert {task: trained_rows[task] for task in selection.selected if task in rows} == {
        task: rows[task] for task in selection.selected if task in rows
    }
    runs = [json.loads(path.read_text()) for path in root.glob("fine_tuning_runs/*/run.json")]
    assert any("mr#00" in run["subset"] for run in runs)
    for task in selection.selected:
        exported = (selection_file.parent / "mixture" / "data" / f"{task}.jsonl").read_text()
        assert len(exported.splitlines()) == rows.get(task, 96)
