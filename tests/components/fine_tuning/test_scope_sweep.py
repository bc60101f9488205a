"""The choice of the layers that are trained, by runs on one subset."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradsift.components.fine_tuning.scope_sweep import choose_layers
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import FineTuningLayers, Scope, TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    RUNS,
    STEP,
    FineTuningRun,
    GroupSettings,
    PlannedRun,
    run_inputs,
    run_key,
)
from gradsift.components.shared.records.planning import sweep_runs
from gradsift.components.shared.records.run_answers import ValidationAnswers
from gradsift.components.shared.records.scope_sweep import ScopeSweep
from gradsift.components.shared.training.job import RESULT

RECIPE = TrainingRecipe(steps=4, batch_size=8, learning_rate=5e-5)
RUN = PlannedRun(subset=["mr"], seed=0, steps=4)
SIZES = {"early": 300, "middle": 400, "late": 300, "embeddings": 200}
NOISE = np.tile([0.5, -0.5], 50).astype(np.float32)
"""Of a hundred rows; its mean has a standard error of 0.05."""


def settings_of(data: StepOutput, recipe: TrainingRecipe = RECIPE) -> GroupSettings:
    weights = ["base", "tokenizer"]
    return GroupSettings.of(data, PreparedData(fetch(data)), weights, ModelConfig(base_model="base"), recipe)


def sweep_of(data: StepOutput, root: Path, losses: dict[tuple[Scope, float], Any]) -> ScopeSweep:
    """Return the choice among finished runs with these losses [100] of validation rows."""
    settings = settings_of(data)
    scopes, rates = (list(dict.fromkeys(values)) for values in zip(*losses, strict=True))
    runs = sweep_runs(FineTuningLayers(scopes=scopes, rates=rates), RECIPE, RUN)
    for run in runs:
        assert run.layers is not None
        scope = run.layers.scope
        own = np.broadcast_to(losses[scope, run.layers.learning_rate], 100).astype(np.float32)
        counts = {} if scope == "all" else {"trained_parameters": SIZES[scope], "parameters_of_all": 1000}

        def record(folder: Path, own: Any = own, counts: Any = counts) -> dict[str, Any]:
            ValidationAnswers(own, own < 1).write(folder, 2.0)
            FineTuningRun(
                subset=["mr"],
                seed=0,
                start="base",
                val_loss=float(own.mean()),
                val_accuracy=1.0,
                train_rows=64,
                optimizer_steps=4,
                seconds=2.0,
            ).write(folder)
            (folder / RESULT).write_text(json.dumps(counts))
            return {}

        produce(str(root), STEP, run_inputs(settings, run), record, RUNS)
    return ScopeSweep.read(fetch(choose_layers(settings, runs, str(root))))


def test_a_part_is_chosen_only_if_it_is_better_than_all_by_more_than_a_standard_error(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    for gap, scope in ((0.04, "all"), (0.06, "late")):
        losses = {("all", 1e-4): 0.5, ("late", 1e-4): 0.5 - gap + NOISE}
        sweep = sweep_of(prepared_data, tmp_path / scope, losses)  # type: ignore[arg-type]
        assert sweep.chosen.layers.scope == scope
        assert sweep.reference.scope == "all"
        late = next(each for each in sweep.tried if each.layers.scope == "late")
        assert late.difference.mean == pytest.approx(-gap, abs=1e-6)
        assert late.standard_error == pytest.approx(NOISE.std(ddof=1) / 10)
        assert [each.trained_parameters for each in sweep.tried] == [300, 1000]


def test_of_parts_that_noise_cannot_tell_apart_the_smallest_is_chosen(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    losses = {("all", 1e-4): 0.9, ("middle", 1e-4): 0.5, ("late", 1e-4): 0.52 + NOISE, ("early", 1e-4): 0.8}
    sweep = sweep_of(prepared_data, tmp_path, losses)  # type: ignore[arg-type]
    assert [each.layers.scope for each in sweep.tried if each.chosen] == ["late"]
    assert sweep.reason == (
        "The late layers alone are trained: validation loss 0.5200, lower than 0.9000 with all layers by more than "
        "one standard error; of those as good as the lowest, it trains the fewest parameters."
    )


def test_each_scope_is_judged_at_its_own_best_rate(prepared_data: StepOutput, tmp_path: Path) -> None:
    """A part is compared with all layers at their best rate, or it would win by a rate that does not suit them."""
    losses = {("all", 1e-4): 0.9, ("all", 1e-3): 0.5, ("late", 1e-4): 0.6, ("late", 1e-3): 0.7}
    sweep = sweep_of(prepared_data, tmp_path, losses)  # type: ignore[arg-type]
    assert (sweep.chosen.layers.scope, sweep.chosen.layers.learning_rate) == ("all", 1e-3)
    assert [each.layers.learning_rate for each in sweep.tried] == [1e-3, 1e-4, 1e-3, 1e-4]
    assert sweep.reason.startswith(
        "All layers are trained: no part of them alone has a validation loss that is"
    )


def test_without_all_layers_or_other_parts_the_lowest_loss_is_chosen(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    parts = sweep_of(prepared_data, tmp_path / "parts", {("early", 1e-4): 0.4, ("late", 1e-4): 0.6})
    assert parts.chosen.layers == parts.reference
    assert parts.chosen.layers.scope == "early"
    rates = sweep_of(prepared_data, tmp_path / "rates", {("all", 1e-4): 0.6, ("all", 1e-3): 0.4})
    assert rates.chosen.layers.learning_rate == 1e-3
    assert rates.chosen.trained_parameters is None
    assert rates.reason == "All layers are trained, at the rate with the lowest validation loss 0.4000."


def test_losses_are_metrics_by_scope_and_rate(prepared_data: StepOutput, tmp_path: Path) -> None:
    sweep_of(prepared_data, tmp_path, {("all", 5e-5): 0.5, ("late", 5e-5): 0.25})
    [manifest] = tmp_path.glob("scope_sweeps/*/manifest.json")
    metadata = json.loads(manifest.read_text())["metadata"]
    assert metadata == {"scope": "late", "val_loss_late_5e-05": 0.25, "val_loss_all_5e-05": 0.5}


def test_a_run_that_is_not_finished_is_an_error(prepared_data: StepOutput, tmp_path: Path) -> None:
    runs = sweep_runs(FineTuningLayers(scopes=["all", "late"]), RECIPE, RUN)
    assert [run.layers.learning_rate for run in runs if run.layers] == [5e-5, 5e-5]
    with pytest.raises(NotFoundError, match="There is no finished fine-tuning run"):
        choose_layers(settings_of(prepared_data), runs, str(tmp_path))


def test_a_run_is_the_same_whichever_group_it_is_planned_in(prepared_data: StepOutput) -> None:
    """The final model finds the choice of the sweep, which finds the run from before it."""
    settings = settings_of(prepared_data)
    whole, late = sweep_runs(FineTuningLayers(scopes=["all", "late"]), RECIPE, RUN)
    of_late = settings_of(prepared_data, RECIPE.model_copy(update={"scope": "late"}))
    assert run_key(settings, whole) == run_key(settings, RUN) == run_key(of_late, whole)
    assert run_key(settings, late) == run_key(of_late, RUN) != run_key(settings, RUN)
    assert "scope" not in json.dumps(run_inputs(settings, RUN))
