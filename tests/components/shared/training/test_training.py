"""Training in processes: what it learns, that it continues after a kill, and how it fails."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_training import forked_training
from interrupted_training import InterruptedTraining, wait_until
from planted_code import code_that_ran, plant_code
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, BertModel

from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError, TrainingError
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training import processes
from gradsift.components.shared.training.example_order import example_order, shares_by_size
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import JOBS, LOG
from gradsift.components.shared.training.training import train

TASKS = ["sst2", "mr", "trec"]
RECIPE = TrainingRecipe(steps=24, batch_size=8, learning_rate=3e-3, precision="float32", processes=1, seed=3)
LINEAR = RECIPE.model_copy(update={"steps": 80, "learning_rate": 1e-2})
REFERENCE_LOSSES = [1.3647, 0.8714, 1.272, 1.1667, 1.3899, 1.0568, 0.6313, 1.13]
"""Of `plain`, every third step: what a change of the code must not change."""
LONG = RECIPE.model_copy(update={"steps": 1000, "checkpoint_steps": 51})


@pytest.fixture(scope="module")
def data(prepared_data: StepOutput) -> Path:
    return fetch(prepared_data)


@pytest.fixture
def encoder_with_dropout(tiny_encoder: Path, tmp_path: Path) -> Path:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.1}))
    return folder


def run(jobs: list[TrainingJob], scratch: Path) -> list[dict[str, Any]]:
    with track_step("meta_training", str(scratch / "root"), {}) as tracker:
        return train(jobs, scratch, tracker)


@pytest.fixture(scope="module")
def trained(data: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One launch of three jobs, `linear`, `plain` and `parts`; the log of the step is below `root`."""
    folder = tmp_path_factory.mktemp("trained")
    model = ModelConfig(base_model=str(tiny_encoder))
    jobs = [
        TrainingJob(folder / "linear", data, TASKS, model.model_copy(update={"head": "linear"}), LINEAR),
        TrainingJob(folder / "plain", data, TASKS, model, RECIPE),
        TrainingJob(folder / "parts", data, TASKS, model, RECIPE.model_copy(update={"micro_batch_size": 3})),
    ]
    with forked_training():
        run(jobs, folder)
    return folder


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return content


def losses(folder: Path) -> list[float]:
    return [loss for _, loss in result(folder)["losses"]]


def assert_same_model(one: Path, other: Path, tolerance: float) -> None:
    for name in ("model.safetensors", "head.safetensors"):
        weights, expected = (with_gradients(load_file(folder / name)) for folder in (one, other))
        torch.testing.assert_close(weights, expected, atol=tolerance, rtol=0)


def with_gradients(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the keys' biases: softmax cancels them, so their gradients are rounding alone."""
    return {name: value for name, value in weights.items() if not name.endswith("key.bias")}


def test_a_trained_models_folder_holds_a_model_and_no_pickles(trained: Path) -> None:
    names = {path.name for path in (trained / "plain").rglob("*")}
    expected = {"model.safetensors", "config.json", "head.safetensors", "head.json", RESULT, "tokenizer.json"}
    assert names == expected | {"tokenizer_config.json", "serving.json"}
    assert not any((trained / "checkpoints").iterdir())


def test_the_result_says_how_the_model_was_made(trained: Path, tiny_encoder: Path) -> None:
    found = result(trained / "plain")
    assert found["tasks"] == TASKS
    assert found["rows"] == dict.fromkeys(TASKS, 32)
    assert (found["optimizer_steps"], found["examples"]) == (24, 192)
    assert 0 <= found["padding"] < found["tokens"]
    assert found["tokens"] <= 192 * 32
    assert TrainingRecipe(**found["recipe"]) == RECIPE
    assert ModelConfig(**found["model"]) == ModelConfig(base_model=str(tiny_encoder))
    assert (found["precision"], found["processes"], found["micro_batch_size"]) == ("float32", 1, 8)
    assert [step for step, _ in found["losses"]] == list(range(1, 25))


@pytest.mark.parametrize("name", ["linear", "plain"])
def test_the_loss_falls(trained: Path, name: str) -> None:
    curve = losses(trained / name)
    quarter = len(curve) // 4
    assert sum(curve[-quarter:]) < 0.9 * sum(curve[:quarter])


def test_the_linear_head_is_trained_and_label_embeddings_are_not(trained: Path, tiny_encoder: Path) -> None:
    linear = EncoderClassifier.load(trained / "linear")
    assert bool((linear.classifier.weight.abs().sum(1) > 0).all())
    plain = EncoderClassifier.load(trained / "plain").classifier.weight
    torch.testing.assert_close(plain, Reference(tiny_encoder).class_embeddings(plain_classes(trained)))


def test_the_embeddings_stay_those_of_the_base_model(trained: Path, tiny_encoder: Path) -> None:
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_encoder, trained / "plain"))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("embeddings."), name


def test_the_step_is_told_the_first_jobs_losses_and_the_progress_over_all_jobs(trained: Path) -> None:
    events = read_events((trained / "root" / "tracking" / "local" / "meta_training.jsonl").read_bytes())
    curve = [event for event in events if event["event"] == "metric"]
    assert [event["values"]["train_loss"] for event in curve] == losses(trained / "linear")
    assert max(event["values"]["learning_rate"] for event in curve) == pytest.approx(1e-2)
    progress = [event for event in events if event["event"] == "progress"]
    assert (progress[-1]["done"], progress[-1]["total"], progress[-1]["unit"]) == (128, 128, "steps")


class Reference:
    """The same recipe written out in plain PyTorch, sharing only the order of the examples."""

    def __init__(self, encoder: Path) -> None:
        self.encoder = BertModel.from_pretrained(encoder, add_pooling_layer=False).train()
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)

    def features(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
        mask = inputs["attention_mask"][:, :, None]
        states = self.encoder(**inputs).last_hidden_state
        return functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)

    def class_embeddings(self, classes: list[str]) -> Tensor:
        with torch.no_grad():
            return self.features([name.replace("_", " ") for name in classes])

    def losses(self, data: PreparedData, recipe: TrainingRecipe) -> list[float]:
        rows = [
            (data.task(task).labels, row["text"], row["label"])
            for task in TASKS
            for row in data.split(task, "train")
        ]
        embeddings = {
            labels: self.class_embeddings(list(labels)) for labels in {tuple(labels) for labels, _, _ in rows}
        }
        counts = dict.fromkeys(TASKS, 32)
        examples = recipe.steps * recipe.batch_size
        order = example_order(counts, shares_by_size(counts, 1.0), examples, recipe.seed)
        optimizer = self.optimizer(recipe)
        curve = []
        for step, batch in enumerate(order.reshape(recipe.steps, recipe.batch_size)):
            chosen = [rows[row] for row in batch]
            features = self.features([text for _, text, _ in chosen])
            each = [
                functional.cross_entropy(15 * embeddings[tuple(labels)] @ feature, torch.tensor(label))
                for feature, (labels, _, label) in zip(features, chosen, strict=True)
            ]
            loss = torch.stack(each).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.encoder.encoder.parameters(), 1.0)
            warmup = recipe.steps // 10
            share = step / warmup if step < warmup else (recipe.steps - step) / (recipe.steps - warmup)
            for group in optimizer.param_groups:
                group["lr"] = share * recipe.learning_rate
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item())
        return curve

    def optimizer(self, recipe: TrainingRecipe) -> torch.optim.Optimizer:
        layers = list(self.encoder.encoder.named_parameters())
        matrices = [parameter for _, parameter in layers if parameter.ndim == 2]
        vectors = [parameter for _, parameter in layers if parameter.ndim == 1]
        decay = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(decay, lr=recipe.learning_rate)


def plain_classes(trained: Path) -> list[str]:
    classes: list[str] = json.loads((trained / "plain" / "head.json").read_text())["classes"]
    return classes


def test_training_equals_a_plain_pytorch_loop(trained: Path, data: Path, tiny_encoder: Path) -> None:
    reference = Reference(tiny_encoder)
    assert losses(trained / "plain") == pytest.approx(reference.losses(PreparedData(data), RECIPE), abs=1e-4)
    weights = with_gradients(load_file(trained / "plain" / "model.safetensors"))
    expected = {name: value for name, value in reference.encoder.state_dict().items() if name in weights}
    torch.testing.assert_close(weights, expected, atol=1e-3, rtol=0)


def test_a_training_reproduces_its_stored_losses(trained: Path) -> None:
    assert losses(trained / "plain")[::3] == pytest.approx(REFERENCE_LOSSES, abs=1e-3)


def test_micro_batches_train_the_same_model(trained: Path) -> None:
    assert result(trained / "parts")["micro_batch_size"] == 2
    assert losses(trained / "parts") == pytest.approx(losses(trained / "plain"), abs=1e-4)
    assert_same_model(trained / "parts", trained / "plain", 1e-3)


@pytest.mark.slow
def test_two_processes_every_zero_stage_and_micro_batch_train_the_same_model(
    trained: Path, data: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2})
    model = ModelConfig(base_model=str(tiny_encoder))
    jobs = [
        TrainingJob(
            tmp_path / f"stage{stage}",
            data,
            TASKS,
            model,
            recipe.model_copy(update={"zero_stage": stage, "micro_batch_size": size}),
        )
        for stage, size in enumerate([1, 0, 2, 1])
    ]
    tokenised = sorted(data.with_name(f"{data.name}.tokenised").rglob("*.arrow"))
    with forked_training():
        run(jobs, tmp_path)
    assert tokenised == sorted(data.with_name(f"{data.name}.tokenised").rglob("*.arrow")) != []
    assert [result(job.folder)["micro_batch_size"] for job in jobs] == [1, 4, 2, 1]
    for job in jobs:
        assert result(job.folder)["processes"] == 2
        assert losses(job.folder) == pytest.approx(losses(trained / "plain"), abs=1e-4)
        assert_same_model(job.folder, trained / "plain", 1e-3)


@pytest.fixture
def interrupted(data: Path, encoder_with_dropout: Path, tmp_path: Path) -> Iterator[InterruptedTraining]:
    model = ModelConfig(base_model=str(encoder_with_dropout))
    whole = TrainingJob(tmp_path / "whole", data, TASKS, model, LONG)
    with forked_training():
        run([whole], tmp_path / "alone")
    training = InterruptedTraining(replace(whole, folder=tmp_path / "killed"), tmp_path / "work")
    yield training
    for pid in training.processes():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    interrupted: InterruptedTraining, tmp_path: Path
) -> None:
    process = interrupted.run_past_next_checkpoint()
    assert len(interrupted.processes()) == 3
    for pid in interrupted.processes():
        os.kill(pid, signal.SIGKILL)
    process.wait()
    first = interrupted.newest_checkpoint()

    process = interrupted.run_past_next_checkpoint()
    assert interrupted.first_step_done() > first
    os.kill(max(interrupted.processes()), signal.SIGKILL)
    assert process.wait(timeout=60) == 1
    assert "exit code 1: Signal 9 (SIGKILL) received (log: " in (interrupted.scratch / "errors").read_text()
    assert interrupted.processes() == []

    process = interrupted.run_past_next_checkpoint()
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert interrupted.processes() == []

    process = interrupted.run_past_next_checkpoint()
    process.kill()
    process.wait()
    wait_until(lambda: not interrupted.processes(), 15)

    last = interrupted.newest_checkpoint()
    assert 4 * LONG.checkpoint_steps <= last < LONG.steps
    (interrupted.checkpoints / "checkpoint-999").mkdir()

    assert interrupted.start().wait(timeout=600) == 0
    assert interrupted.first_step_done() > last
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)
    assert_same_model(tmp_path / "killed", tmp_path / "whole", 1e-6)


def test_finished_jobs_are_not_trained_again(trained: Path, data: Path, tmp_path: Path) -> None:
    jobs = [TrainingJob(trained / name, data, TASKS, ModelConfig(), RECIPE) for name in ("plain", "linear")]
    assert run(jobs, tmp_path / "work") == [result(job.folder) for job in jobs]
    assert not (tmp_path / "work" / JOBS).exists()


def test_a_learning_rate_that_diverges_is_one_sentence_and_stops_at_once(
    data: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    recipe = RECIPE.model_copy(update={"learning_rate": 10.0, "weight_decay": 1000.0, "steps": 20_000})
    job = TrainingJob(tmp_path / "model", data, TASKS, ModelConfig(base_model=str(tiny_encoder)), recipe)
    with forked_training(), pytest.raises(TrainingError) as error:
        run([job], tmp_path / "work")
    expected = "The training loss of model is not finite: expected a smaller learning rate than 10.0."
    assert str(error.value) == expected
    assert not job.finished


@pytest.mark.slow
def test_a_crash_is_reported_by_its_own_error_and_the_log(
    data: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(data, tmp_path / "broken")
    (broken / "mr" / "train.arrow").unlink()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / LOG).write_text("ValueError: of an earlier try\n")
    job = TrainingJob(tmp_path / "model", broken, TASKS, ModelConfig(base_model=str(tiny_encoder)), RECIPE)
    with pytest.raises(TrainingError) as error:
        run([job], tmp_path / "work")
    message = str(error.value)
    assert message.startswith("The training processes ended with exit code 1: ")
    assert "FileNotFoundError: " in message
    assert "mr/train.arrow" in message
    assert message.endswith(f"(log: {tmp_path / 'work' / LOG}).")
    assert "\n" not in message


def test_a_model_that_cannot_be_used_is_an_input_error_and_no_code_of_the_current_folder_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_code(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    job = TrainingJob(tmp_path / "model", data, TASKS, ModelConfig(base_model="/no/such/folder"), RECIPE)
    missing = r"^The base model '/no/such/folder' was not found: "
    with forked_training(), pytest.raises(InputError, match=missing):
        run([job], tmp_path / "work")
    assert code_that_ran(tmp_path) == []


def test_a_step_that_does_not_see_its_gpus_trains_nothing(
    data: Path, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_GPUS", str(torch.cuda.device_count() + 2))
    job = TrainingJob(tmp_path / "model", data, TASKS, ModelConfig(base_model=str(tiny_encoder)), RECIPE)
    with pytest.raises(InputError, match=r"^This step was given \d GPUs by the run's settings but sees \d: "):
        run([job], tmp_path / "work")
    assert not (tmp_path / "work" / LOG).exists()


def test_each_process_tokenises_on_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores_per_process", lambda count: 6 // count)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    environment = processes._environment(2)
    assert (environment["TOKENIZERS_PARALLELISM"], environment["RAYON_NUM_THREADS"]) == ("true", "3")


def test_a_batch_that_the_processes_cannot_share_is_an_input_error(data: Path, tmp_path: Path) -> None:
    jobs = [
        TrainingJob(
            tmp_path / str(size),
            data,
            TASKS,
            ModelConfig(),
            RECIPE.model_copy(update={"batch_size": size, "processes": count}),
        )
        for size, count in [(8, 2), (7, 1)]
    ]
    with pytest.raises(
        InputError, match=r"Parameter train_batch_size is 7: expected a multiple of the 2 processes."
    ):
        run(jobs, tmp_path / "work")


def test_processes_of_one_machine_are_not_several_nodes(data: Path, tmp_path: Path) -> None:
    job = TrainingJob(tmp_path / "model", data, TASKS, ModelConfig(), RECIPE.model_copy(update={"nodes": 2}))
    with pytest.raises(
        InputError, match=r"^Parameter nodes is 2: expected 1, as this trains on one machine\.$"
    ):
        run([job], tmp_path)
