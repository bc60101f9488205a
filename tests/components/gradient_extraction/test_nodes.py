"""Extraction on two nodes: the double of the API starts each node as a process here, as Kubeflow Trainer would."""

from pathlib import Path

import pytest
from doubles.trainer_api_server import Cluster
from doubles.trainer_nodes import Nodes
from forked_training import ForkedPython
from kfp import dsl
from trained_encoder import trained_model

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.gradient_extraction.entry_point import extract_gradients
from gradsift.components.gradient_extraction.step import STEP
from gradsift.components.gradient_extraction.step import extract_gradients as extract_here
from gradsift.components.shared.artifacts.run_outputs import read_outputs, write_outputs
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step

CONFIG = GradientExtractionConfig(
    dimension=16, blocks=4, projection_width=256, shard_rows=20, precision="float32"
)


@pytest.fixture
def outputs(s3_root: str, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, StepOutput]:
    """Return what a run has made on S3 before gradients are extracted."""
    monkeypatch.setenv("GRADSIFT_GPUS", "0")  # the step sets it
    data = prepare_data(DataPreparationConfig(auxiliary_tasks=["mr"], max_rows_per_task=32), s3_root)
    return {"data": data, "meta_model": trained_model(s3_root, tiny_encoder, data, change=0.05)}


def extract_on_two_nodes(outputs: dict[str, StepOutput], root: str, folder: Path) -> StepOutput:
    """Run the task with two pods and return the store."""
    settings = {
        "output_uri": root,
        "config": {**CONFIG.changes(), "pods": 2},
        "node_resources": {"cpu": "1", "memory": "2Gi"},
    }
    gradients = dsl.Dataset(uri=str(folder / "gradients"))
    key = extract_gradients(gradients, write_outputs(outputs, root), settings)
    assert {name: output.digest for name, output in read_outputs(key, root).items()} == {
        **{name: output.digest for name, output in outputs.items()},
        "gradients": gradients.metadata["digest"],
    }
    return read_outputs(key, root)["gradients"]


@pytest.mark.slow
def test_two_nodes_write_the_store_that_one_pod_writes(
    in_cluster: Cluster, nodes: Nodes, outputs: dict[str, StepOutput], s3_root: str, tmp_path: Path
) -> None:
    nodes.start = ForkedPython
    store = extract_on_two_nodes(outputs, s3_root, tmp_path)
    with track_step(STEP, str(tmp_path), {}) as tracker:
        alone = extract_here(CONFIG, outputs["data"], outputs["meta_model"], str(tmp_path), tracker)
    assert store.digest == alone.digest
    assert nodes.lives == 1
    [trainer] = nodes.trainers
    assert trainer["numNodes"] == 2
    assert trainer["resourcesPerNode"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    log = read_events(open_storage(s3_root).read(f"tracking/run-1/{STEP}.jsonl"))
    progress = [event for event in log if event["event"] == "progress"]
    assert progress[-1]["unit"] == "rows of part 0 of 2"
    assert 0 < progress[-1]["done"] == progress[-1]["total"] < alone.metadata["rows"]
    assert open_storage(s3_root).keys("work/") == []
    assert extract_on_two_nodes(outputs, s3_root, tmp_path).digest == store.digest
    assert nodes.lives == 1, "a finished store needs no nodes"


@pytest.mark.slow
def test_what_is_wrong_on_a_node_is_the_steps_sentence(
    in_cluster: Cluster, nodes: Nodes, outputs: dict[str, StepOutput], s3_root: str, tmp_path: Path
) -> None:
    nodes.environment = {"GRADSIFT_GPUS": "3"}
    with pytest.raises(InputError, match=r"by the run's settings but sees"):
        extract_on_two_nodes(outputs, s3_root, tmp_path)
