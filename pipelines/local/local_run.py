"""A run on this machine: begun or continued, followed in a live table, and summed up at its end."""

import json
import os
import re
import secrets
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, read_file, work_folder
from gradsift.components.shared.documents.json_document import load_json_object
from gradsift.components.shared.errors import GradsiftError, InputError, RunFailedError
from gradsift.components.shared.records.evaluation_results import Evaluation
from gradsift.components.shared.storage.addresses import is_remote
from gradsift.components.shared.storage.bounded_reading import read_local_file
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import FOLDER
from gradsift.components.shared.tracking.run_record import step_events
from gradsift.components.shared.tracking.tracking import (
    BackgroundSync,
    record_pipeline_end,
    record_pipeline_start,
)
from gradsift.pipelines.live_table import (
    StepState,
    found_nothing_new,
    read_states,
    render,
    summary_lines,
)
from gradsift.pipelines.local import local_runner

REPORT = "report.html"
RUN = "run.json"
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
MAX_RUN_BYTES = 2**20
LOCAL_REFRESH_SECONDS = 0.25
REMOTE_REFRESH_SECONDS = 5.0


def run_pipeline(parameters: dict[str, Any], console: Console) -> None:
    """Run the pipeline with these parameters, or continue the interrupted run of the same ones.

    Raises:
        InputError: another run works in the same folder, or a step found its input wrong.
        RunFailedError: a step failed for another reason.
    """
    root = parameters["output_uri"]
    home = work_folder(root, "run") if is_remote(root) else Path(root)
    with local_runner.lock(home):
        run_id = _run_id(home, parameters)
        os.environ["KFP_RUN_ID"] = run_id
        log = home / "logs" / f"{run_id}.log"
        console.print(f"Run {run_id} in {root} (log: {log})", markup=False, highlight=False, soft_wrap=True)
        record_pipeline_start(root, parameters)
        process = local_runner.start(home / "kfp", run_id, parameters, log)
        try:
            states = _follow(process, root, run_id, console)
        except KeyboardInterrupt:
            console.print("\nStopped: the same command continues where it was.")
            raise
        finally:
            _stop(process)
        try:
            _check(states, process.returncode, log)
        except GradsiftError as error:
            record_pipeline_end(root, "failed", str(error))
            raise
        record_pipeline_end(root, "finished")
        _write_run(home, run_id, parameters, finished=True)
        if found_nothing_new(states):
            model = parameters["promote_model_name"]
            console.print(f"\nNothing new: data and settings are those of a judged version of {model}.")
        else:
            _sum_up(states, home, console)


def newest_report(root: str) -> bytes:
    """Return the report of the newest finished run under a run root.

    Raises:
        InputError: no run has finished there.
    """
    keys = open_storage(root).keys(f"{FOLDER}/")
    for run in sorted({key.split("/")[1] for key in keys if key.endswith("/evaluation.jsonl")}, reverse=True):
        output = read_states(step_events(root, run))["evaluation"].outputs.get(REPORT)
        if output is not None:
            return read_file(_step_output(output), REPORT)
    raise InputError(f"There is no finished run in {root}: expected the output of `gradsift run`.")


def _run_id(home: Path, parameters: dict[str, Any]) -> str:
    """Return the id of the interrupted run with the same parameters, else a new one."""
    path = home / RUN
    if path.exists():
        known = load_json_object(read_local_file(path, MAX_RUN_BYTES), str(path))
        if not {"run_id", "finished", "parameters"} <= known.keys() or not RUN_ID.fullmatch(
            str(known["run_id"])
        ):
            raise InputError(
                f"{path} does not describe a run: expected it as `gradsift run` wrote it, or no such file."
            )
        if known["parameters"] == parameters and not known["finished"]:
            return str(known["run_id"])
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    _write_run(home, run_id, parameters, finished=False)
    return run_id


def _write_run(home: Path, run_id: str, parameters: dict[str, Any], finished: bool) -> None:
    content = {"run_id": run_id, "finished": finished, "parameters": parameters}
    with atomic_file(home / RUN) as path:
        path.write_text(json.dumps(content, indent=1))


def _follow(
    process: "subprocess.Popen[bytes]", root: str, run_id: str, console: Console
) -> dict[str, StepState]:
    """Show the table, and send MLflow what steps record, until the process has ended; return the last states."""
    began = time.time()
    wait = REMOTE_REFRESH_SECONDS if is_remote(root) else LOCAL_REFRESH_SECONDS
    shown: set[str] = set()
    with (
        closing(BackgroundSync(root, run_id)) as sync,
        Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live,
    ):
        while True:
            ended = process.poll() is not None
            states = read_states(step_events(root, run_id), since=began)
            if console.is_terminal:
                live.update(render(states, began), refresh=True)
            else:
                for line in summary_lines(states):
                    if line not in shown:
                        shown.add(line)
                        console.print(line, highlight=False, soft_wrap=True)
            if ended:
                return states
            if sync.is_due():
                sync.start()
            time.sleep(wait)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _check(states: dict[str, StepState], returncode: int, log: Path) -> None:
    for step, state in states.items():
        if state.status == "failed":
            if state.input_error:
                raise InputError(state.error)
            raise RunFailedError(f"Step {step} failed: {state.error} (log: {log})")
    unfinished = [step for step, state in states.items() if state.status not in {"finished", "reused"}]
    if returncode or unfinished:
        where = f"in step {unfinished[0]}" if unfinished else "after the last step"
        raise RunFailedError(f"The pipeline ended {where} with exit code {returncode}; its log is {log}.")


def _sum_up(states: dict[str, StepState], home: Path, console: Console) -> None:
    outputs = states["evaluation"].outputs
    evaluation = Evaluation.read(fetch(_step_output(outputs[REPORT]), [Evaluation.FILE]))
    with atomic_file(home / REPORT) as path:
        path.write_bytes(read_file(_step_output(outputs[REPORT]), REPORT))
    selected = ", ".join(evaluation.chosen.subset) or "no auxiliary task"
    console.print(f"\n[bold]Selected for {evaluation.target}:[/] {selected}", highlight=False)
    for sentence in (evaluation.verdict.text, *evaluation.cautions):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    model = states["target_finetuning"].outputs["model"]["uri"]
    places = f"Report: {home / REPORT}\nModel:  {model}"
    console.print(places, markup=False, highlight=False, soft_wrap=True)


def _step_output(pointer: dict[str, str]) -> StepOutput:
    return StepOutput(pointer["uri"], pointer["digest"], {}, reused=True)
