"""`gradsift schedule apply`, by the real kfp client against a double of the API."""

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from doubles.kfp_api_double import KfpApi
from doubles.schedules import NIGHTLY, WEEKLY, ends, writes

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.pipeline_settings import form_of
from gradsift.pipelines.kubeflow.client import open_kubeflow
from gradsift.pipelines.kubeflow.objects import CompiledPipeline
from gradsift.pipelines.kubeflow.schedule_changes import apply
from gradsift.pipelines.kubeflow.schedules import ScheduleFile, read_schedules

CommandLine = Callable[..., tuple[int, str, str]]


def _state(api: KfpApi) -> list[tuple[str, str, str]]:
    """Return the recurring runs' names, crons and states."""
    return sorted(
        (run["display_name"], run["trigger"]["cron_schedule"]["cron"], run["status"])
        for run in api.recurring_runs.values()
    )


def test_apply_makes_recurring_runs(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    full = {
        **WEEKLY,
        "experiment": "weeklies",
        "parameters": {
            "target": "mr",
            "meta_epochs": 1,
            "cpu": 8,
            "sources": ["trec"],
            "model_train_embeddings": True,
        },
        "max_concurrency": 2,
        "no_catchup": False,
        "start": datetime(2026, 1, 1, tzinfo=UTC),
        "end": datetime(2027, 1, 1, 12, tzinfo=UTC),
        "service_account": "trainer",
    }
    code, output, errors = gradsift("schedule", "apply", "-f", file(NIGHTLY, full))
    assert (code, errors) == (0, "")
    assert output == "nightly: created (0 0 2 * * * UTC)\nweekly: created (30 0 4 * * sun UTC)\n"
    nightly, weekly = kfp_api.recurring_runs.values()
    (version,) = kfp_api.versions.values()
    assert nightly["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert (nightly["status"], nightly["max_concurrency"], nightly["no_catchup"]) == ("ENABLED", "1", True)
    assert len(nightly["description"]) < 255
    assert nightly["description"].startswith(
        "Fine-tunes for sst2 at 0 0 2 * * * (UTC). Kept by `gradsift schedule apply` for gradsift: "
    )
    assert weekly["runtime_config"]["parameters"] == form_of(
        {
            "target": "mr",
            "meta_epochs": 1.0,
            "cpu": "8",
            "sources": ["trec"],
            "model_train_embeddings": True,
        }
    )
    assert weekly["trigger"]["cron_schedule"] == {
        "cron": "30 0 4 * * sun",
        "start_time": "2026-01-01T00:00:00+00:00",
        "end_time": "2027-01-01T12:00:00+00:00",
    }
    assert (weekly["max_concurrency"], weekly["no_catchup"], weekly["service_account"]) == (
        "2",
        False,
        "trainer",
    )
    assert [experiment["display_name"] for experiment in kfp_api.experiments.values()] == [
        "gradsift",
        "weeklies",
    ]


def test_apply_again_changes_nothing(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    path = file(NIGHTLY, {**WEEKLY, "enabled": False})
    gradsift("schedule", "apply", "-f", path)
    before = dict(kfp_api.recurring_runs)
    kfp_api.requests.clear()
    kfp_api.max_page_size = 1
    code, output, _ = gradsift("schedule", "apply", "-f", path)
    assert (code, output) == (
        0,
        "nightly: unchanged (0 0 2 * * * UTC)\nweekly: unchanged (30 0 4 * * sun UTC)\n",
    )
    assert kfp_api.recurring_runs == before
    assert writes(kfp_api) == []
    assert _state(kfp_api) == [
        ("nightly", "0 0 2 * * *", "ENABLED"),
        ("weekly", "30 0 4 * * sun", "DISABLED"),
    ]


def test_a_changed_schedule_is_replaced_and_never_there_twice(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY))
    enabled = []
    kfp_api.before = lambda request: enabled.append(
        sum(run["status"] == "ENABLED" for run in kfp_api.recurring_runs.values())
    )
    _, output, _ = gradsift("schedule", "apply", "-f", file({**NIGHTLY, "cron": "0 3 * * *"}))
    assert output == "nightly: replaced (0 0 3 * * * UTC)\n"
    assert _state(kfp_api) == [("nightly", "0 0 3 * * *", "ENABLED")]
    assert set(enabled) == {0, 1}


@pytest.mark.parametrize("removed", [True, False])
def test_a_run_that_has_started_goes_on(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str], removed: bool
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY))
    (old,) = kfp_api.recurring_runs
    run = kfp_api.fire(old)
    path = file() if removed else file({**NIGHTLY, "cron": "0 3 * * *"})
    code, output, _ = gradsift("schedule", "apply", "-f", path)
    assert (code, output) == (0, f"nightly: {'deleted' if removed else 'replaced (0 0 3 * * * UTC)'}\n")
    assert _state(kfp_api) == ([] if removed else [("nightly", "0 0 3 * * *", "ENABLED")])
    assert ends(kfp_host, kfp_api, run) == "SUCCEEDED"


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("enabled", [True, False])
def test_a_change_that_a_restart_loses_is_made_again(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str], enabled: bool, lost: int
) -> None:
    gradsift("schedule", "apply", "-f", file({**NIGHTLY, "enabled": not enabled}))
    kfp_api.lost_switches = lost
    word = "enabled" if enabled else "disabled"
    code, output, errors = gradsift("schedule", "apply", "-f", file({**NIGHTLY, "enabled": enabled}))
    assert (code, errors) == (0, "")
    assert output == f"nightly: {word} (0 0 2 * * * UTC)\n" * (lost + 1)
    assert _state(kfp_api) == [("nightly", "0 0 2 * * *", word.upper())]


def test_a_server_that_loses_every_change_is_reported(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    kfp_api.lost_switches = 100
    code, _, errors = gradsift("schedule", "apply", "-f", file(NIGHTLY, {**WEEKLY, "enabled": False}))
    assert code == 2
    assert errors == (
        f"Error: Kubeflow Pipelines at {kfp_host} does not keep the recurring runs of nightly as they were set "
        "(4 tries): expected an API server that is not restarting; apply the file again then.\n"
    )


def test_a_run_that_starts_at_the_last_moment_is_orphaned(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY))

    def start(request: str) -> None:
        if request.startswith("DELETE "):
            recurring_run_id = request.split("/")[-1]
            kfp_api.recurring_runs[recurring_run_id]["status"] = "ENABLED"
            kfp_api.fire(recurring_run_id)

    kfp_api.before = start
    gradsift("schedule", "apply", "-f", file())
    assert kfp_api.recurring_runs == {}
    (run,) = kfp_api.runs
    assert ends(kfp_host, kfp_api, run) == "SUCCEEDED"


def test_a_schedule_is_disabled_and_enabled_without_being_replaced(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY))
    (old,) = kfp_api.recurring_runs
    for enabled, word in ((False, "disabled"), (True, "enabled")):
        _, output, _ = gradsift("schedule", "apply", "-f", file({**NIGHTLY, "enabled": enabled}))
        assert output == f"nightly: {word} (0 0 2 * * * UTC)\n"
        assert list(kfp_api.recurring_runs) == [old]
        assert kfp_api.recurring_runs[old]["status"] == word.upper()


def test_only_what_came_from_the_file_is_deleted(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    """Not those of another owner, one made by hand, one that copies a mark, or one with an interval."""
    gradsift("schedule", "apply", "-f", file(NIGHTLY, owner="others"))
    gradsift("schedule", "apply", "-f", file(NIGHTLY, WEEKLY))
    _, nightly, _ = kfp_api.recurring_runs.values()
    by_hand = {key: value for key, value in nightly.items() if key != "recurring_run_id"}
    kfp_api._new(kfp_api.recurring_runs, "recurring_run_id", {**by_hand, "description": "mine"})
    kfp_api._new(kfp_api.recurring_runs, "recurring_run_id", {**by_hand, "display_name": "Clone of nightly"})
    periodic = {**by_hand, "description": "", "trigger": {"periodic_schedule": {"interval_second": "60"}}}
    kfp_api._new(kfp_api.recurring_runs, "recurring_run_id", periodic)
    kept = [id for id in kfp_api.recurring_runs if id not in {*list(kfp_api.recurring_runs)[1:3]}]
    _, output, _ = gradsift("schedule", "apply", "-f", file())
    assert output == "nightly: deleted\nweekly: deleted\n"
    assert list(kfp_api.recurring_runs) == kept


def test_a_new_pipeline_replaces_all(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline, file: Callable[..., str]
) -> None:
    changed = CompiledPipeline(compiled_pipeline.yaml.replace("image: ", "image: other/"))
    schedules, kubeflow = read_schedules(Path(file(NIGHTLY, WEEKLY))), open_kubeflow(kfp_host, None)
    list(apply(kubeflow, schedules, compiled_pipeline))
    actions = [change.action for change in apply(kubeflow, schedules, changed)]
    assert actions == ["replace", "replace"]
    assert len(kfp_api.recurring_runs) == 2
    newest = list(kfp_api.versions)[-1]
    assert {
        run["pipeline_version_reference"]["pipeline_version_id"] for run in kfp_api.recurring_runs.values()
    } == {newest}


def _apply_at_once(
    host: str, compiled_pipeline: CompiledPipeline, schedules: ScheduleFile
) -> list[Exception]:
    """Let two engineers apply a file at once; return what went wrong for them."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            list(apply(open_kubeflow(host, None), schedules, compiled_pipeline))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.parametrize("seed", range(10))
def test_two_engineers_who_apply_at_once_end_with_one_set(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline, file: Callable[..., str], seed: int
) -> None:
    if seed % 2:
        before = read_schedules(Path(file({**NIGHTLY, "cron": "0 5 * * *"}, WEEKLY)))
        list(apply(open_kubeflow(kfp_host, None), before, compiled_pipeline))
    schedules = read_schedules(Path(file(NIGHTLY, {**WEEKLY, "enabled": False})))
    pauses = random.Random(seed)
    kfp_api.before = lambda request: time.sleep(pauses.random() / 100)
    assert _apply_at_once(kfp_host, compiled_pipeline, schedules) == []
    assert _state(kfp_api) == [
        ("nightly", "0 0 2 * * *", "ENABLED"),
        ("weekly", "30 0 4 * * sun", "DISABLED"),
    ]


def test_two_engineers_who_make_the_same_end_with_one(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline, file: Callable[..., str]
) -> None:
    """Both have looked and found nothing before either makes it."""
    barrier = threading.Barrier(2)

    def meet(request: str) -> None:
        if request == "POST /recurringruns":
            barrier.wait(5)

    kfp_api.before = meet
    assert _apply_at_once(kfp_host, compiled_pipeline, read_schedules(Path(file(NIGHTLY)))) == []
    assert kfp_api.requests.count("POST /recurringruns") == 2
    assert _state(kfp_api) == [("nightly", "0 0 2 * * *", "ENABLED")]


def test_a_recurring_run_that_another_engineer_deletes_before_it_is_enabled(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    """The other one made the same with a smaller id, after the first had looked for duplicates."""

    def replace(request: str) -> None:
        if request.endswith(":enable"):
            (run,) = kfp_api.recurring_runs.values()
            kfp_api.recurring_runs.clear()
            kfp_api._new(kfp_api.recurring_runs, "recurring_run_id", {**run, "status": "ENABLED"})

    kfp_api.before = replace
    assert gradsift("schedule", "apply", "-f", file(NIGHTLY))[::2] == (0, "")
    assert _state(kfp_api) == [("nightly", "0 0 2 * * *", "ENABLED")]


def test_an_apply_that_broke_off_anywhere_is_completed_by_the_next(
    kfp_api: KfpApi, kfp_host: str, compiled_pipeline: CompiledPipeline, file: Callable[..., str]
) -> None:
    before = read_schedules(Path(file(NIGHTLY, WEEKLY)))
    after = read_schedules(Path(file({**NIGHTLY, "cron": "0 3 * * *"}, {**WEEKLY, "name": "other"})))
    kubeflow = open_kubeflow(kfp_host, None)
    broken = 0
    while True:
        kfp_api.recurring_runs.clear()
        list(apply(kubeflow, before, compiled_pipeline))
        kfp_api.faults = [None] * broken + [400]
        try:
            list(apply(kubeflow, after, compiled_pipeline))
        except InputError:
            broken += 1
        else:
            break
        list(apply(kubeflow, after, compiled_pipeline))
        assert _state(kfp_api) == [
            ("nightly", "0 0 3 * * *", "ENABLED"),
            ("other", "30 0 4 * * sun", "ENABLED"),
        ]
    assert broken > 12


def test_an_api_that_is_down_for_a_while_is_outlasted(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    kfp_api.faults = [None, 503, 503, None, 503] * 8
    assert gradsift("schedule", "apply", "-f", file(NIGHTLY, WEEKLY))[::2] == (0, "")
    assert len(kfp_api.recurring_runs) == 2
