"""Which subsets are fine-tuned on."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.calibration.plan import plan_runs, random_subsets
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.true_losses import PlannedRuns

META = StepOutput("unused", "unused", {"base_model_digest": "b", "tokenizer_digest": "t"})


def plan(
    data: StepOutput, config: CalibrationConfig, root: str = "/root", **recipe: int
) -> list[PlannedRuns]:
    return plan_runs(config, data, META, ModelConfig(), TrainingRecipe(**recipe), root)


@given(n=st.integers(1, 12), seed=st.integers(0, 100), data=st.data())
def test_random_subsets_are_distinct_not_empty_and_in_the_suites_order(
    n: int, seed: int, data: st.DataObject
) -> None:
    tasks = [f"task{index}" for index in range(n)]
    count = data.draw(st.integers(0, min(20, 2**n - 1)))
    subsets = random_subsets(tasks, count, seed)
    assert len({tuple(subset) for subset in subsets}) == count
    assert all(subset and subset == [task for task in tasks if task in subset] for subset in subsets)
    assert subsets == random_subsets(tasks, count, seed)


def test_all_subsets_can_be_asked_for_but_no_more() -> None:
    every = [list(subset) for size in (1, 2, 3) for subset in itertools.combinations("abc", size)]
    assert sorted(random_subsets(["a", "b", "c"], 7, 0)) == sorted(every)
    with pytest.raises(
        InputError, match="8 random subsets were asked for: expected at most 7, all that 3 tasks"
    ):
        random_subsets(["a", "b", "c"], 8, 0)


def test_sizes_are_spread_over_all() -> None:
    sizes = [len(subset) for subset in random_subsets([str(index) for index in range(8)], 100, 1)]
    assert set(sizes) == set(range(1, 9))


def test_the_plan_is_the_target_alone_and_the_random_subsets_in_groups(prepared_data: StepOutput) -> None:
    planned = plan(prepared_data, CalibrationConfig(runs=5, seeds=2, seed=5), seed=7)
    assert [each.number for each in planned] == [0, 1]
    subsets = [each.inputs["subsets"] for each in planned]
    assert [len(group) for group in subsets] == [3, 3]
    assert subsets[0][0] == []
    tasks = PreparedData(fetch(prepared_data)).auxiliary_tasks
    drawn = random_subsets(tasks, 5, 5)
    assert sorted(subset for group in subsets for subset in group) == sorted([[], *drawn])
    assert all(each.inputs["seeds"] == [7, 8] for each in planned)


def test_the_place_of_a_result_tells_everything_that_decides_it(prepared_data: StepOutput) -> None:
    config = CalibrationConfig(runs=4)
    uris = [each.uri for each in plan(prepared_data, config)]
    assert len(set(uris)) == 2
    assert uris == [each.uri for each in plan(prepared_data, config)]
    assert all(uri.startswith("/root/calibration/") for uri in uris)
    changed = [
        plan(prepared_data, config, steps=3),
        plan(prepared_data, CalibrationConfig(runs=4, seeds=2)),
        plan(StepOutput(prepared_data.uri, prepared_data.digest, {}), config, seed=1),
    ]
    for other in changed:
        assert not set(uris) & {each.uri for each in other}
