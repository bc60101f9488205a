"""The choice among subsets that were truly fine-tuned on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selection_output import produce_selection

from gradsift.components.fine_tuning.choice import confirm_selection, delete_candidates, finalist_runs
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, NotFoundError
from gradsift.components.shared.parameters.estimation import EstimationSettings
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.fine_tuning_runs import (
    CANDIDATES,
    RUNS,
    STEP,
    FineTuningRun,
    GroupSettings,
    find_model,
    run_inputs,
)
from gradsift.components.shared.records.run_answers import ValidationAnswers
from gradsift.components.shared.records.selection_results import MethodResult, Selection

RECIPE = TrainingRecipe(steps=4, batch_size=8)
ALL = ["mr", "mr_flipped", "trec"]
TRUE = {(): 0.60, tuple(ALL): 0.50, ("mr",): 0.40, ("mr", "trec"): 0.39}
ESTIMATED = {(): 0.61, tuple(ALL): 0.45, ("mr",): 0.41, ("mr", "trec"): 0.30}
NOISE = np.tile([0.05, -0.05], 50).astype(np.float32)
LIMITS = EstimationSettings.model_validate({})


def settings_of(data: StepOutput) -> GroupSettings:
    weights = ["base", "tokenizer"]
    return GroupSettings.of(data, PreparedData(fetch(data)), weights, ModelConfig(base_model="base"), RECIPE)


def finalists(
    data: StepOutput,
    root: Path,
    rows: dict[tuple[str, ...], Any] | None = None,
    gap_limit: float | None = None,
) -> StepOutput:
    """Write estimates with four finalists and their runs, whose validation rows differ by `rows` from the mean.

    Where there is a limit on gaps, the estimated gap of a finalist grows with its number of tasks.
    """
    subsets = {"selected": ["mr", "trec"], "all": ALL, "target_only": [], "random": ["mr"]}
    found = produce_selection(root, "sst2", subsets, dict.fromkeys(subsets, 0.3))
    rounds = ["first_round", "first_round", "first_round", "second_round"]
    each = [
        MethodResult(
            method=name,
            subset=list(subset),
            estimated_loss=loss,
            standard_error=0.01,
            estimated_gap=None if gap_limit is None else -0.1 * (1 + len(subset)),
        )
        for name, (subset, loss) in zip(rounds, ESTIMATED.items(), strict=True)
    ]
    selection = Selection.read(fetch(found)).model_copy(update={"finalists": each, "gap_limit": gap_limit})
    settings, prepared = settings_of(data), PreparedData(fetch(data))
    for run in finalist_runs(selection, prepared, RECIPE):
        key = tuple(run.subset)
        losses = np.full(100, TRUE[key], np.float32) + (rows or {}).get(key, 0)

        def record(folder: Path, run: Any = run, losses: Any = losses) -> dict[str, Any]:
            ValidationAnswers(losses, losses < 1).write(folder, 2.0)
            FineTuningRun(
                subset=run.subset,
                seed=run.seed,
                start="base",
                val_loss=float(losses.mean()),
                val_accuracy=1.0,
                train_rows=32 * (1 + len(run.subset)),
                optimizer_steps=4,
                tokens=100,
                padding=10,
                seconds=2.0,
            ).write(folder)
            return {}

        produce(str(root), STEP, run_inputs(settings, run), record, RUNS)
    return produce(
        str(root), "subset_estimation", {"finalists": 4}, lambda folder: selection.write(folder) or {}
    )


def choose(
    data: StepOutput, root: Path, limits: EstimationSettings = LIMITS, **changes: Any
) -> tuple[StepOutput, Selection]:
    estimates = finalists(data, root, **changes)
    output = confirm_selection(estimates, data, settings_of(data), RECIPE, limits, str(root))
    return output, Selection.read(fetch(output))


def test_the_lowest_true_loss_is_the_choice_that_later_steps_read(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    output, selection = choose(prepared_data, tmp_path, rows={("mr", "trec"): 0.1})
    assert selection.selected == selection.comparisons["selected"] == ["mr"]
    assert selection.estimate_of("selected").estimated_loss == selection.estimated_loss == 0.41
    assert [score.task for score in selection.task_scores if score.selected] == ["mr"]
    assert selection.reason.startswith(
        "Of 4 subsets that were fine-tuned on, one with 1 of 3 auxiliary tasks"
    )
    assert "The estimates alone had chosen another one." in selection.reason
    assert (fetch(output) / "mixture" / "data" / "mr.jsonl").exists()
    assert not (fetch(output) / "mixture" / "data" / "trec.jsonl").exists()
    assert output.metadata["residual"] == pytest.approx(-0.01, abs=1e-6)


def test_the_table_has_every_run_and_its_difference_to_the_chosen_one(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    _, selection = choose(prepared_data, tmp_path, rows={(): NOISE})
    assert selection.confirmation is not None
    runs = selection.confirmation.runs
    assert [run.subset for run in runs] == [["mr", "trec"], ["mr"], ALL, []]
    assert [run.chosen for run in runs] == [True, False, False, False]
    assert [run.residual for run in runs] == pytest.approx([0.09, -0.01, 0.05, -0.01], abs=1e-6)
    error = NOISE.std(ddof=1) / 10
    last = runs[-1].excess
    assert (last.low, last.mean, last.high) == pytest.approx(
        (0.21 - 1.96 * error, 0.21, 0.21 + 1.96 * error), abs=1e-6
    )
    cost = selection.confirmation.cost
    assert (cost.runs, cost.optimizer_steps, cost.rows) == (4, 16, 128)
    assert (cost.tokens, cost.padding) == (400, 40)
    assert (cost.seconds, cost.seconds_of_all) == (8.0, 2.0 * selection.subsets_estimated)


def test_of_runs_that_noise_cannot_tell_apart_the_one_with_the_fewest_rows_is_chosen(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    noisy = {("mr",): 5 * NOISE, (): 10 * NOISE}
    _, selection = choose(prepared_data, tmp_path, rows=noisy)
    assert selection.selected == ["mr"], "the target alone is worse by more than the standard error"
    assert "within one standard error of the lowest, 0.3900, and it has fewer train rows" in selection.reason


def test_noise_that_all_runs_share_makes_no_tie(prepared_data: StepOutput, tmp_path: Path) -> None:
    _, selection = choose(prepared_data, tmp_path, rows=dict.fromkeys(TRUE, 10 * NOISE))
    assert selection.selected == ["mr", "trec"]
    assert "The estimates had chosen it too." in selection.reason


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        ({"excluded_tasks": ["trec"]}, ["mr"]),
        ({"required_tasks": ["mr_flipped"]}, ALL),
        ({"max_tasks": 1}, ["mr"]),
        ({"max_rows": 63}, ["mr"]),
        ({"max_rows": 1}, []),
    ],
)
def test_a_run_that_breaks_a_limit_is_shown_and_not_chosen(
    limits: dict[str, Any], chosen: list[str], prepared_data: StepOutput, tmp_path: Path
) -> None:
    _, selection = choose(prepared_data, tmp_path, EstimationSettings(**limits))
    assert selection.selected == chosen
    assert selection.confirmation is not None
    assert len(selection.confirmation.runs) == 4
    assert selection.confirmation.chosen.permitted


def test_a_run_whose_estimated_gap_is_above_the_limit_is_not_chosen(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    _, selection = choose(prepared_data, tmp_path / "all", gap_limit=0.35)
    assert selection.selected == ["mr", "trec"]
    _, selection = choose(prepared_data, tmp_path / "one", gap_limit=0.25)
    assert selection.selected == ["mr"]
    with pytest.raises(
        InputError, match=r"^Parameter fairness_limit_estimate is 0\.05: expected a larger one"
    ):
        choose(prepared_data, tmp_path / "none", gap_limit=0.05)


def test_a_run_that_is_not_finished_is_named(prepared_data: StepOutput, tmp_path: Path) -> None:
    estimates = finalists(prepared_data, tmp_path)
    with pytest.raises(NotFoundError, match="There is no finished fine-tuning run at"):
        confirm_selection(
            estimates, prepared_data, settings_of(prepared_data), RECIPE, LIMITS, str(tmp_path / "other")
        )


def test_weights_that_waited_for_the_choice_are_deleted_and_records_stay(
    prepared_data: StepOutput, tmp_path: Path
) -> None:
    selection = Selection.read(fetch(finalists(prepared_data, tmp_path)))
    settings = settings_of(prepared_data)
    runs = finalist_runs(selection, PreparedData(fetch(prepared_data)), RECIPE)
    produce(str(tmp_path), STEP, run_inputs(settings, runs[0]), lambda _: {}, CANDIDATES)
    assert find_model(settings, runs[0], str(tmp_path), CANDIDATES) is not None
    delete_candidates(settings, runs, str(tmp_path))
    assert find_model(settings, runs[0], str(tmp_path), CANDIDATES) is None
    assert len(list((tmp_path / RUNS).iterdir())) == 4
