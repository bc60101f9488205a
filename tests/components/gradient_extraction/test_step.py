"""The whole step on real text: the store it writes, again, elsewhere, and after being killed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked_training import FORKS
from trained_encoder import trained_model

from gradsift.components.gradient_extraction.gradients import extraction
from gradsift.components.gradient_extraction.gradients.extraction import GradientExtractor
from gradsift.components.gradient_extraction.shards import extraction_processes, shard_writing
from gradsift.components.gradient_extraction.shards.parts import Part, shard_plans
from gradsift.components.gradient_extraction.step import STEP, extract_gradients, extract_part, seal_store
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import GradientStoreError, InputError, NotFoundError, StorageError
from gradsift.components.shared.gradient_store.gradient_store import GradientStore
from gradsift.components.shared.models.base_model import find_base_model
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier, Head
from gradsift.components.shared.models.task_model import Example, TaskModel
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.shared.parameters.model import HeadKind, ModelConfig
from gradsift.components.shared.process import gpus, outages
from gradsift.components.shared.storage.storage import open_storage
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step

CONFIG = GradientExtractionConfig(
    dimension=16, blocks=4, projection_width=256, shard_rows=20, precision="float32"
)
BASE_TOO = CONFIG.model_copy(update={"base_weights": True})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
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
def finished(data: StepOutput, model: StepOutput, tmp_path_factory: pytest.TempPathFactory) -> StepOutput:
    """A store that was written without the target's test split on the disk."""
    return extract(data, model, tmp_path_factory.mktemp("run"))


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


@pytest.mark.parametrize("forked", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_several_processes_write_the_same_store(
    data: StepOutput,
    model: StepOutput,
    finished: StepOutput,
    tmp_path: Path,
    forked: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if forked:
        monkeypatch.setattr(extraction_processes, "get_context", lambda _: FORKS)
    output = extract(data, model, tmp_path, CONFIG.model_copy(update={"processes": 2}))
    assert Path(output.uri).name == Path(finished.uri).name
    assert contents(output) == contents(finished)


def extract_in_pods(
    data: StepOutput, model: StepOutput, root: Path | str, numbers: list[int], pods: int, base: bool = False
) -> None:
    config = CONFIG.model_copy(update={"pods": pods, "base_weights": base})
    for number in numbers:
        with track_step(f"{STEP}-{number}", str(root), {}) as tracker:
            extract_part(config, data, model, Part(number, pods), str(root), tracker)


@pytest.mark.parametrize(
    ("pods", "numbers"),
    [(2, [1, 0]), (3, [0, 2, 1, 2]), pytest.param(40, [*range(40)], marks=pytest.mark.slow)],
)
def test_any_number_of_pods_in_any_order_writes_the_same_store(
    pods: int, numbers: list[int], data: StepOutput, model: StepOutput, finished: StepOutput, tmp_path: Path
) -> None:
    extract_in_pods(data, model, tmp_path, numbers, pods)
    output = seal_store(CONFIG.model_copy(update={"pods": pods}), data, model, str(tmp_path))
    assert contents(output) == contents(finished)
    assert (output.digest, output.metadata) == (finished.digest, finished.metadata)
    assert not output.reused
    extract_in_pods(data, model, tmp_path, [0, 1], 2)
    again = seal_store(CONFIG.model_copy(update={"pods": 2}), data, model, str(tmp_path))
    assert again == replace(output, reused=True), "by another number of pods it is the same store"


def test_each_pod_writes_its_own_shards_of_both_stores(
    data: StepOutput, tiny_encoder: Path, s3_root: str, tmp_path: Path
) -> None:
    trained = trained_model(tmp_path, tiny_encoder, data, change=0.05)
    extract_in_pods(data, trained, s3_root, [0, 1], 2, base=True)
    sealed = seal_store(BASE_TOO.model_copy(update={"pods": 2}), data, trained, s3_root)
    with track_step(STEP, str(tmp_path), {}) as tracker:
        expected = extract_gradients(BASE_TOO, data, trained, str(tmp_path), tracker)
    assert sealed.digest == expected.digest
    assert sealed.metadata["base_digest"] == expected.metadata["base_digest"]


def test_a_store_is_not_sealed_before_every_part_is_done(
    data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    extract_in_pods(data, model, tmp_path, [0, 2], 3)
    with pytest.raises(NotFoundError, match="Part 1 of 3 of the extraction is not finished"):
        seal_store(CONFIG.model_copy(update={"pods": 3}), data, model, str(tmp_path))


def test_parts_of_machines_that_compute_differently_are_refused(
    data: StepOutput, model: StepOutput, tmp_path: Path
) -> None:
    extract_in_pods(data, model, tmp_path, [0, 1], 2)
    [record] = tmp_path.glob("gradient_extraction_parts/*/1-of-2.json")
    record.write_text(record.read_text().replace('"precision":"float32"', '"precision":"bf16"'))
    with pytest.raises(
        GradientStoreError, match="differ in precision: expected pods on machines of one kind"
    ):
        seal_store(CONFIG.model_copy(update={"pods": 2}), data, model, str(tmp_path))
    record.write_text("{}")
    with pytest.raises(GradientStoreError, match="is not the record of a part"):
        seal_store(CONFIG.model_copy(update={"pods": 2}), data, model, str(tmp_path))


def test_an_error_in_one_process_is_the_steps(
    data: StepOutput, model: StepOutput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction_processes, "get_context", lambda _: FORKS)
    broken = replace(model, uri=str(tmp_path / Path(model.uri).name))
    shutil.copytree(model.uri, broken.uri)
    weights = Path(broken.uri) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"model\.safetensors is missing or altered"):
        extract(data, broken, tmp_path, CONFIG.model_copy(update={"processes": 2}))


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from gradsift.components.gradient_extraction.shards import shard_writing
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig
from gradsift.components.gradient_extraction.step import extract_gradients
from gradsift.components.shared.artifacts.step_output import StepOutput
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.parameters.model import ModelConfig

torch.set_num_threads(1)
job = json.loads(sys.argv[1])
data, model = (StepOutput(**job[name]) for name in ("data", "model"))
compute = shard_writing.GradientExtractor.shard
path = Path(job["root"]) / "computed"
log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

def computed():
    return path.read_bytes().count(b"\\n")

def ended(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

def compute_and_log(self, rows, task, report):
    shard = compute(self, rows, task, report)
    os.write(log, f"{task} {rows[0]['id']}\\n".encode())
    return shard

shard_writing.GradientExtractor.shard = compute_and_log
chance = random.Random(job["seed"])
kills = 0
while True:
    child = os.fork()
    if child == 0:
        with track_step("gradient_extraction", job["root"], {}) as tracker:
            extract_gradients(GradientExtractionConfig(**job["config"]), data, model, job["store"], tracker)
        os._exit(0)
    if kills < job["kills"]:
        enough = computed() + chance.randint(0, 4)
        while computed() < enough and not ended(child):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    kills += 1
print(kills)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "s3"])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    data: StepOutput,
    model: StepOutput,
    finished: StepOutput,
    tmp_path: Path,
    place: str,
    request: pytest.FixtureRequest,
) -> None:
    """Until one call lives to the end; every kill costs at most one shard that was computed already."""
    root = str(tmp_path) if place == "local" else request.getfixturevalue("s3_root")
    job = {
        "data": asdict(data),
        "model": asdict(model),
        "root": str(tmp_path),
        "store": root,
        "kills": 8,
        "seed": 1,
        "config": CONFIG.model_dump(),
    }
    command = [sys.executable, "-c", KILLED]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, json.dumps(job)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout.split()[-1])
    assert kills >= 4
    computed = (tmp_path / "computed").read_text().splitlines()
    assert len(computed) - len(set(computed)) <= kills
    output = extract(data, model, root)
    assert output.reused
    assert len(set(computed)) == output.metadata["shards"]
    assert contents(output) == contents(finished)


def test_plans_cover_all_rows_in_shards_of_the_wanted_size(data: StepOutput) -> None:
    plans = shard_plans(PreparedData(fetch(data, ["tasks.json"])), 20)
    assert [astuple(plan)[1:] for plan in plans if plan.task == "trec"] == [
        ("train", 0, 0, 20),
        ("train", 1, 20, 32),
    ]
    assert {plan.split for plan in plans if plan.task != "sst2"} == {"train"}
