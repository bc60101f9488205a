"""Plans of fine-tuning runs, written and read back by the short texts that tasks give each other."""

import json
from pathlib import Path

import pytest

from gradsift.components.shared.errors import NotFoundError
from gradsift.components.shared.records.fine_tuning_runs import (
    GroupSettings,
    PlannedRun,
    RunGroup,
    run_inputs,
)
from gradsift.components.shared.records.run_plans import read_group, read_groups, write_groups

SETTINGS = GroupSettings(
    suite="made",
    target="target",
    data="digest",
    data_uri="data",
    start="base",
    weights=["model", "tokenizer"],
    model={"score_scale": 15.0},
    recipe={"learning_rate": 1e-4, "batch_size": 32},
)
GROUPS = [
    RunGroup(
        purpose="calibration",
        number=number,
        settings=SETTINGS,
        runs=[PlannedRun(subset=[f"task{number}"], seed=seed, steps=40) for seed in range(20)],
    )
    for number in range(2)
]


def test_groups_are_read_back_by_their_texts(tmp_path: Path) -> None:
    texts = write_groups(GROUPS, str(tmp_path))
    assert read_groups(texts, str(tmp_path)) == GROUPS
    assert read_group(texts[1], str(tmp_path)) == GROUPS[1]
    assert write_groups(GROUPS, str(tmp_path)) == texts


def test_texts_stay_short_whatever_is_planned(tmp_path: Path) -> None:
    assert len(json.dumps(write_groups(GROUPS, str(tmp_path)))) < 50


def test_nothing_planned_is_nothing_to_read(tmp_path: Path) -> None:
    assert write_groups([], str(tmp_path)) == []
    assert read_groups([], str(tmp_path)) == []


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no plan of fine-tuning runs at .*/fine_tuning_plans/0123:"):
        read_group("0123/0", str(tmp_path))


def test_where_the_data_lie_decides_no_run() -> None:
    moved, run = SETTINGS.model_copy(update={"data_uri": "elsewhere"}), GROUPS[0].runs[0]
    assert run_inputs(moved, run) == run_inputs(SETTINGS, run)
    changed = SETTINGS.model_copy(update={"data": "other digest"})
    assert run_inputs(changed, run) != run_inputs(SETTINGS, run)
