"""Meta-training in rounds: what each round draws, that it goes on from the one before, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dated_reviews import write_dated_reviews
from forked_training import forked_training
from interrupted_training import wait_until
from safetensors.torch import load_file
from tiny_language_models import make_base, write_prepared_data

from gradsift.components.data_preparation.step import prepare_data
from gradsift.components.shared.artifacts.step_output import StepOutput, fetch
from gradsift.components.shared.models.model_loading import open_model
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.data import DataPreparationConfig
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.parameters.sampling import MetaSampling
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.records.sampling_schedule import EarlierSchedule, SamplingSchedule
from gradsift.components.shared.tracking.event_log import read_events
from gradsift.components.shared.tracking.tracking import track_step
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.processes import launch_processes
from gradsift.components.shared.training.rounds import joined_result, plan_rounds, train_in_rounds

TASKS = ["sst2", "mr", "trec", "mr_flipped"]
ROWS = 32 * len(TASKS)
RECIPE = TrainingRecipe(steps=11, batch_size=8, learning_rate=3e-3, precision="float32", processes=1, seed=3)
DERTS = MetaSampling(sampler="derts", max_tasks=1, rounds=3, probe_rows=16)


@pytest.fixture(scope="module")
def data(prepared_data: StepOutput) -> Path:
    return fetch(prepared_data)


@pytest.fixture(scope="module")
def job(data: Path, tiny_encoder: Path) -> TrainingJob:
    return TrainingJob(Path("model"), data, TASKS, ModelConfig(base_model=str(tiny_encoder)), RECIPE)


def run(whole: TrainingJob, scratch: Path, sampling: MetaSampling = DERTS) -> dict[str, Any]:
    with forked_training(), track_step("meta_training", str(scratch / "root"), {}) as tracker:
        return train_in_rounds(whole, sampling, ROWS, scratch, tracker, launch_processes)


@pytest.fixture(scope="module")
def trained(job: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rounds")
    run(replace(job, folder=folder / "model"), folder / "work")
    return folder


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return content


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_rounds_share_the_steps_and_start_from_one_another(job: TrainingJob, tmp_path: Path) -> None:
    earlier = EarlierSchedule(origin="version 1 of reviews", cosines={"mr": 0.5})
    jobs = plan_rounds(replace(job, start=Path("champion")), DERTS, ROWS, tmp_path, earlier)
    assert [each.recipe.steps for each in jobs] == [3, 4, 4]
    assert [each.start for each in jobs] == [Path("champion"), jobs[0].folder, jobs[1].folder]
    assert [(each.round.number, each.round.steps_before) for each in jobs if each.round] == [
        (0, 0),
        (1, 3),
        (2, 7),
    ]
    assert all(each.round and each.round.earlier == earlier for each in jobs)
    assert all(
        TrainingJob.from_json(json.loads(json.dumps(each.to_json()))).round == each.round for each in jobs
    )


def test_all_rounds_have_one_path_of_a_limits_multipliers() -> None:
    def round_result(steps: int, *upper: float) -> dict[str, Any]:
        limited = {"settings": {"limit": 0.1}, "tasks": ["a"], "unlimited_tasks": ["b"]}
        path = [{"step": step, "upper": each, "lower": 0.0} for step, each in enumerate(upper)]
        counts = {"optimizer_steps": steps, "examples": 8 * steps, "tokens": 64, "padding": 0}
        return {**counts, "losses": [(steps, 0.5)], "fairness": {**limited, "path": path}}

    joined = joined_result([round_result(2, 0.0, 0.1, 0.2), round_result(1, 0.2, 0.3)], RECIPE)
    assert joined["losses"] == [(2, 0.5), (3, 0.5)]
    assert [(each["step"], each["upper"]) for each in joined["fairness"]["path"]] == [
        (0, 0.0),
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
    ]
    assert (joined["fairness"]["tasks"], joined["examples"]) == (["a"], 24)


def test_an_epoch_counts_the_rows_of_the_tasks_that_a_round_trains_on(job: TrainingJob) -> None:
    in_epochs = replace(job, recipe=RECIPE.model_copy(update={"steps": 0, "epochs": 1.0}))
    jobs = plan_rounds(in_epochs, DERTS, ROWS, Path())
    assert sum(each.recipe.steps for each in jobs) == ROWS * 2 // 4 // 8
    assert (
        len(plan_rounds(replace(job, recipe=RECIPE.model_copy(update={"steps": 2})), DERTS, ROWS, Path()))
        == 2
    )


def test_the_result_is_of_all_rounds(trained: Path) -> None:
    found = result(trained / "model")
    assert TrainingRecipe(**found["recipe"]) == RECIPE
    assert (found["optimizer_steps"], found["examples"]) == (11, 88)
    assert [step for step, _ in found["losses"]] == list(range(1, 12))
    assert found["tasks"] == TASKS
    assert not list((trained / "work").glob("round-*"))
    open_model(trained / "model")


def test_losses_of_all_rounds_make_one_curve_in_the_log(trained: Path) -> None:
    events = read_events((trained / "work/root/tracking/local/meta_training.jsonl").read_bytes())
    curve = [(event["step"], event["values"]["train_loss"]) for event in events if event["event"] == "metric"]
    assert curve == [tuple(point) for point in result(trained / "model")["losses"]]


def test_the_schedule_has_every_round_with_the_target_and_one_source(trained: Path) -> None:
    schedule = SamplingSchedule.read(trained / "model")
    assert (schedule.sampler, schedule.target, len(schedule.rounds)) == ("derts", "sst2", 3)
    for each in schedule.rounds:
        assert list(each.shares) == TASKS
        assert [share > 0 for share in each.shares.values()].count(True) == 2
        assert each.shares["sst2"] > 0
        assert set(each.adapted) == set(TASKS) - {"sst2"}


def test_a_finished_training_is_not_trained_again(trained: Path, job: TrainingJob) -> None:
    before = weights(trained / "model")
    assert run(replace(job, folder=trained / "model"), trained / "work") == result(trained / "model")
    assert weights(trained / "model") == before


def one_round(job: TrainingJob, folder: Path) -> SamplingSchedule:
    """Train a single round, and return what was decided before it."""
    recipe, sampling = RECIPE.model_copy(update={"steps": 2}), DERTS.model_copy(update={"rounds": 1})
    run(replace(job, folder=folder / "model", recipe=recipe), folder / "work", sampling)
    return SamplingSchedule.read(folder / "model")


@pytest.mark.slow
def test_a_round_draws_the_shares_that_were_written_before_it(job: TrainingJob, tmp_path: Path) -> None:
    """A schedule that is there is read back, whatever the sampler would decide."""
    given = one_round(job, tmp_path / "one")
    [own] = given.rounds
    other = next(task for task in TASKS if not own.shares[task])
    planted = own.model_copy(update={"shares": dict.fromkeys(TASKS, 0.0) | {other: 1.0}})
    folder = tmp_path / "two" / "work" / "round-1"
    folder.mkdir(parents=True)
    given.model_copy(update={"rounds": [planted]}).write(folder)
    assert one_round(job, tmp_path / "two").rounds == [planted]
    assert weights(tmp_path / "one" / "model") != weights(tmp_path / "two" / "model")


@pytest.fixture(scope="module")
def dated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return three years of reviews; the newest and the oldest call good what the one between calls bad.

    The newest has more rows of one label, and so has the one between; the oldest has more of the other.
    """
    folder = tmp_path_factory.mktemp("dated")
    train = {2003: (6, 18), 2004: (18, 6), 2005: (18, 6)}
    rows = {"train": train, "val": {2005: (4, 4)}, "test": {2005: (4, 4)}}
    write_dated_reviews(folder, "reviews", rows, swapped={2003, 2005})
    config = DataPreparationConfig(suite=str(folder), target="reviews", periods="year")
    return fetch(prepare_data(config, str(folder / "root")))


def test_l2s_draws_from_the_year_whose_labels_mean_what_they_mean_now(
    dated: Path, job: TrainingJob, tmp_path: Path
) -> None:
    tasks = ["reviews", "reviews.2004", "reviews.2003"]
    whole = replace(
        job,
        data=dated,
        tasks=tasks,
        folder=tmp_path / "model",
        recipe=RECIPE.model_copy(update={"steps": 2}),
    )
    run(whole, tmp_path / "work", MetaSampling(sampler="l2s", rounds=2))
    schedule = SamplingSchedule.read(tmp_path / "model")
    assert schedule.periods == {"reviews": "2005", "reviews.2004": "2004", "reviews.2003": "2003"}
    first, last = schedule.rounds
    assert list(first.cosines) == list(last.cosines) == tasks[1:]
    means = {task: (first.cosines[task] + last.cosines[task]) / 2 for task in tasks[1:]}
    assert schedule.mean_cosines == pytest.approx(means)
    assert means["reviews.2004"] < 0 < means["reviews.2003"]
    assert last.shares == pytest.approx({"reviews": 1 / 3, "reviews.2004": 0, "reviews.2003": 2 / 3})
    assert schedule.earlier is None
    assert "earlier" not in (tmp_path / "model" / SamplingSchedule.FILE).read_text()


STEP = """
    import json, sys
    from pathlib import Path
    from gradsift.components.shared.parameters.sampling import MetaSampling
    from gradsift.components.shared.tracking.tracking import track_step
    from gradsift.components.shared.training.job import TrainingJob
    from gradsift.components.shared.training.processes import launch_processes
    from gradsift.components.shared.training.rounds import train_in_rounds

    scratch, job, sampling, rows = Path(sys.argv[1]), *map(json.loads, sys.argv[2:])
    whole, sampling = TrainingJob.from_json(job), MetaSampling(**sampling)
    with track_step("meta_training", str(scratch / "root"), {}) as tracker:
        train_in_rounds(whole, sampling, rows, scratch, tracker, launch_processes)
"""


@pytest.mark.slow
def test_a_kill_inside_or_between_rounds_changes_no_byte(job: TrainingJob, tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"steps": 120, "checkpoint_steps": 7})
    job, work = replace(job, recipe=recipe, folder=tmp_path / "whole"), tmp_path / "work"
    run(job, tmp_path / "alone")
    killed = replace(job, folder=tmp_path / "killed")
    command = [sys.executable, "-c", textwrap.dedent(STEP), str(work), json.dumps(killed.to_json())]
    command += [json.dumps(DERTS.changes()), str(ROWS)]
    work.mkdir()
    schedule = work / "round-2" / SamplingSchedule.FILE
    moments: list[Callable[[], Any]] = [
        lambda: list((work / "checkpoints" / "round-1").glob("checkpoint-*/whole")),
        (work / "round-1" / RESULT).exists,
        schedule.exists,
        lambda: list((work / "checkpoints" / "round-2").glob("checkpoint-*/whole")),
    ]
    written = []

    def run_until(moment: Callable[[], Any]) -> None:
        process = subprocess.Popen(command, start_new_session=True)
        wait_until(lambda: moment() or process.poll() is not None, 300)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    for moment in moments:
        run_until(moment)
        written.append(schedule.read_bytes() if schedule.exists() else b"")
    assert subprocess.run(command, check=False).returncode == 0
    assert written[-1] == written[-2]
    assert (tmp_path / "killed" / SamplingSchedule.FILE).read_bytes() == (
        tmp_path / "whole" / SamplingSchedule.FILE
    ).read_bytes()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert result(tmp_path / "killed")["losses"] == result(tmp_path / "whole")["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_processes_and_zero_train_the_same_model(
    trained: Path, job: TrainingJob, tmp_path: Path, stage: int
) -> None:
    recipe = RECIPE.model_copy(update={"processes": 2, "zero_stage": stage})
    run(replace(job, folder=tmp_path / "model", recipe=recipe), tmp_path / "work")
    for one, other in zip(
        SamplingSchedule.read(tmp_path / "model").rounds,
        SamplingSchedule.read(trained / "model").rounds,
        strict=True,
    ):
        assert one.stands_for == other.stands_for
        assert one.adapted == pytest.approx(other.adapted, rel=1e-2)
    found, expected = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path, trained))
    found, expected = (
        {name: value for name, value in each.items() if not name.endswith("key.bias")}
        for each in (found, expected)
    )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.slow
def test_rounds_go_on_with_the_adapters_of_the_round_before(tmp_path: Path) -> None:
    data = write_prepared_data(tmp_path / "data")
    model = ModelConfig(base_model=str(make_base(tmp_path / "gpt2", "gpt2")), max_length=64, lora_rank=2)
    whole = TrainingJob(tmp_path / "model", data, ["next", "before", "size"], model, RECIPE)
    run(whole, tmp_path / "work")
    opened = open_model(tmp_path / "model")
    trained, _ = set_trained(opened, "all", train_embeddings=False)
    assert 0 < trained < sum(each.numel() for each in opened.parameters()) / 4
    rounds = SamplingSchedule.read(tmp_path / "model").rounds
    assert len(rounds) == 3
    adapted = [list(each.adapted.values()) for each in rounds]
    assert adapted[0] != adapted[1] != adapted[2]
