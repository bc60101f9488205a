"""Runs what the README tells newcomers to run, as it stands there."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from doubles.kfp_api_double import KfpApi
from doubles.kfp_api_server import serve

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
QUICK = [
    "--set=model_max_length=64",
    "fine_tune_steps=2",
    "meta_epochs=0.2",
    "evaluate_seeds=1",
    "extract_dimension=64",
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `.venv`, as after `make`, and the suite of the README's example with demo rows in it."""
    place = tmp_path_factory.mktemp("workplace")
    (place / ".venv").symlink_to(sys.prefix)
    suite = place / "support"
    suite.mkdir()
    manifest = next(block for block in blocks("json") if '"suite"' in block)
    (suite / "manifest.json").write_text(manifest)
    demo = ROOT / "components" / "shared" / "data" / "suites" / "demo_suite"
    for task in json.loads(manifest)["tasks"]:
        source = "sst2" if task["name"] == "complaints" else "mr"
        for split, entry in task["splits"].items():
            lines = subprocess.check_output(["gzip", "-dc", demo / f"{source}.{split}.jsonl.gz"]).splitlines()
            (suite / entry["file"]).write_bytes(b"\n".join(lines[:40]) + b"\n")
    return place


def run(command: str, place: Path, *more: str, timeout: float = 1500) -> str:
    environment = {**os.environ, "GRADSIFT_MLFLOW": "on"}
    done = subprocess.run(
        [*command.split(), *more], cwd=place, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command_with(words: str) -> str:
    return next(command for command in COMMANDS if words in command)


def make_workplace(folder: Path) -> None:
    """Lay what `make` needs into a folder, whose environment is this one, set up already."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "requirements.lock", "demo-lm.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "pipelines").mkdir()
    shutil.copy(ROOT / "pipelines" / "demo_lm.yaml", folder / "pipelines")
    (folder / ".venv").symlink_to(sys.prefix)
    for name in (".installed", ".installed-lm"):
        (Path(sys.prefix) / name).touch()


def test_every_command_is_run_here() -> None:
    known = [
        "make run",
        "make run-lm",
        "make test",
        "gradsift run --suite",
        "gradsift run --output calibrated-run",
        "gradsift run --example groups",
        "gradsift run --example periods",
        "gradsift plan",
        "gradsift fidelity",
        "gradsift report",
        "gradsift parameters",
        "gradsift parameters --yaml",
        "gradsift compile",
        "gradsift submit --parameters",
    ]
    known += ["mlflow ui", "mlflow-sync", "gradsift submit --experiment"]
    known += [f"gradsift schedule {verb}" for verb in ("diff", "apply", "list", "delete")]
    assert all(any(words in command for words in known) for command in COMMANDS)
    assert len(COMMANDS) == len(known)


def test_linked_files_exist() -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_ci_runs_every_test_that_it_is_meant_to_to_its_end() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert all(
        f"make {target}\n" in script
        for target in ("lint", "test", "test-slow", "test-pages", "test-containers")
    )
    assert "timeout" not in script


@pytest.mark.slow
def test_own_data_then_report_parameters_and_mlflow(workplace: Path) -> None:
    # A fifth of an epoch of 80 rows is one step, whose learning rate is 0.
    quick = [f"--set={setting.replace('epochs=0.2', 'epochs=1')}" for setting in QUICK[1:]]
    printed = run(command_with("gradsift run --suite"), workplace, *quick)
    assert "Selected for complaints:" in printed
    assert "meta-training" in run(command_with("gradsift plan"), workplace)
    run(command_with("gradsift report"), workplace)
    assert "complaints" in (workplace / "complaints.html").read_text()
    assert "model_max_length = 0" in run(".venv/bin/gradsift parameters", workplace)
    shutil.copytree(workplace / "complaints-run", workplace / "gradsift-run")
    assert "Sent" in run(command_with("mlflow-sync"), workplace)
    _mlflow_ui_answers(workplace)


@pytest.mark.slow
def test_the_steps_from_python(workplace: Path) -> None:
    example = next(block for block in blocks("python") if "estimate_subsets" in block)
    (workplace / "steps.py").write_text(example.replace("epochs=2", "steps=2"))
    printed = run(f"{sys.executable} steps.py", workplace)
    assert re.search(r"^\[('reviews')?\] \d+\.\d+$", printed, re.MULTILINE)


def _mlflow_ui_answers(workplace: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*command_with("mlflow ui").split(), "--port", str(port)]
    server = subprocess.Popen(command, cwd=workplace, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read() == b"OK"
                return
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "MLflow's page does not come up"
                time.sleep(0.5)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.fixture
def kubeflow() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """An HTTP server that answers as Kubeflow's API does to the calls of the README's example."""
    requests: list[tuple[str, str, Any]] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(("GET", self.path.split("?")[0], None))
            if "/experiments" in self.path:
                self._answer(200, {"experiments": []})
            else:
                self._answer(200, {"multi_user": False})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(("POST", self.path.split("?")[0], body))
            ids = {"experiment_id": "e1", "run_id": "r1", "recurring_run_id": "s1"}
            self._answer(200, {**body, **ids})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()


def test_compile_then_the_kubeflow_example(
    workplace: Path, kubeflow: tuple[str, list[tuple[str, str, Any]]]
) -> None:
    host, requests = kubeflow
    run(command_with("gradsift compile"), workplace)
    example = next(block for block in blocks("python") if "import kfp" in block)
    (workplace / "example.py").write_text(example.replace("http://localhost:8888", host))
    run(f"{sys.executable} example.py", workplace)
    [started] = [body for method, path, body in requests if (method, path) == ("POST", "/apis/v2beta1/runs")]
    [schedule] = [body for method, path, body in requests if path == "/apis/v2beta1/recurringruns"]
    for body in (started, schedule):
        assert body["runtime_config"]["parameters"]["target"] == "sst2"
        assert body["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "gradsift"
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"


def test_parameters_from_a_file(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = KfpApi()
    command, _, file = command_with("gradsift parameters --yaml").partition(" > ")
    (workplace / file).write_text(run(command, workplace))
    with serve(api) as host:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
        assert host in run(command_with("gradsift submit --parameters"), workplace)


@pytest.fixture
def run_here(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Return what runs a command in this process, without another import of kfp, and returns what it printed."""
    from gradsift.pipelines.cli.command_line import main

    def run_command(command: str) -> str:
        program, *arguments = command.split()
        assert program == ".venv/bin/gradsift"
        monkeypatch.chdir(workplace)
        monkeypatch.setattr(sys, "argv", ["gradsift", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capfd.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    return run_command


def test_submit_and_schedules(
    workplace: Path, run_here: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = KfpApi()
    (workplace / "schedules.yaml").write_text(next(block for block in blocks("yaml") if "cron:" in block))
    with serve(api) as host:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", host)
        started = run_here(command_with("gradsift submit --experiment").removesuffix(" --wait"))
        assert host in started
        assert "nightly" in run_here(command_with("schedule diff"))
        run_here(command_with("schedule apply"))
        assert "nightly" in run_here(command_with("schedule list"))
        run_here(command_with("schedule delete"))
        assert "nightly" not in run_here(command_with("schedule list"))


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_calibrated_run_reports_its_errors(workplace: Path) -> None:
    quick = [f"--set={setting}" for setting in QUICK[1:]]
    command = command_with("gradsift run --output calibrated-run")
    printed = run(command.replace("calibrate_runs=10", "calibrate_runs=5"), workplace, *quick)
    assert "Selected for sst2:" in printed
    [selection_file] = (workplace / "calibrated-run").glob("subset_estimation/*/selection.json")
    calibration = json.loads(selection_file.read_text())["calibration"]
    assert len(calibration["runs"]) == 9, "none, all, five at random, and two that promise most"
    assert "Spearman" in (workplace / "calibrated-run" / "report.html").read_text()


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_fidelity_study_prints_its_table(workplace: Path) -> None:
    quick = [*(f"--set={setting}" for setting in QUICK[1:4]), "--subsets", "8", "--seeds", "1"]
    printed = run(command_with("gradsift fidelity"), workplace, *quick)
    assert "gauss newton" in printed
    assert list((workplace / "sst2-fidelity").glob("*.svg"))


@pytest.mark.exhaustive
@pytest.mark.timeout(2400)
def test_make_run_avoids_the_harmful_sources_and_ranks_the_trained_subsets(tmp_path: Path) -> None:
    make_workplace(tmp_path)
    environment = {**os.environ, "GRADSIFT_MLFLOW": "on"}
    done = subprocess.run(
        command_with("make run").split(),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [selection_file] = (tmp_path / "gradsift-run").glob("subset_estimation/*/selection.json")
    selection = json.loads(selection_file.read_text())
    assert not {"mr_flipped", "mr_shuffled"} & set(selection["selected"])
    scores = {each["task"]: each["score"] for each in selection["task_scores"]}
    assert sorted(scores, key=lambda task: scores[task])[:2] == ["mr_flipped", "mr_shuffled"]
    [evaluation_file] = (tmp_path / "gradsift-run").glob("evaluation/*/evaluation.json")
    models = {each["name"]: each for each in json.loads(evaluation_file.read_text())["models"]}
    assert models["selected"]["true_val_loss"] < models["all"]["true_val_loss"]
    assert models["selected"]["test"]["accuracy"]["mean"] > models["all"]["test"]["accuracy"]["mean"] + 0.05


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_the_example_of_groups_differs_less_with_the_limit_than_without(workplace: Path) -> None:
    run(command_with("--example groups"), workplace)
    [file] = (workplace / "gradsift-run-groups").glob("evaluation/*/fairness.json")
    covariance = {
        each["name"]: each["test"]["covariance"]["mean"] for each in json.loads(file.read_text())["models"]
    }
    assert 0 < covariance["selected"] < covariance["unconstrained"]


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_the_example_of_periods_learns_from_the_years_whose_labels_are_right(workplace: Path) -> None:
    run(command_with("--example periods"), workplace)
    root = workplace / "gradsift-run-periods"
    [schedule_file] = root.glob("meta_training/*/schedule.json")
    shares = json.loads(schedule_file.read_text())["rounds"][-1]["shares"]
    right = [f"reviews.{year}" for year in (2017, 2018, 2019)]
    swapped = [f"reviews.{year}" for year in (2020, 2021, 2022, 2023)]
    assert min(shares[year] for year in right) > max(shares[year] for year in swapped)
    [choice] = root.glob("choices/*/selection.json")
    assert not set(json.loads(choice.read_text())["selected"]) & set(swapped)


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
def test_make_run_lm_leaves_out_the_shuffled_source(tmp_path: Path) -> None:
    make_workplace(tmp_path)
    assert "Selected for adjective:" in run(command_with("make run-lm"), tmp_path, timeout=7000)
    [selection_file] = (tmp_path / "gradsift-run-lm").glob("subset_estimation/*/selection.json")
    assert "concept_shuffled" not in json.loads(selection_file.read_text())["selected"]
    [evaluation_file] = (tmp_path / "gradsift-run-lm").glob("evaluation/*/evaluation.json")
    models = {each["name"]: each for each in json.loads(evaluation_file.read_text())["models"]}
    assert models["selected"]["true_val_loss"] < models["all"]["true_val_loss"]
