"""Settings of calibration."""

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.calibration import CalibrationConfig
from gradsift.components.subset_estimation.calibration import FEWEST_RUNS


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": 3}, "Parameter runs is 3: expected 0, or 4 or more."),
        ({"runs": -1}, "Parameter runs is -1: expected 0, or 4 or more."),
        ({"seeds": 0}, "Parameter seeds is 0: expected 1 or more."),
        ({"seed": -1}, "Parameter seed is -1: expected 0 or more."),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as error:
        CalibrationConfig(**settings)
    assert str(error.value) == message


def test_the_fewest_runs_with_the_target_alone_are_enough_to_calibrate() -> None:
    assert CalibrationConfig(runs=4).runs + 1 == FEWEST_RUNS
    assert CalibrationConfig().runs == 0
