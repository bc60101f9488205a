"""Meta-training's sampler: which settings go together, and that the default is as if there were none."""

from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.sampling import MetaSampling, MetaScheduleStart


def test_the_default_is_left_out_of_digests() -> None:
    assert MetaSampling().model_dump() == MetaScheduleStart().model_dump() == {}
    assert MetaSampling(sampler="derts", max_tasks=6, rounds=4).model_dump() == {
        "sampler": "derts",
        "max_tasks": 6,
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"sampler": "derts"},
            "Parameter meta_max_tasks is 0: expected 1 or more where meta_sampler is 'derts', the number of "
            "sources that a round trains on.",
        ),
        (
            {"max_tasks": 6},
            "Parameter meta_max_tasks is 6: expected 0 where meta_sampler is 'size', as 'derts' alone chooses "
            "among sources.",
        ),
        ({"sampler": "maml"}, "Parameter meta_sampler is 'maml': expected one of size, recency, derts, l2s."),
        ({"rounds": 0}, "Parameter meta_rounds is 0: expected 1 or more."),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        MetaSampling(**values)
    assert str(error.value) == sentence


def test_epochs_count_the_rows_of_the_chosen_tasks() -> None:
    assert MetaSampling().counted_rows(100, 10) == 100
    assert MetaSampling(sampler="derts", max_tasks=4).counted_rows(101, 10) == 51
