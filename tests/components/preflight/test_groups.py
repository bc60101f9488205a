"""Groups that cannot be compared are found before anything is prepared."""

import pytest

from gradsift.components.preflight.groups import check_groups
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.fairness import FairnessConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.pipeline_settings import PipelineSettings
from gradsift.components.shared.parameters.settings import SettingsError

CENSUS = DataPreparationConfig(suite="demo-groups", target="census")
MALE = FairnessConfig(group="male", positive="income above 50 thousand")


def test_rows_of_both_groups_are_counted() -> None:
    assert check_groups(MALE, CENSUS, ModelConfig()) == (
        "210 train rows of census are of male, 90 of other groups"
    )


@pytest.mark.parametrize(
    ("fairness", "data", "problem"),
    [
        (
            MALE,
            DataPreparationConfig(),
            "Parameter fairness_positive is 'income above 50 thousand': expected one",
        ),
        (
            FairnessConfig(group="male", positive="positive"),
            DataPreparationConfig(),
            "expected '', as no train row of 'sst2' has a 'group'.",
        ),
        (
            FairnessConfig(group="martian", positive="income above 50 thousand"),
            CENSUS,
            "Parameter fairness_group is 'martian': expected one of amer indian eskimo, ",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    fairness: FairnessConfig, data: DataPreparationConfig, problem: str
) -> None:
    with pytest.raises(InputError) as error:
        check_groups(fairness, data, ModelConfig())
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (
            {"fairness_group": "male"},
            "Parameter fairness_positive is '': expected the name of the favourable label",
        ),
        (
            {"fairness_positive": "yes"},
            "expected a group of the target's rows where fairness_positive is 'yes'.",
        ),
        ({"fairness_limit": 0.1}, "expected a group of the target's rows where fairness_limit is 0.1."),
        (
            {
                "fairness_group": "male",
                "fairness_positive": "yes",
                "fairness_limit_estimate": 0.1,
                "estimate_method": "random_ensemble",
            },
            "Parameter estimate_method is 'random_ensemble': expected forward_stepwise or best_of_m where",
        ),
        (
            {"fairness_group": "male|white", "fairness_positive": "yes"},
            "Parameter fairness_group is 'male|white': expected one group, such as 'male'.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_one_sentence(
    parameters: dict[str, object], problem: str
) -> None:
    with pytest.raises(SettingsError) as error:
        PipelineSettings.of(parameters)
    assert problem in str(error.value)
