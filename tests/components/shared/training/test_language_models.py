"""Language models that are really trained: stored losses, a plain loop, adapters, sharding, and kills."""

import json
import signal
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_training import forked_training
from interrupted_training import newest_checkpoint
from safetensors.torch import load_file
from tiny_language_models import make_base, write_prepared_data

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import TrainingError
from gradsift.components.shared.models.model_answers import held_out_answers
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.run_answers import HeldOutAnswers, ValidationAnswers
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.example_order import example_order, shares_by_size
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import EVENTS
from gradsift.components.shared.training.training import train

TASKS = ["next", "before", "size"]
RECIPE = TrainingRecipe(steps=12, batch_size=8, learning_rate=3e-3, precision="float32", processes=1)
LORA = {"lora_rank": 4, "lora_alpha": 16}
REFERENCE_LOSSES = {
    "gpt2 full": [7.2847, 5.3667, 4.5237, 3.5901],
    "gpt2 lora": [7.2847, 6.4511, 6.3579, 5.6497],
    "llama_tied full": [7.3088, 5.8103, 5.0638, 3.721],
    "llama_tied lora": [7.3088, 6.5417, 5.9784, 5.9733],
    "t5 full": [5.9221, 5.4252, 5.388, 4.4742],
    "t5 lora": [5.9221, 5.8779, 5.9048, 4.9954],
}
"""Of a training of each kind, every third step: what a change of the code must not change."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared_data(tmp_path_factory.mktemp("counting"))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: make_base(folder / name, name) for name in ("gpt2", "llama_tied", "t5")}


def job(
    folder: Path, data: Path, base: Path, recipe: TrainingRecipe = RECIPE, **settings: Any
) -> TrainingJob:
    return TrainingJob(
        folder, data, TASKS, ModelConfig(base_model=str(base), max_length=64, **settings), recipe
    )


def run(jobs: list[TrainingJob], scratch: Path) -> list[dict[str, Any]]:
    with forked_training():
        return train_here(jobs, scratch)


def train_here(jobs: list[TrainingJob], scratch: Path) -> list[dict[str, Any]]:
    with track_step("meta_training", str(scratch / "root"), {}) as tracker:
        return train(jobs, scratch, tracker)


def losses(folder: Path) -> list[float]:
    return [loss for _, loss in json.loads((folder / RESULT).read_text())["losses"]]


@pytest.fixture(scope="module")
def trained(data: Path, bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One launch: each family in full and by adapters, one in micro-batches, one whose answers alone are kept."""
    folder = tmp_path_factory.mktemp("trained")
    jobs = [
        job(folder / f"{name} {kind}", data, base, **settings)
        for name, base in bases.items()
        for kind, settings in {"full": {}, "lora": LORA}.items()
    ]
    in_parts = RECIPE.model_copy(update={"micro_batch_size": 2})
    jobs.append(job(folder / "parts", data, bases["llama_tied"], in_parts))
    jobs.append(replace(jobs[0], folder=folder / "answers", keep_model=False, measured=("val", "test")))
    run(jobs, folder)
    return folder


@pytest.mark.parametrize("name", REFERENCE_LOSSES)
def test_a_training_reproduces_its_stored_losses(trained: Path, name: str) -> None:
    assert losses(trained / name)[::3] == pytest.approx(REFERENCE_LOSSES[name], abs=2e-3)


def test_micro_batches_of_answers_of_unequal_length_train_the_same_model(trained: Path) -> None:
    whole, parts = trained / "llama_tied full", trained / "parts"
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-4)
    weights, expected = (load_file(folder / "model.safetensors") for folder in (parts, whole))
    torch.testing.assert_close(weights, expected, atol=1e-3, rtol=0)


def test_training_equals_a_plain_pytorch_loop(trained: Path, data: Path, bases: dict[str, Path]) -> None:
    prepared = PreparedData(data)
    model = from_base(ModelConfig(base_model=str(bases["llama_tied"]), max_length=64), prepared).train()
    model.freeze_embeddings()
    examples = [row for task in TASKS for row in model.encode(prepared.split(task, "train"), task)]
    counts = dict.fromkeys(TASKS, 16)
    drawn = RECIPE.steps * RECIPE.batch_size
    order = example_order(counts, shares_by_size(counts, 1.0), drawn, RECIPE.seed)
    weights = [each for each in model.parameters() if each.requires_grad]
    decay = [{"params": [each for each in weights if each.ndim == 2], "weight_decay": RECIPE.weight_decay}]
    plain = [{"params": [each for each in weights if each.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(decay + plain)
    curve = []
    for step, batch in enumerate(order.reshape(RECIPE.steps, RECIPE.batch_size)):
        each = [model(**model.collate([examples[row]]))["loss"] for row in batch]
        loss = torch.stack(each).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        share = step if step < 1 else (RECIPE.steps - step) / (RECIPE.steps - 1)
        for group in optimizer.param_groups:
            group["lr"] = share * RECIPE.learning_rate
        optimizer.step()
        curve.append(loss.item())
    assert losses(trained / "llama_tied full") == pytest.approx(curve, abs=1e-4)
    found = open_model(trained / "llama_tied full").state_dict()
    torch.testing.assert_close(found, model.state_dict(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "llama_tied", "t5"])
def test_adapters_are_trained_and_their_base_is_not_stored(
    trained: Path, name: str, bases: dict[str, Path]
) -> None:
    names = {path.name for path in (trained / f"{name} lora").iterdir()}
    assert "adapter_model.safetensors" in names
    assert not names & {"model.safetensors", "config.json"}
    adapter = load_file(trained / f"{name} lora" / "adapter_model.safetensors")
    assert all(bool(value.abs().sum() > 0) for key, value in adapter.items() if "lora_B" in key)
    before = load_file(bases[name] / "model.safetensors")
    opened = open_model(trained / f"{name} lora").state_dict()
    kept = {key: value for key, value in opened.items() if "lora_" not in key}
    stored = {
        key.removeprefix("lm.base_model.model.").replace(".base_layer", ""): value
        for key, value in kept.items()
    }
    for key, value in before.items():
        assert torch.equal(stored[key], value)


def test_answers_are_those_of_the_trained_model(trained: Path, data: Path) -> None:
    val, _ = ValidationAnswers.read(trained / "answers")
    model, prepared = open_model(trained / "gpt2 full"), PreparedData(data)
    examples = model.encode(prepared.split("next", "val"), "next")
    answers = model.answers(model.batch(examples))
    torch.testing.assert_close(torch.tensor(val.loss), answers.losses(), rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.tensor(val.right), answers.right())
    test, expected = HeldOutAnswers.read(trained / "answers"), held_out_answers(model, prepared, "float32")
    assert test.written == expected.written
    assert test.losses == pytest.approx(expected.losses, rel=1e-5)
    assert not list((trained / "answers").glob("model*"))


@pytest.mark.slow
def test_two_processes_train_the_same_by_stages_2_and_3_with_checkpointed_gradients(
    trained: Path, data: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "gradient_checkpointing": "on"})
    jobs = [
        job(
            tmp_path / f"stage {stage} {kind}",
            data,
            bases["llama_tied"],
            recipe.model_copy(update={"zero_stage": stage}),
            **settings,
        )
        for stage in (2, 3)
        for kind, settings in {"full": {}, "lora": LORA}.items()
    ]
    run(jobs, tmp_path)
    for each in jobs:
        alone = trained / f"llama_tied {each.folder.name.split()[-1]}"
        assert losses(each.folder) == pytest.approx(losses(alone), abs=1e-4)
        [weights] = each.folder.glob("*.safetensors")
        torch.testing.assert_close(load_file(weights), load_file(alone / weights.name), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_adapters_on_a_base_in_bf16_train_as_in_float32_under_every_stage(
    trained: Path, data: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "precision": "bf16"})
    jobs = [
        job(
            tmp_path / f"stage {stage} of {name}",
            data,
            bases[name],
            recipe.model_copy(update={"zero_stage": stage}),
            **LORA,
        )
        for stage in (0, 2, 3)
        for name in ("llama_tied", "gpt2")
    ]
    run(jobs, tmp_path)
    for each in jobs:
        alone = trained / f"{each.folder.name.split()[-1]} lora"
        assert losses(each.folder) == pytest.approx(losses(alone), abs=0.05)
        weights = load_file(each.folder / "adapter_model.safetensors")
        assert all(value.dtype == torch.float32 for value in weights.values())


@pytest.mark.exhaustive
@pytest.mark.parametrize("processes", [1, 2])
def test_every_stage_offload_and_family_trains_the_same(
    trained: Path, data: Path, bases: dict[str, Path], processes: int, tmp_path: Path
) -> None:
    shardings = [(0, "none"), (1, "none"), (2, "optimizer"), (3, "optimizer"), (3, "parameters")]
    jobs = [
        job(
            tmp_path / f"{stage}-{offload} {name} {kind}",
            data,
            base,
            RECIPE.model_copy(update={"processes": processes, "zero_stage": stage, "offload": offload}),
            **settings,
        )
        for stage, offload in shardings
        for name, base in bases.items()
        for kind, settings in {"full": {}, "lora": LORA}.items()
    ]
    run(jobs, tmp_path)
    for each in jobs:
        alone = trained / each.folder.name.partition(" ")[2]
        assert losses(each.folder) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.slow
def test_every_sharding_trains_the_same_part_of_the_layers_and_nothing_else(
    data: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    """Of T5's two encoder and two decoder layers, the last is late."""
    recipe = RECIPE.model_copy(update={"steps": 3, "scope": "late"})
    jobs: dict[tuple[int, int, str], TrainingJob] = {}
    for processes in (1, 2):
        for stage, kind in product((0, 3), ("full", "lora")):
            own = recipe.model_copy(update={"processes": processes, "zero_stage": stage})
            folder = tmp_path / f"{processes}-{stage}-{kind}"
            jobs[processes, stage, kind] = job(
                folder, data, bases["t5"], own, **(LORA if kind == "lora" else {})
            )
        run([each for (count, *_), each in jobs.items() if count == processes], tmp_path / str(processes))
    base = load_file(bases["t5"] / "model.safetensors")
    for (_, _, kind), each in jobs.items():
        [weights] = (load_file(path) for path in each.folder.glob("*.safetensors"))
        [alone] = (load_file(path) for path in jobs[1, 0, kind].folder.glob("*.safetensors"))
        torch.testing.assert_close(weights, alone, atol=1e-3, rtol=0)
        if kind == "lora":  # an adapter does nothing where its second matrix is still zero
            moved = {name for name, each in weights.items() if "lora_B" in name and each.any()}
            assert all("decoder.block.1" in name for name in moved)
        else:
            moved = {name for name, each in weights.items() if not torch.equal(each, base[name])}
            assert moved == {name for name in base if name.startswith("decoder.block.1.")}
        assert moved
        result = json.loads((each.folder / RESULT).read_text())
        assert 0 < result["trained_parameters"] < result["parameters_of_all"] / 2


STOPPED = """
import os
from gradsift.components.shared.training import worker

class Stopped(worker.EventCallback):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == {step}:
            os.kill(os.getpid(), {how})

worker.EventCallback = Stopped
"""
"""What every process of a launch begins with: it gets a signal at a step."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "processes", "stage"),
    [
        ("lora", 2, 3),
        *(
            pytest.param(*each, marks=pytest.mark.exhaustive)
            for each in product(("full", "lora"), (1, 2), (2, 3))
            if each != ("lora", 2, 3)
        ),
    ],
)
def test_a_training_that_is_killed_ends_as_if_nothing_had_happened(
    data: Path, bases: dict[str, Path], kind: str, processes: int, stage: int, tmp_path: Path
) -> None:
    settings = {**LORA, "lora_dropout": 0.1} if kind == "lora" else {}
    recipe = RECIPE.model_copy(
        update={"steps": 24, "checkpoint_steps": 5, "processes": processes, "zero_stage": stage}
    )
    whole = job(tmp_path / "whole", data, bases["llama_tied"], recipe, **settings)
    run([whole], tmp_path / "alone")
    killed, scratch = replace(whole, folder=tmp_path / "killed"), tmp_path / "work"
    checkpoints = scratch / "checkpoints" / "killed"
    for how, step, kept in [(signal.SIGKILL, 13, 10), (signal.SIGTERM, 17, 18)]:
        with forked_training(STOPPED.format(step=step, how=int(how))):
            with pytest.raises(TrainingError, match="ended with exit code 1"):
                train_here([killed], scratch)
        assert newest_checkpoint(checkpoints) == kept
    run([killed], scratch)
    assert json.loads((scratch / EVENTS).read_text().splitlines()[0])["done"] == 19
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    [weights] = (tmp_path / "whole").glob("*.safetensors")
    torch.testing.assert_close(
        load_file(tmp_path / "killed" / weights.name), load_file(weights), atol=1e-6, rtol=0
    )
