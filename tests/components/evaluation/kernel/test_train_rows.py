"""Which train rows are drawn, and whether a gradient store has theirs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic_store import write_store

from gradsift.components.evaluation.kernel.train_rows import drawn_rows, store_at_start
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import Start


def data_with(counts: dict[str, int]) -> Any:
    return SimpleNamespace(task=lambda name: SimpleNamespace(rows={"train": counts[name]}))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(1, 60), st.integers(0, 99))
def test_every_row_is_drawn_once_as_far_as_there_is_room(counts: list[int], most: int, seed: int) -> None:
    tasks = {f"task {number}": count for number, count in enumerate(counts)}
    drawn = drawn_rows(data_with(tasks), list(tasks), most, seed)
    assert sum(map(len, drawn.values())) == min(most, sum(counts))
    for task, places in drawn.items():
        assert places == sorted(set(places))
        assert set(places) <= set(range(tasks[task]))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    folder = tmp_path_factory.mktemp("stores")
    meta, base = (str(folder / name) for name in ("meta", "base"))
    parameters = ["layer.weight", "layer.bias"]
    digests = [write_store(uri, parameters=parameters) for uri in (meta, base)]
    return StepOutput(meta, digests[0], {"base_uri": base, "base_digest": digests[1]})


def step_of(*names: str) -> Any:
    return SimpleNamespace(start={name: torch.zeros(1) for name in names})


@pytest.mark.parametrize(
    ("start", "model", "parameters", "found"),
    [
        ("meta", {}, ["layer.bias", "layer.weight"], "meta"),
        ("base", {}, ["layer.weight", "layer.bias"], "base"),
        ("base", {"lora_rank": 4}, ["layer.weight", "layer.bias"], None),
        ("meta", {"lora_rank": 4}, ["layer.weight", "layer.bias"], "meta"),
        ("meta", {}, ["layer.weight"], None),
    ],
)
def test_a_store_is_taken_if_it_is_at_the_start_and_of_the_trained_parameters(
    stores: StepOutput, start: Start, model: dict[str, int], parameters: list[str], found: str | None
) -> None:
    store = store_at_start(stores, ModelConfig(**model), start, step_of(*parameters))
    assert (store and Path(store.storage.uri).name) == found


def test_there_is_no_store_at_the_base_weights_unless_it_was_asked_for(stores: StepOutput) -> None:
    alone = StepOutput(stores.uri, stores.digest, {})
    assert store_at_start(alone, ModelConfig(), "base", step_of("layer.weight", "layer.bias")) is None
