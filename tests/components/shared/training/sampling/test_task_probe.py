"""What a sampler sees: mean gradients against autograd's, and that looking changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.gradients.projection import Projection
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.training.sampling.task_probe import SKETCH, TaskProbe, probe_tasks
from gradsift.components.shared.training.tokenised_rows import tokenised_rows

TASKS = ["sst2", "trec", "mr_flipped"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def data(prepared_data: StepOutput) -> PreparedData:
    return PreparedData(fetch(prepared_data))


@pytest.fixture(scope="module")
def model(data: PreparedData, tiny_encoder: Path) -> TaskModel:
    model = from_base(ModelConfig(base_model=str(tiny_encoder)), data)
    set_trained(model, "all", train_embeddings=False)
    return model.train()


def probe(model: TaskModel, data: PreparedData, count: int, seed: int = 0) -> TaskProbe:
    labels = {task: data.split(task, "train") if task != "trec" else None for task in TASKS}
    rows = dict.fromkeys(TASKS, 32)
    return probe_tasks(model, tokenised_rows(model, data, TASKS), rows, labels, count, [seed], "float32", CPU)


def sketched(
    model: TaskModel, data: PreparedData, task: str, weights: torch.Tensor
) -> npt.NDArray[np.float32]:
    """Return the sketched gradient of the weighted sum of the losses of a task's train rows, by autograd."""
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    projection = Projection({name: tuple(each.shape) for name, each in trained.items()}, 1, SKETCH, 0, CPU)
    losses = model.eval().answers(model.batch(model.encode(data.split(task, "train"), task))).losses()
    model.train()
    sketch = projection.empty_sketch(1)
    gradients = torch.autograd.grad((losses * weights).sum(), list(trained.values()))
    for name, gradient in zip(trained, gradients, strict=True):
        projection.add_whole(sketch, name, gradient[None])
    return sketch[0].numpy()


def test_gradients_are_those_of_the_mean_loss_of_a_tasks_rows(model: TaskModel, data: PreparedData) -> None:
    found = probe(model, data, 100)
    for place, task in enumerate(TASKS):
        mean = sketched(model, data, task, torch.full((32,), 1 / 32))
        np.testing.assert_allclose(found.gradient[place], mean, rtol=1e-3, atol=1e-5)
    assert found.tasks == TASKS


def test_balanced_gradients_give_every_label_one_weight(model: TaskModel, data: PreparedData) -> None:
    found = probe(model, data, 100)
    label = torch.tensor(data.split("sst2", "train")["label"][:])
    counts = torch.bincount(label)
    assert len(counts) == 2
    assert counts[0] != counts[1]
    np.testing.assert_allclose(
        found.balanced[0], sketched(model, data, "sst2", 1 / (2 * counts[label])), rtol=1e-3, atol=1e-5
    )
    assert (found.balanced[1] == found.gradient[1]).all()


def test_it_looks_at_a_few_rows_that_the_seed_decides(model: TaskModel, data: PreparedData) -> None:
    few = probe(model, data, 4)
    assert (few.gradient == probe(model, data, 4).gradient).all()
    assert (few.gradient != probe(model, data, 4, seed=1).gradient).any(axis=1).all()


def test_labels_are_tried_where_a_task_has_some(model: TaskModel, data: PreparedData) -> None:
    adapted = probe(model, data, 32).adapted
    assert np.isnan(adapted).tolist() == [False, True, False]
    assert (adapted[[0, 2]] > 0).all()


def test_the_model_stays_as_it_is(model: TaskModel, data: PreparedData) -> None:
    before = {name: each.clone() for name, each in model.state_dict().items()}
    trained = [each.requires_grad for each in model.parameters()]
    probe(model, data, 4)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert [each.requires_grad for each in model.parameters()] == trained
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
