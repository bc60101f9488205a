"""What a run costs, worked out by hand for small numbers."""

from dataclasses import replace
from typing import Any

import pytest

from gradsift.components.preflight.cost.hardware import Hardware
from gradsift.components.preflight.cost.model_size import ModelSize
from gradsift.components.preflight.cost.plan import CostPlan, plan_cost
from gradsift.components.preflight.cost.row_lengths import RowLengths
from gradsift.components.preflight.cost.table import duration, sentences, short, table
from gradsift.components.shared.data.prepared_data import PreparedTask, TaskIndex
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings, defaults

SIZE = ModelSize("causal", parameters=100, passed=100, trained=100)
ROWS = {"target": 40, "a": 100, "b": 60, "c": 200}
ANSWERING = (10 + 2 * 20) * 5 * 2 * 100
"""Operations that each run takes to read 10 validation rows and to read and write 20 test rows of 5 tokens."""


def planned(size: ModelSize = SIZE, lengths: dict[str, float] | None = None, /, **settings: Any) -> CostPlan:
    tasks = [
        PreparedTask(name=name, kind="generation", labels=[], rows={"train": rows, "val": 10, "test": 20})
        for name, rows in ROWS.items()
    ]
    data = TaskIndex("suite", "target", 64, tasks)
    five = RowLengths.constant(data, 5)
    parameters = {**defaults(), "target": "target", "train_batch_size": 10, **settings}
    return plan_cost(PipelineSettings.of(parameters), data, replace(five, train=lengths or five.train), size)


def test_meta_training_takes_six_operations_for_each_parameter_and_token() -> None:
    meta = planned(meta_epochs=1.5).meta
    assert (meta.runs, meta.steps, meta.rows, meta.tokens) == (1, 60, 600, 3000)
    assert meta.operations == 6 * 100 * 3000


def test_adapters_spare_the_gradients_of_frozen_weights_and_checkpointing_adds_a_forward_pass() -> None:
    adapted = replace(SIZE, trained=0)
    assert planned(adapted).meta.operations == pytest.approx(4 / 6 * planned().meta.operations)
    again = planned(adapted, train_gradient_checkpointing="on").meta.operations
    assert again == pytest.approx(planned().meta.operations)


def test_attention_counts_for_long_rows() -> None:
    meta = planned(replace(SIZE, layers=2, width=10)).meta
    assert meta.operations == meta.tokens * (6 * 100 + 12 * 2 * 10 * 5)


def test_a_task_counts_as_often_as_its_rows_are_drawn() -> None:
    lengths = {"target": 1.0, "a": 2.0, "b": 3.0, "c": 4.0}
    by_rows = planned(SIZE, lengths, meta_epochs=1.0).meta
    assert by_rows.tokens == 40 * 1 + 100 * 2 + 60 * 3 + 200 * 4
    assert planned(SIZE, lengths, meta_epochs=1.0, meta_sampling_exponent=0.0).meta.tokens == 400 * 2.5


def test_a_sampler_looks_at_rows_before_each_round_and_pays_for_the_sources_that_it_chooses() -> None:
    sampler = {"meta_sampler": "derts", "meta_max_tasks": 1, "meta_rounds": 2, "meta_probe_rows": 50}
    usual, found = planned(meta_epochs=1.0).meta, planned(meta_epochs=1.0, **sampler).meta
    assert (usual.rows, found.rows) == (400, 200)
    assert found.operations == 6 * 100 * (5 * 200 + 2 * 5 * (40 + 50 + 50 + 50))


def test_extraction_takes_every_train_row_and_the_targets_validation_rows_once() -> None:
    extraction = planned(extract_probes=2).extraction
    assert (extraction.rows, extraction.steps) == (410, 0)
    assert extraction.operations == 410 * 5 * 100 * (2 + 3 * 4 + 2)
    both = planned(extract_probes=2, extract_base_weights=True).extraction
    assert both.rows == 820
    assert both.operations == 410 * 5 * 100 * (2 * (2 + 3 * 4) + 2)


def test_six_runs_come_before_the_choice_and_those_are_not_trained_again() -> None:
    plan = planned(fine_tune_steps=7, evaluate_seeds=3)
    first, second = plan.before
    assert [(phase.runs, phase.steps, phase.rows) for phase in plan.before] == [(4, 28, 280), (2, 14, 140)]
    assert first.operations == 280 * 5 * 6 * 100 + 4 * ANSWERING
    # Four subsets with three seeds, less three runs that are known, and the untrained model.
    assert (plan.compared.runs, plan.compared.steps) == (10, 9 * 7)
    assert plan.compared.operations == 9 * 70 * 5 * 6 * 100 + 10 * ANSWERING
    mean = (first.operations + second.operations) / 6
    assert plan.of_all == pytest.approx(mean * plan.estimation.search.subsets)


def test_in_epochs_subsets_that_nobody_knows_yet_count_as_large_as_they_may_be() -> None:
    plan = planned(fine_tune_steps=0, fine_tune_epochs=1.0)
    none, everything, without_b, without_a = 4, 40, 34, 30
    assert plan.before[0].steps == none + everything + without_b + without_a
    small = planned(fine_tune_steps=0, fine_tune_epochs=1.0, estimate_max_tasks=1)
    assert small.before[0].steps == none + everything + (4 + 20) + (4 + 10)


def test_calibration_runs_and_no_confirmation() -> None:
    plan = planned(calibrate_runs=4, calibrate_seeds=2, confirm_runs=0)
    assert [phase.runs for phase in plan.before] == [6 * 2, 1]


def test_runs_that_choose_the_layers_and_the_comparison_with_all_of_them() -> None:
    plan = planned(
        fine_tune_steps=7,
        evaluate_seeds=3,
        evaluate_max_runs=16,
        fine_tune_scopes=["all", "late"],
        fine_tune_rates=[1e-4, 2e-4],
    )
    assert plan.layers is not None
    # Four are tried, and that with the first scope and rate is a run before the choice.
    assert (plan.layers.runs, plan.layers.steps, plan.layers.pods) == (3, 21, 0)
    # Four subsets, and the chosen one with all layers, with three seeds; not the final model; the untrained one.
    assert plan.compared.runs == 5 * 3 - 1 + 1
    assert plan.phases == [plan.meta, plan.extraction, *plan.before, plan.layers, plan.compared]
    assert planned(fine_tune_scopes=["late"]).layers is None


def test_pods_and_devices() -> None:
    alone = planned(output_uri="s3://bucket/root", gpus=2)
    assert [phase.pods for phase in alone.phases] == [1] * 5
    assert [phase.devices for phase in alone.phases] == [2] * 5
    assert alone.pods == 12
    shared = planned(
        output_uri="s3://bucket/root", gpus=1, train_nodes=2, extract_pods=3, train_parallel_runs=2
    )
    assert [phase.pods for phase in shared.phases] == [3, 4, 6, 3, 6]
    assert [phase.devices for phase in shared.phases] == [2, 3, 4, 2, 4]


def test_the_store_takes_two_vectors_and_four_numbers_a_row() -> None:
    estimation = planned(extract_dimension=100, extract_shard_rows=64).estimation
    assert estimation.store_bytes == 410 * (2 * 100 * 2 + 4 * 4)
    assert estimation.store_files == 2 * (1 + 2 + 1 + 4 + 1) + 1


def test_cut_sources_are_stored_twice_and_searched_as_many() -> None:
    """Sources of 100, 60 and 200 rows have 4, 3 and 4 clusters, with 25, 20 and 50 rows each."""
    whole = planned(extract_shard_rows=30).estimation
    cut = planned(extract_shard_rows=30, extract_cluster_sources=4).estimation
    assert cut.store_bytes == 2 * whole.store_bytes
    assert whole.store_files == 2 * (2 + 4 + 2 + 7 + 1) + 1
    assert cut.store_files == whole.store_files + 2 * (4 + 3 + 2 * 4 + 2 + 1) + 1
    assert cut.memory_bytes == whole.memory_bytes / 4 * 12
    assert cut.search.stepwise > whole.search.stepwise


def test_more_random_subsets_can_be_drawn_once_sources_are_cut() -> None:
    plan = planned(extract_cluster_sources=4, calibrate_runs=50, estimate_excluded_tasks=["a"])
    assert plan.before[0].runs > 50
    assert plan.meta == planned().meta
    assert plan.extraction == planned().extraction
    with pytest.raises(InputError, match="50 random subsets"):
        planned(calibrate_runs=50)


def test_a_table_says_what_it_assumes() -> None:
    plan = planned(replace(SIZE, passed=1e12, trained=1e12))
    hardware = Hardware(PipelineSettings.of(defaults()).resources, peak_tflops=100, utilisation=0.5)
    titles, meta, *_, everything = table(plan, hardware)
    assert titles[0] == "phase"
    assert meta == ["meta-training", "1", "80", "800", "4k", "24P", "0.133", "8 min", "1"]
    assert everything[:2] == ["all", "17"]
    assert "50% of 100 TFLOP/s of each GPU" in " ".join(sentences(plan, hardware))


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (999.6, "1k"), (1234567, "1.23M"), (5e21, "5Z")]
)
def test_short_numbers(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (90, "1.5 min"), (3600, "1 h"), (180000, "2.08 d")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
