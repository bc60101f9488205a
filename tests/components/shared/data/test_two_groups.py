"""Which rows are of a group, and the sentence for every reason why two groups cannot be compared."""

from pathlib import Path

import numpy as np
import pytest
from grouped_data import grouped_data

from gradsift.components.shared.artifacts.step_output import fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.data.two_groups import (
    comparison_problem,
    membership,
    target_groups,
    two_groups,
)
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.fairness import FairnessConfig

MALE = FairnessConfig(group="male", positive="granted")
LABELS = ["refused", "granted"]


def test_a_row_belongs_to_each_part_of_its_group_and_rows_without_one_to_neither_side() -> None:
    members = membership(["male|white", "female|white", None, "white|male", "males"], "male")
    np.testing.assert_array_equal(members, [1, 0, np.nan, 1, 0])


@pytest.mark.parametrize(
    ("labels", "groups", "problem"),
    [
        (LABELS, ["male", "female"], None),
        (
            [],
            ["male", "female"],
            "Parameter fairness_group is 'male': expected '', as 'loans' is answered in free",
        ),
        (
            ["a", "b", "c"],
            ["male", "female"],
            "expected '', as 'loans' has 3 labels; a covariance needs a favourable one of two.",
        ),
        (
            ["no", "yes"],
            ["male", "female"],
            "Parameter fairness_positive is 'granted': expected one of no, yes, the labels of 'loans'.",
        ),
        (LABELS, [None, None], "expected '', as no train row of 'loans' has a 'group'."),
        (LABELS, ["female|old", None, "child"], "expected one of child, female, old, the groups of 'loans'."),
        (LABELS, ["male", None], "expected a group that does not hold all train rows of 'loans'."),
    ],
)
def test_groups_that_cannot_be_compared_are_one_sentence(
    labels: list[str], groups: list[str | None], problem: str | None
) -> None:
    found = comparison_problem(MALE, "loans", labels, groups)
    assert (found is None) == (problem is None)
    assert problem is None or problem in str(found)


def test_a_source_without_groups_is_not_limited_and_the_target_must_have_them(tmp_path: Path) -> None:
    data = PreparedData(fetch(grouped_data(tmp_path)))
    groups = two_groups(MALE, data, "loans")
    assert groups is not None
    assert groups.positive == 1
    assert np.nansum(groups.deviations) == pytest.approx(0)
    np.testing.assert_array_equal(np.isnan(groups.deviations), np.isnan(groups.members))
    assert two_groups(MALE, data, "reviews") is None
    assert two_groups(MALE, data, "credit") is not None
    assert len(target_groups(MALE, data, "test").members) == 64
    unknown = FairnessConfig(group="elves", positive="granted")
    with pytest.raises(InputError, match="expected one of female, male, small, tall, the groups of 'loans'"):
        target_groups(unknown, data, "val")
