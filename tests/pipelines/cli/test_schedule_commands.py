"""`gradsift schedule diff`, `list` and `delete`, by the real kfp client against a double of the API."""

from collections.abc import Callable

import pytest
from doubles.kfp_api_double import KfpApi
from doubles.schedules import NIGHTLY, WEEKLY, ends, writes

from gradsift.pipelines.cli import schedule_commands
from gradsift.pipelines.kubeflow.objects import CompiledPipeline

CommandLine = Callable[..., tuple[int, str, str]]


def test_diff_says_what_apply_would_do_and_does_nothing(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY, WEEKLY, {**NIGHTLY, "name": "same"}))
    kfp_api.requests.clear()
    changed = {
        **WEEKLY,
        "cron": "0 5 * * *",
        "parameters": {"meta_seed": 3},
        "experiment": "new",
        "no_catchup": False,
    }
    path = file(
        {**NIGHTLY, "enabled": False}, changed, {**NIGHTLY, "name": "fresh"}, {**NIGHTLY, "name": "same"}
    )
    code, output, errors = gradsift("schedule", "diff", "-f", path)
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "nightly: disable (0 0 2 * * * UTC)",
        "weekly: replace (0 0 5 * * * UTC)",
        "    cron: 30 0 4 * * sun -> 0 0 5 * * *",
        "    no_catchup: True -> False",
        "    experiment: gradsift -> new",
        "    target: mr -> sst2",
        "    meta_seed: 0 -> 3",
        "fresh: create (0 0 2 * * * UTC)",
        "same: keep (0 0 2 * * * UTC)",
    ]
    assert writes(kfp_api) == []


def test_list_shows_all_recurring_runs(
    kfp_api: KfpApi,
    kfp_host: str,
    gradsift: CommandLine,
    file: Callable[..., str],
    compiled_pipeline: CompiledPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(schedule_commands.console, "width", 160)
    gradsift("schedule", "apply", "-f", file(NIGHTLY))
    (run,) = kfp_api.recurring_runs.values()
    kfp_api._new(kfp_api.recurring_runs, "recurring_run_id", {"display_name": "[x]", "status": "DISABLED"})
    code, output, _ = gradsift("schedule", "list")
    rows = [line.split() for line in output.splitlines()]
    id = run["recurring_run_id"]
    assert code == 0
    assert " ".join(rows[1]) == f"nightly enabled 0 0 2 * * * gradsift {compiled_pipeline.version} {id}"
    assert rows[2][:5] == ["[x]", "disabled", "-", "-", "-"]


def test_delete_by_name_and_by_file(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file({**NIGHTLY, "name": "a"}, {**NIGHTLY, "name": "b"}, WEEKLY))
    assert gradsift("schedule", "delete", "weekly") == (0, "weekly: deleted\n", "")
    code, output, _ = gradsift("schedule", "delete", "-f", file({**NIGHTLY, "name": "a"}))
    assert (code, output) == (0, "a: deleted\n")
    (last,) = kfp_api.recurring_runs
    run = kfp_api.fire(last)
    assert gradsift("schedule", "delete", "b") == (0, "b: deleted\n", "")
    assert kfp_api.recurring_runs == {}
    assert ends(kfp_host, kfp_api, run) == "SUCCEEDED"


def test_delete_refuses_what_it_cannot_tell_apart(
    kfp_api: KfpApi, kfp_host: str, gradsift: CommandLine, file: Callable[..., str]
) -> None:
    gradsift("schedule", "apply", "-f", file(NIGHTLY, owner="ann"))
    gradsift("schedule", "apply", "-f", file(NIGHTLY, owner="bob"))
    assert gradsift("schedule", "delete", "nightly")[::2] == (
        2,
        "Error: The owners ann, bob each have a schedule 'nightly': expected -f.\n",
    )
    assert gradsift("schedule", "delete", "x")[::2] == (
        2,
        "Error: There is no schedule 'x' to delete: see `gradsift schedule list`.\n",
    )
    assert gradsift("schedule", "delete")[0] == gradsift("schedule", "delete", "x", "-f", "y")[0] == 2
    assert len(kfp_api.recurring_runs) == 2
