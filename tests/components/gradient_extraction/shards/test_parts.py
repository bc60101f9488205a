"""A store that several processes or pods write, in any order or killed, holds the bytes that one writes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest
from extracted_store import BASE_TOO, CONFIG, contents, extract
from forked_training import FORKS
from trained_encoder import trained_model

from gradsift.components.gradient_extraction.shards import extraction_processes
from gradsift.components.gradient_extraction.shards.parts import Part, shard_plans
from gradsift.components.gradient_extraction.step import STEP, extract_gradients, extract_part, seal_store
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import GradientStoreError, NotFoundError, StorageError
from gradsift.components.shared.tracking.tracking import track_step

pytestmark = pytest.mark.usefixtures("one_thread")


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


@pytest.mark.slow
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
