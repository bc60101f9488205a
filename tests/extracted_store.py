"""The step that extracts gradients as its tests call it, and what it leaves."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trained_encoder import trained_model

from gradsift.components.gradient_extraction.step import STEP, extract_gradients
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.tracking import track_step

CONFIG = GradientExtractionConfig(
    dimension=16, blocks=4, projection_width=256, shard_rows=20, precision="float32"
)
BASE_TOO = CONFIG.model_copy(update={"base_weights": True})


def extract(
    data: StepOutput, model: StepOutput, root: Path | str, config: GradientExtractionConfig = CONFIG
) -> StepOutput:
    with track_step(STEP, str(root), {}) as tracker:
        return extract_gradients(config, data, model, str(root), tracker)


def contents(output: StepOutput) -> dict[str, bytes]:
    storage = open_storage(output.uri)
    keys = storage.keys()
    return {key: storage.read(key) for key in keys}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(prepared_data: StepOutput, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    """The prepared data without the file of the target's test split."""
    folder = tmp_path_factory.mktemp("data") / Path(prepared_data.uri).name
    shutil.copytree(prepared_data.uri, folder)
    (folder / PreparedData(folder).target / "test.arrow").unlink()
    return replace(prepared_data, uri=str(folder))


@pytest.fixture(scope="module")
def model(data: StepOutput, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    return trained_model(tmp_path_factory.mktemp("model"), tiny_encoder, data)


@pytest.fixture(scope="module")
def finished(
    one_thread: None, data: StepOutput, model: StepOutput, tmp_path_factory: pytest.TempPathFactory
) -> StepOutput:
    """A store that was written without the target's test split on the disk."""
    return extract(data, model, tmp_path_factory.mktemp("run"))
