"""The whole step, on real stores: what it writes, and that a process without torch writes the same bytes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch, produce
from gradsift.components.shared.data.prepared_data import PreparedTask, write_index, write_split
from gradsift.components.shared.errors import GradientStoreError, InputError
from gradsift.components.shared.parameters.estimation import Estimator, Method, SubsetEstimationConfig
from gradsift.components.shared.records.fine_tuning_runs import FineTuningRuns
from gradsift.components.shared.records.selection_results import Selection
from gradsift.components.subset_estimation import step
from gradsift.components.subset_estimation.selection.choices import make_choices
from gradsift.components.subset_estimation.step import estimate_subsets, promising_subsets

METHODS: tuple[Method, ...] = get_args(Method)
EVERY_METHOD = [*METHODS, "all", "target_only", "random", "gradient_cosine", "gradient_dot", "less", "trak"]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in get_args(Estimator) if name != "simulated"]
ESTIMATORS = pytest.mark.parametrize("estimator", ["simulated", *OTHERS])
WARNINGS = "error,ignore:invalid value encountered in matmul:RuntimeWarning"
"""That flag was raised once in six runs; a number that is not finite would change the bytes."""
Made = Callable[..., tuple[StepOutput, Selection]]
QUICK_CHOICES = {
    ("simulated", "forward_stepwise"),
    ("gauss_newton", "random_ensemble"),
    ("gauss_newton", "best_of_m"),
}
QUICK = {"ridge": 1.0, "random_subsets": 40, "random_baseline_draws": 5}


@pytest.fixture(scope="module")
def gradients(synthetic: Any, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    """Four tasks that help, two with wrong answers."""
    generator = np.random.default_rng(0)
    direction = np.eye(8)[:2]
    tasks = {f"task{k}": synthetic.signal(generator, 40, direction, flip=k >= 4) for k in range(6)}
    target, validation = (synthetic.signal(generator, rows, direction) for rows in (15, 200))
    problem = synthetic.Problem(tasks, target, validation, blocks=2)
    output: StepOutput = problem.write(tmp_path_factory.mktemp("gradients"))
    return output


def _run(gradients: StepOutput, root: Path | str, **settings: Any) -> tuple[StepOutput, Selection]:
    config = SubsetEstimationConfig(**(QUICK | {"estimator": "gauss_newton"} | settings))
    output = estimate_subsets(config, gradients, str(root))
    return output, Selection.read(fetch(output))


@pytest.fixture(scope="module")
def made(gradients: StepOutput, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Return what runs the step with an estimator and a method, once for all tests."""

    def run(
        estimator: str = "gauss_newton", method: str = "forward_stepwise"
    ) -> tuple[StepOutput, Selection]:
        return _run(gradients, tmp_path_factory.mktemp("made"), estimator=estimator, method=method)

    return cache(run)


def test_the_record_says_what_was_chosen_and_what_else_there_was(made: Made) -> None:
    output, selection = made()
    assert (selection.suite, selection.target) == ("synthetic", "target")
    assert selection.auxiliary_tasks == [f"task{index}" for index in range(6)]
    assert selection.selected
    assert not {"task4", "task5"} & set(selection.selected)
    assert [result.method for result in selection.methods] == EVERY_METHOD
    by_method = {result.method: result for result in selection.methods}
    assert by_method["forward_stepwise"].estimated_loss == selection.estimated_loss
    assert selection.estimated_loss < min(by_method[name].estimated_loss for name in ("all", "target_only"))
    assert selection.comparisons == {
        "selected": selection.selected,
        **{name: by_method[name].subset for name in ("all", "target_only", "random")},
    }
    assert len(selection.comparisons["random"]) == len(selection.selected)
    assert selection.comparisons["random"] != selection.selected
    assert selection.path[0].action == "start"
    assert selection.path[-1].subset == selection.selected
    assert [score.task for score in selection.task_scores if score.selected] == selection.selected
    assert all((score.score > 0) == (score.task < "task4") for score in selection.task_scores)
    assert output.metadata == {
        "target": "target",
        "suite": "synthetic",
        "selected": selection.selected,
        "estimated_loss": selection.estimated_loss,
        "standard_error": selection.standard_error,
        "estimated_loss_all": by_method["all"].estimated_loss,
        "estimated_loss_target_only": by_method["target_only"].estimated_loss,
        "subsets_estimated": selection.subsets_estimated,
        "sources_with_findings": 0,
        "seconds": selection.seconds,
    }


def test_the_record_explains_the_choice(made: Made) -> None:
    _, selection = made()
    shares = {score.task: score.share for score in selection.task_scores}
    assert all(share is not None and 0 <= share <= 1 for share in shares.values())
    assert min(shares[task] or 0 for task in selection.selected) > max(
        shares["task4"] or 0, shares["task5"] or 0
    )
    assert all(tie.subset != selection.selected for tie in selection.ties)
    assert selection.synergy is not None
    assert selection.synergy.tasks == selection.auxiliary_tasks
    assert selection.task_map is not None
    assert selection.task_map.tasks == ["target", *selection.auxiliary_tasks]
    assert [surrogate.kind for surrogate in selection.surrogates] == ["linear", "rbf"]
    assert list(selection.surrogates[0].coefficients) == selection.auxiliary_tasks


@pytest.mark.parametrize("method", METHODS)
def test_every_choice_keeps_to_the_limits(gradients: StepOutput, tmp_path: Path, method: str) -> None:
    _, selection = _run(
        gradients,
        tmp_path,
        method=method,
        required_tasks=["task5"],
        excluded_tasks=["task0"],
        max_tasks=3,
        max_rows=80,
    )
    marks = {"all", "target_only"}
    subsets = {result.method: result.subset for result in selection.methods if result.method not in marks}
    assert len(subsets) == len(EVERY_METHOD) - 2
    for subset in [*subsets.values(), *(passed.subset for passed in selection.path)]:
        assert "task5" in subset
        assert "task0" not in subset
        assert len(subset) <= 2
    by_method = {result.method: result.subset for result in selection.methods}
    assert by_method["all"] == ["task1", "task2", "task3", "task4", "task5"]


def test_a_task_that_the_store_lacks_is_refused(gradients: StepOutput, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="excluded_tasks holds 'mr': expected auxiliary tasks, task0, task1"):
        _run(gradients, tmp_path, excluded_tasks=["mr"])


def test_the_chosen_rows_are_written_for_other_trainers(gradients: StepOutput, tmp_path: Path) -> None:
    def prepare(folder: Path) -> dict[str, Any]:
        names = ["target", *(f"task{index}" for index in range(6))]
        for name in names:
            write_split(folder, name, "train", [{"id": "1", "text": name, "text_pair": None, "label": 0}])
        tasks = [PreparedTask(name=name, labels=["no", "yes"], rows={"train": 1}) for name in names]
        write_index(folder, "synthetic", "target", tasks)
        return {}

    data = produce(str(tmp_path), "data_preparation", {}, prepare)
    output = estimate_subsets(SubsetEstimationConfig(**QUICK), gradients, str(tmp_path), data=data)
    selection = Selection.read(fetch(output))
    written = json.loads((fetch(output) / "mixture" / "mixture.json").read_text())
    assert [task["name"] for task in written["tasks"]] == ["target", *selection.selected]


def test_the_table_holds_every_estimated_subset_once(made: Made) -> None:
    output, selection = made()
    rows = pq.read_table(fetch(output) / "estimates.parquet").to_pylist()
    assert len(rows) == len({tuple(row["subset"]) for row in rows}) == selection.subsets_estimated
    losses = {tuple(row["subset"]): row["estimated_loss"] for row in rows}
    assert all(losses[tuple(result.subset)] == result.estimated_loss for result in selection.methods)
    assert {row["source"] for row in rows} >= {"forward_stepwise", "random_subsets", "task_scores"}


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        pytest.param(
            estimator, method, marks=() if (estimator, method) in QUICK_CHOICES else pytest.mark.slow
        )
        for estimator in get_args(Estimator)
        for method in METHODS
    ],
)
def test_every_method_and_estimator_makes_its_own_choice(made: Made, estimator: str, method: str) -> None:
    _, selection = made(estimator, method)
    own = next(result for result in selection.methods if result.method == method)
    assert selection.selected == own.subset
    assert (selection.method, selection.estimator) == (method, estimator)
    assert bool(selection.path) == (method == "forward_stepwise")
    assert not {"task4", "task5"} & set(selection.selected)


def test_finished_work_is_not_done_again_unless_an_input_changes(
    gradients: StepOutput, tmp_path: Path
) -> None:
    first, _ = _run(gradients, tmp_path)
    again, _ = _run(gradients, tmp_path)
    other, _ = _run(gradients, tmp_path, ridge=2.0)
    renamed, selection = _run(StepOutput(gradients.uri, gradients.digest, {"suite": "other"}), tmp_path)
    assert [output.reused for output in (first, again, other, renamed)] == [False, True, False, False]
    assert again.digest == first.digest
    assert len({output.uri for output in (first, other, renamed)}) == 3
    assert selection.suite == "other"


def test_another_seed_draws_other_subsets(gradients: StepOutput, tmp_path: Path) -> None:
    tables = [
        pq.read_table(fetch(_run(gradients, tmp_path, seed=seed, random_subsets=3)[0]) / "estimates.parquet")
        for seed in (0, 1)
    ]
    assert tables[0].column("subset") != tables[1].column("subset")


def test_random_ensemble_keeps_as_many_tasks_as_asked(gradients: StepOutput, tmp_path: Path) -> None:
    _, selection = _run(gradients, tmp_path, method="random_ensemble", ensemble_top=2)
    assert len(selection.selected) == len(selection.comparisons["random"]) == 2


def test_it_computes_with_one_thread(
    gradients: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def make_choices_and_count(*arguments: Any) -> Any:
        threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return make_choices(*arguments)

    monkeypatch.setattr(step, "make_choices", make_choices_and_count)
    with threadpool_limits(2, "blas"):
        _run(gradients, tmp_path)
    assert set(threads) == {1}


def test_one_auxiliary_task_is_a_choice_of_yes_or_no(synthetic: Any, tmp_path: Path) -> None:
    store = synthetic.problem(tasks=1).write(tmp_path / "gradients")
    _, selection = _run(store, tmp_path)
    assert selection.subsets_estimated == 2
    assert selection.comparisons["random"] == selection.selected


def test_a_store_on_s3_is_read_and_the_output_written_there(synthetic: Any, s3_root: str) -> None:
    store = synthetic.problem(tasks=2).write(f"{s3_root}/gradients")
    output, selection = _run(store, s3_root)
    assert output.uri.startswith(f"{s3_root}/subset_estimation/")
    assert selection.auxiliary_tasks == ["task0", "task1"]


@pytest.mark.parametrize(("field", "what"), [("data_digest", "data"), ("model_digest", "model")])
def test_a_store_made_for_other_weights_or_data_is_refused(
    gradients: StepOutput, tmp_path: Path, field: str, what: str
) -> None:
    with pytest.raises(
        GradientStoreError, match=f"was made for another {what}: its {field} is .* expected ffff"
    ):
        estimate_subsets(SubsetEstimationConfig(), gradients, str(tmp_path), {field: "f" * 64})
    assert not list(tmp_path.iterdir())


def test_a_store_altered_after_the_extraction_is_refused(synthetic: Any, tmp_path: Path) -> None:
    store = synthetic.problem().write(tmp_path / "gradients")
    with pytest.raises(GradientStoreError, match="was altered after the extraction had finished"):
        _run(StepOutput(store.uri, "0" * 64, store.metadata), tmp_path)
    assert not (tmp_path / "subset_estimation").exists()


WITHOUT_TORCH = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "deepspeed", "accelerate"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refuse())
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.parameters.estimation import SubsetEstimationConfig
from gradsift.components.subset_estimation.step import estimate_subsets

config, uri, digest, metadata, root = json.loads(sys.argv[1])
print(estimate_subsets(SubsetEstimationConfig(**config), StepOutput(uri, digest, metadata), root).uri)
"""


@pytest.mark.slow
@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_a_process_without_torch_writes_the_same_bytes(
    gradients: StepOutput, made: Made, tmp_path: Path, estimator: str
) -> None:
    config = SubsetEstimationConfig(estimator=estimator, **QUICK).model_dump()  # type: ignore[arg-type]
    arguments = json.dumps([config, gradients.uri, gradients.digest, gradients.metadata, str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": WARNINGS},
    )
    assert done.returncode == 0, done.stderr
    folders = [Path(done.stdout.strip()), fetch(made(estimator)[0])]
    tables = [(folder / "estimates.parquet").read_bytes() for folder in folders]
    records = [json.loads((folder / "selection.json").read_text()) for folder in folders]
    assert tables[0] == tables[1]
    assert all(record.pop("seconds") > 0 for record in records)
    assert records[0] == records[1]


def _true_losses(tasks: list[str], masks: Any, losses: Any) -> FineTuningRuns:
    runs = [
        {
            "subset": [task for task, member in zip(tasks, mask, strict=True) if member],
            "seed": 0,
            "start": "base",
            "val_loss": float(loss),
            "val_accuracy": 0.5,
            "train_rows": 10,
            "optimizer_steps": 1,
            "seconds": 1.0,
        }
        for mask, loss in zip(masks, losses, strict=True)
    ]
    fields = {"suite": "synthetic", "target": "target", "recipe": {}, "start": "base", "runs": runs}
    return FineTuningRuns.model_validate(fields)


def test_true_fine_tunings_choose_the_store_and_the_scale(
    gradients: StepOutput, synthetic: Any, tmp_path: Path
) -> None:
    other = synthetic.problem(seed=5, tasks=6, blocks=2)
    base = other.write(tmp_path / "base")
    both = replace(
        gradients, metadata={**gradients.metadata, "base_uri": base.uri, "base_digest": base.digest}
    )
    masks = synthetic.subsets(6)[::5]
    truth = 0.2 + 0.5 * other.estimator(ridge=3.0).mean_losses(masks)
    calibration = _true_losses(list(other.tasks), masks, truth)
    config = SubsetEstimationConfig(**QUICK, estimator="gauss_newton")
    output = estimate_subsets(config, both, str(tmp_path), calibration=calibration)
    selection = Selection.read(fetch(output))
    found = selection.calibration
    assert selection.calibrated
    assert found is not None
    assert (found.expansion, found.estimator, found.ridge) == ("base", "gauss_newton", 3.0)
    assert (selection.estimator, selection.ridge) == ("gauss_newton", 3.0)
    every = 0.2 + 0.5 * other.estimator(ridge=3.0).mean_losses(np.ones((1, 6), bool))[0]
    assert output.metadata["estimated_loss_all"] == pytest.approx(every, rel=1e-3)
    assert f"on the scale of {len(masks)} true fine-tunings" in selection.reason
    assert "Without calibration runs" not in selection.reason
    again = estimate_subsets(config, both, str(tmp_path), calibration=calibration)
    assert again.reused
    assert estimate_subsets(config, both, str(tmp_path)).uri != output.uri


def test_true_fine_tunings_correct_the_mixture_of_simulated_runs(
    gradients: StepOutput, synthetic: Any, tmp_path: Path
) -> None:
    ends = synthetic.subsets(6)[[0, -1]]
    config = SubsetEstimationConfig(**QUICK)
    calibration = _true_losses([f"task{index}" for index in range(6)], ends, [0.5, 0.6])
    output = estimate_subsets(config, gradients, str(tmp_path), calibration=calibration)
    selection = Selection.read(fetch(output))
    assert selection.calibrated
    assert selection.calibration is not None
    assert sum(selection.members.values()) == pytest.approx(1)
    assert output.metadata["estimated_loss_all"] == pytest.approx(0.6, abs=0.05)


@ESTIMATORS
def test_the_first_round_and_what_is_trained_next_are_in_the_record(
    gradients: StepOutput, synthetic: Any, tmp_path: Path, estimator: str
) -> None:
    """Four runs correct the mixture; they are too few to choose a ridge by."""
    tasks = [f"task{index}" for index in range(6)]
    masks = synthetic.subsets(6)[[0, -1, 3, 12]]
    runs = _true_losses(tasks, masks, [0.5, 0.6, 0.4, 0.45])
    config = SubsetEstimationConfig(**QUICK, estimator=estimator)
    output = estimate_subsets(config, gradients, str(tmp_path), calibration=runs, second_round=2)
    selection = Selection.read(fetch(output))
    first, second = (
        [each.subset for each in selection.finalists if each.method == name]
        for name in ("first_round", "second_round")
    )
    assert first == [run.subset for run in runs.runs]
    assert len([subset for subset in second if subset not in first]) == len(second) == 2
    assert selection.calibrated == (estimator == "simulated")
    quick = config.model_copy(update={"estimator": "gauss_newton"})
    plain = estimate_subsets(quick, gradients, str(tmp_path), calibration=runs)
    assert Selection.read(fetch(plain)).finalists == []


def test_a_second_store_is_blended_into_the_mixture(synthetic: Any, tmp_path: Path) -> None:
    problem = synthetic.problem(tasks=3, blocks=1)
    store = problem.write(tmp_path / "meta")
    base = problem.at_base().write(tmp_path / "base", base=True)
    both = replace(store, metadata={"base_uri": base.uri, "base_digest": base.digest})
    config, tasks = SubsetEstimationConfig(**QUICK), [f"task{index}" for index in range(3)]
    alone, blended = (
        Selection.read(fetch(estimate_subsets(config, each, str(tmp_path)))) for each in (store, both)
    )
    assert len(blended.members) == 3 * len(alone.members)
    assert blended.estimated_loss != alone.estimated_loss
    first = [promising_subsets(config, each, str(tmp_path), [[], tasks], 1) for each in (store, both)]
    assert len(list((tmp_path / "promising_subsets").glob("*/manifest.json"))) == len(first)
    runs = _true_losses(tasks, synthetic.subsets(3)[[0, -1]], [0.5, 0.6])
    corrected = estimate_subsets(config, both, str(tmp_path), calibration=runs)
    assert set(Selection.read(fetch(corrected)).members) == set(blended.members)


def test_what_promises_most_is_found_once(gradients: StepOutput, tmp_path: Path) -> None:
    config, tasks = SubsetEstimationConfig(**QUICK), [f"task{index}" for index in range(6)]
    found = promising_subsets(config, gradients, str(tmp_path), [[], tasks], 3)
    assert len(found) == 3
    assert not {"task4", "task5"} & set(found[0]), "their answers are wrong"
    [made] = (tmp_path / "promising_subsets").glob("*/manifest.json")
    before = made.stat().st_mtime_ns
    assert promising_subsets(config, gradients, str(tmp_path), [[], tasks], 3) == found
    assert made.stat().st_mtime_ns == before
    fewer = promising_subsets(config, gradients, str(tmp_path), [[], tasks, found[0]], 3)
    assert found[0] not in fewer
