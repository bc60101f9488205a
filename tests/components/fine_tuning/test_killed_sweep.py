"""A sweep over layers whose training processes are killed: it goes on with the runs that are missing."""

import multiprocessing
import time
from pathlib import Path
from threading import Thread

import pytest
from forked_training import forked_training

from gradsift.components.fine_tuning.scope_sweep import choose_layers
from gradsift.components.fine_tuning.step import train_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import GradsiftError
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import FineTuningLayers, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    GroupSettings,
    PlannedRun,
    RunGroup,
)
from gradsift.components.shared.records.planning import sweep_runs
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import RESULT

RECIPE = TrainingRecipe(steps=3, batch_size=8, precision="float32", processes=1)
LAYERS = FineTuningLayers(scopes=["all", "head"], rates=[1e-4, 1e-3])


def kill_processes_once_a_run_is_done(root: Path) -> None:
    while not list(root.glob(f"work/{CANDIDATES}-*/{RESULT}")):
        time.sleep(0.01)
    for process in multiprocessing.active_children():
        process.kill()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_with_the_runs_that_are_missing(
    prepared_data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    data, root = PreparedData(fetch(prepared_data)), str(tmp_path)
    base, model = find_base_model(str(tiny_encoder)), ModelConfig(base_model=str(tiny_encoder), head="linear")
    weights = [base.digest, base.tokenizer_digest]
    settings = GroupSettings.of(prepared_data, data, weights, model, RECIPE)
    runs = sweep_runs(LAYERS, RECIPE, PlannedRun.of(data, [], RECIPE))
    group = RunGroup(purpose="sweep", number=0, settings=settings, runs=runs, weights=CANDIDATES)

    def sweep() -> None:
        with forked_training(), track_step("sweep", root, {}) as tracker:
            train_runs(group, prepared_data, root, tracker)

    killer = Thread(target=kill_processes_once_a_run_is_done, args=[tmp_path])
    killer.start()
    with pytest.raises(GradsiftError):
        sweep()
    killer.join()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"work/{CANDIDATES}-*/{RESULT}")}
    assert 1 <= len(done) < len(runs)
    written = [path.read_bytes() for path in done]
    sweep()
    found = [(tmp_path / CANDIDATES / path.parent.name.removeprefix(f"{CANDIDATES}-")) for path in done]
    assert [(folder / RESULT).read_bytes() for folder in found] == written
    assert [(folder / RESULT).stat().st_mtime_ns for folder in found] == list(done.values())
    tried = ScopeSweep.read(fetch(choose_layers(settings, runs, root))).tried
    assert len(tried) == len(runs)
    assert {(each.layers.scope, each.layers.learning_rate) for each in tried} == {
        (scope, rate) for scope in LAYERS.scopes for rate in LAYERS.rates
    }
