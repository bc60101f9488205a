"""The whole step on real text: the store it writes, again, and elsewhere."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extracted_store import BASE_TOO, CONFIG, contents, extract
from trained_encoder import trained_model

from gradsift.components.gradient_extraction.gradients import extraction
from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor
from gradsift.components.gradient_extraction.shards import shard_writing
from gradsift.components.gradient_extraction.step import STEP, extract_gradients
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.task_model import Example, TaskModel
from gradsift.components.shared.parameters.model import HeadKind, ModelConfig
from gradsift.components.shared.process import gpus, outages
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_second_store_holds_the_gradients_at_the_pretrained_weights(
    data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    trained = trained_model(tmp_path / "model", tiny_encoder, data, change=0.05)
    pretrained = trained_model(tmp_path / "model", tiny_encoder, data)
    with track_step(STEP, str(tmp_path), {}) as tracker:
        output = extract_gradients(BASE_TOO, data, trained, str(tmp_path), tracker)
    target = PreparedData(Path(data.uri)).target
    stores = [
        GradientStore(output.uri, output.digest),
        GradientStore(output.metadata["base_uri"], output.metadata["base_digest"]),
    ]
    for store, model in zip(stores, (trained, pretrained), strict=True):
        expected = GradientStore(extract(data, model, tmp_path / model.digest).uri)
        pairs = zip(store.read(target, "val"), expected.read(target, "val"), strict=True)
        assert all((one.gradient == other.gradient).all() for one, other in pairs)
    assert stores[0].header.base_model_digest == stores[1].header.base_model_digest
    assert stores[0].header.model_digest == trained.digest != stores[1].header.model_digest
    assert stores[0].header.squared_step_norm > stores[1].header.squared_step_norm == 0
    (meta,), (base,) = ([next(store.read("mr", "train"))] for store in stores)
    np.testing.assert_array_equal(base.base_margin, base.margin)
    np.testing.assert_allclose(meta.base_margin, base.margin, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", ["label_embedding", "linear"])
def test_base_margins_and_the_step_are_those_of_the_model_before_training(
    head: HeadKind, data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Against plain forward passes of the pretrained encoder; a linear head starts at zero, so that it guesses."""
    trained, prepared = trained_model(tmp_path, tiny_encoder, data, 0.05, head), PreparedData(Path(data.uri))
    store = GradientStore(extract(data, trained, tmp_path).uri)
    settings = ModelConfig(base_model=str(tiny_encoder), head=head, max_length=32)
    untrained = EncoderClassifier.from_base(
        find_base_model(str(tiny_encoder)), Head.of_config(settings, prepared)
    )
    for task, split in (("trec", "train"), ("sst2", "val")):
        rows = prepared.split(task, split)  # type: ignore[arg-type]
        p = untrained.log_probabilities(rows, task).double().exp()[range(len(rows)), rows["label"][:]].numpy()
        shards = list(store.read(task, split))  # type: ignore[arg-type]
        base_margins = np.concatenate([shard.base_margin for shard in shards])
        np.testing.assert_allclose(base_margins, np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)
        assert np.abs(base_margins - np.concatenate([shard.margin for shard in shards])).max() > 0.01
    untrained.freeze_embeddings()
    weights = sum(each.numel() for each in untrained.parameters() if each.requires_grad)
    assert store.header.squared_step_norm == pytest.approx(0.05**2 * weights, rel=1e-4)


def test_gradients_are_of_a_scope_and_base_margins_of_the_whole_model(
    data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    """Meta-training trains all layers, whichever of them fine-tuning trains."""
    trained = trained_model(tmp_path, tiny_encoder, data, 0.05, "linear")
    of_all = CONFIG.model_copy(update={"parameters": "trained"})
    outputs = [
        extract(data, trained, tmp_path, config)
        for config in (of_all, of_all.model_copy(update={"scope": "head"}))
    ]
    whole, head = (GradientStore(output.uri) for output in outputs)
    assert (
        set(head.header.parameters) == {"classifier.weight", "classifier.bias"} < set(whole.header.parameters)
    )
    assert head.header.squared_step_norm == whole.header.squared_step_norm
    for one, other in zip(head.read("sst2", "val"), whole.read("sst2", "val"), strict=True):
        np.testing.assert_array_equal(one.base_margin, other.base_margin)
        assert (one.gradient != other.gradient).any()


def test_another_base_model_than_meta_training_started_from_is_an_error(
    data: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_encoder, base)
    trained = trained_model(tmp_path, base, data)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.5}))
    message = rf"^The base model '{base}' in {base} is another one than before: expected weights with digest "
    with pytest.raises(InputError, match=message):
        extract(data, trained, tmp_path)
    assert not (tmp_path / STEP).exists()


def test_the_store_holds_every_train_row_and_the_targets_validation_rows(
    data: StepOutput, finished: StepOutput
) -> None:
    store, prepared = GradientStore(finished.uri), PreparedData(Path(data.uri))
    parts = [(task.name, "train") for task in prepared.tasks] + [(prepared.target, "val")]
    assert list(dict.fromkeys((shard.task, shard.split) for shard in store.shards)) == parts
    for task, split in parts:
        shards = list(store.read(task, split))  # type: ignore[arg-type]
        ids = [name for shard in shards for name in shard.example_id]
        assert ids == prepared.split(task, split)["id"][:]  # type: ignore[arg-type]
        assert all(len(shard.example_id) == CONFIG.shard_rows for shard in shards[:-1])
        assert all(np.abs(shard.gradient).sum(1).all() for shard in shards)
    rows = sum(shard.rows for shard in store.shards)
    assert finished.metadata == {
        "suite": prepared.suite,
        "target": prepared.target,
        "rows": rows,
        "shards": len(store.shards),
        "bytes": sum(shard.bytes for shard in store.shards),
        "dimension": CONFIG.dimension,
    }
    assert rows == sum(task.rows["train"] for task in prepared.tasks) + prepared.task("sst2").rows["val"]


def test_the_header_says_what_the_store_was_made_of(
    data: StepOutput, model: StepOutput, finished: StepOutput
) -> None:
    header = GradientStore(finished.uri, finished.digest).header
    classifier = EncoderClassifier.load(Path(model.uri))
    trained = [name for name, _ in classifier.named_parameters() if name.startswith("encoder.encoder.")]
    assert header.parameters == trained
    assert (header.dimension, header.blocks, header.probes, header.shard_rows) == (16, 4, 1, 20)
    assert header.projection == {"kind": "mixed blocks, fold", "seed": 0, "width": 256}
    assert (header.dtype, header.hidden) == ("float16", None)
    assert header.data_digest == data.digest
    assert header.model_digest == model.digest
    assert header.base_model_digest == model.metadata["base_model_digest"]
    assert header.tokenizer_digest == model.metadata["tokenizer_digest"]
    assert (header.target, header.precision) == ("sst2", "float32")
    assert set(header.versions) == {"gradsift", "torch", "transformers", "numpy"}


def test_a_step_that_does_not_see_its_gpus_extracts_nothing(
    data: StepOutput, model: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADSIFT_GPUS", str(torch.cuda.device_count() + 2))
    with pytest.raises(InputError, match=r"^This step was given \d GPUs by the run's settings but sees \d: "):
        extract(data, model, tmp_path)
    assert not (tmp_path / STEP).exists()


def test_a_gpu_that_others_fill_is_waited_for(
    data: StepOutput, model: StepOutput, finished: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hold it when the model is loaded, and again after two batches, until it is loaded once more."""
    monkeypatch.setattr(outages, "MAX_DELAY_SECONDS", 0.01)
    monkeypatch.setenv(outages.VARIABLE, "60")
    for module in (gpus, extraction):
        monkeypatch.setattr(module, "others_hold_memory", lambda device: True)
    batch, load = GradientExtractor._batch, shard_writing.open_model
    calls = {"load": 0, "batch": 0}

    def loads(folder: Path) -> TaskModel:
        calls["load"] += 1
        if calls["load"] == 1:
            raise RuntimeError("CUDA error: out of memory")
        return load(folder)

    def computes(self: GradientExtractor, examples: list[Example], streams: list[str]) -> Any:
        calls["batch"] += 1
        if calls["load"] == 2 and calls["batch"] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return batch(self, examples, streams)

    monkeypatch.setattr(shard_writing, "open_model", loads)
    monkeypatch.setattr(GradientExtractor, "_batch", computes)
    output = extract(data, model, tmp_path)
    assert calls["load"] == 3
    assert contents(output) == contents(finished)
    events = read_events((tmp_path / "tracking" / "local" / f"{STEP}.jsonl").read_bytes())
    done = [event["done"] for event in events if event["event"] == "progress"]
    assert done[-1] == max(done) == output.metadata["rows"]


def test_without_others_a_model_that_does_not_fit_is_an_error_at_once(
    data: StepOutput, model: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(outages.VARIABLE, "60")

    def loads(folder: Path) -> TaskModel:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(shard_writing, "open_model", loads)
    with pytest.raises(InputError, match=r"^The model does not fit into the GPU's memory: expected "):
        extract(data, model, tmp_path)


def test_a_finished_store_is_found(data: StepOutput, model: StepOutput, finished: StepOutput) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(finished.uri).rglob("*")}
    again = extract(data, model, Path(finished.uri).parents[1])
    assert not finished.reused
    assert again == replace(finished, reused=True)
    assert {path: path.stat().st_mtime_ns for path in Path(finished.uri).rglob("*")} == before


def test_s3_holds_the_same_bytes(
    data: StepOutput, model: StepOutput, finished: StepOutput, s3_root: str
) -> None:
    output = extract(data, model, s3_root)
    assert output.uri.startswith(s3_root)
    assert contents(output) == contents(finished)
    assert output.digest == finished.digest
    assert extract(data, model, s3_root) == replace(output, reused=True)


def test_other_weights_or_settings_are_another_store(
    data: StepOutput, model: StepOutput, finished: StepOutput, tiny_encoder: Path, tmp_path: Path
) -> None:
    root = Path(finished.uri).parents[1]
    other = trained_model(tmp_path, tiny_encoder, data, change=0.1)
    of_weights = extract(data, other, root)
    of_settings = extract(data, model, root, CONFIG.model_copy(update={"seed": 1}))
    assert len({finished.uri, of_weights.uri, of_settings.uri}) == 3
    assert not of_weights.reused
    assert not of_settings.reused


def test_only_a_lost_shard_is_computed_again(
    data: StepOutput, model: StepOutput, finished: StepOutput, tmp_path: Path
) -> None:
    copy = tmp_path / STEP / Path(finished.uri).name
    shutil.copytree(finished.uri, copy)
    lost = copy / "mr" / "train" / "00001.safetensors"
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in copy.rglob("*.safetensors")}
    output = extract(data, model, tmp_path)
    assert not output.reused
    assert contents(output) == contents(finished)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_float32_and_float16_stores_hold_the_same_to_rounding(
    data: StepOutput, model: StepOutput, finished: StepOutput, tmp_path: Path
) -> None:
    output = extract(
        data, model, tmp_path, CONFIG.model_copy(update={"dtype": "float32", "hidden_states": True})
    )
    half, single = GradientStore(finished.uri), GradientStore(output.uri)
    assert single.header.hidden == 32
    for first, second in zip(half.read("mr", "train"), single.read("mr", "train"), strict=True):
        assert np.array_equal(first.loss, second.loss)
        assert 0 < np.abs(first.gradient - second.gradient).max() < 1e-3 * np.abs(second.gradient).max()
        assert second.hidden is not None
        assert second.hidden.shape == (len(second.loss), 32)
