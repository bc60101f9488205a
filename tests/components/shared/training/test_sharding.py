"""How memory is spread: what DeepSpeed is given, and that what fits and is fastest is chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.training.sharding import FASTEST_FIRST, SHARE, Sharding, choose_sharding

AUTO = TrainingRecipe()
GIB = 2**30
SIZES = st.tuples(st.integers(1, 10**11), st.integers(0, 10**11), st.integers(1, 64))


@pytest.mark.parametrize(
    ("trained", "frozen_bytes", "processes", "gpu", "expected"),
    [
        (22_000_000, 0, 1, 80, Sharding(0, "none")),
        (1_500_000_000, 0, 1, 80, Sharding(0, "none")),
        (20_000_000, 32_000_000_000, 1, 80, Sharding(0, "none")),
        (20_000_000, 17_000_000_000, 1, 24, Sharding(0, "none")),
        (8_000_000_000, 0, 8, 80, Sharding(2, "none")),
        (13_000_000_000, 0, 8, 80, Sharding(3, "none")),
        (8_000_000_000, 0, 1, 141, Sharding(1, "optimizer")),
        (8_000_000_000, 0, 1, 80, Sharding(3, "parameters")),
        (70_000_000_000, 0, 8, 80, Sharding(3, "parameters")),
    ],
)
def test_common_sizes(trained: int, frozen_bytes: int, processes: int, gpu: int, expected: Sharding) -> None:
    assert choose_sharding(AUTO, trained, frozen_bytes, processes, gpu * GIB) == expected


@given(SIZES, st.integers(1, 10**12))
def test_the_fastest_that_fits_is_chosen_or_else_the_smallest(size: tuple[int, int, int], gpu: int) -> None:
    chosen = choose_sharding(AUTO, *size, gpu)
    fitting = [each for each in FASTEST_FIRST if each.bytes_on_gpu(*size) <= SHARE * gpu]
    smallest = min(each.bytes_on_gpu(*size) for each in FASTEST_FIRST)
    assert chosen == fitting[0] if fitting else chosen.bytes_on_gpu(*size) == smallest


@given(SIZES)
def test_without_sharding_it_is_sixteen_bytes_a_trained_parameter_and_the_frozen_ones(
    size: tuple[int, int, int],
) -> None:
    trained, frozen_bytes, processes = size
    assert Sharding(0, "none").bytes_on_gpu(*size) == 16 * trained + frozen_bytes
    everything = Sharding(3, "none").bytes_on_gpu(*size) * processes
    assert everything == pytest.approx(16 * trained + frozen_bytes)
    assert Sharding(3, "parameters").bytes_on_gpu(*size) == pytest.approx(4 * trained / processes)


@pytest.mark.parametrize("stage", range(4))
def test_what_is_asked_for_is_taken(stage: int) -> None:
    for offload in ("none", "optimizer", "parameters"):
        if stage >= {"none": 0, "optimizer": 1, "parameters": 3}[offload]:
            recipe = TrainingRecipe(zero_stage=stage, offload=offload)
            assert choose_sharding(recipe, 10, 0, 1, 1) == Sharding(stage, offload)  # type: ignore[arg-type]
        else:
            with pytest.raises(
                InputError, match=f"Parameter train_zero_stage is {stage}: expected . or more where train_off"
            ):
                TrainingRecipe(zero_stage=stage, offload=offload)
    assert choose_sharding(TrainingRecipe(zero_stage=stage), 10, 0, 1, None) == Sharding(stage, "none")
    assert choose_sharding(TrainingRecipe(offload="optimizer"), 10, 0, 1, None) == Sharding(1, "optimizer")


def test_a_cpu_shards_nothing() -> None:
    assert choose_sharding(AUTO, 10**12, 0, 2, None) == Sharding(0, "none")


def test_deepspeed_is_given_what_was_chosen() -> None:
    assert Sharding(2, "none").deepspeed_config()["zero_optimization"] == {"stage": 2}
    assert Sharding(3, "parameters").deepspeed_config()["zero_optimization"] == {
        "stage": 3,
        "stage3_gather_16bit_weights_on_model_save": True,
        "offload_optimizer": {"device": "cpu"},
        "offload_param": {"device": "cpu"},
    }
