"""The live table, drawn from recorded events."""

import pytest
from rich.console import Console

from gradsift.pipelines.live_table import found_nothing_new, read_states, render, summary_lines

NOW = 1_700_000_000.0
EVENTS = {
    "preflight": [
        {"time": NOW - 1, "event": "start", "step": "preflight", "params": {}},
        {"time": NOW, "event": "end", "status": "finished", "seconds": 1.0},
    ],
    "data_preparation": [
        {"time": NOW, "event": "start", "step": "data_preparation", "params": {}},
        {"time": NOW + 2, "event": "metric", "values": {"tasks": 12.0, "train_rows": 2950.0}},
        {"time": NOW + 2, "event": "end", "status": "reused", "seconds": 2.0},
    ],
    "meta_training": [
        {"time": NOW + 2, "event": "start", "step": "meta_training", "params": {}},
        {"time": NOW + 12, "event": "progress", "done": 50, "total": 200, "unit": "steps"},
        {"time": NOW + 12, "event": "metric", "values": {"train_loss": 0.5}, "step": 50},
    ],
}


def drawn(events: dict[str, list[dict[str, object]]], since: float = 0.0) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render(read_states(events, since), NOW))
    return console.export_text()


def test_each_step_is_a_line_with_state_time_rate_and_key_numbers() -> None:
    lines = drawn(EVENTS).splitlines()
    assert len(lines) == 12
    assert "preflight" in lines[0]
    assert "✓" in lines[1]
    assert "reused" in lines[1]
    assert "12 tasks, 2,950 train rows" in lines[1]
    assert "50/200 steps, 5.0/s, 0:30 left" in lines[2]
    assert "loss 0.500" in lines[2]
    assert all("·" in line for line in lines[3:11])


def test_a_failure_shows_its_sentence() -> None:
    failed = {
        "meta_training": [
            {"time": NOW, "event": "start", "params": {}},
            {
                "time": NOW + 3,
                "event": "end",
                "status": "failed",
                "seconds": 3.0,
                "error": "The base model 'x' was not found.",
                "kind": "InputError",
                "input_error": True,
            },
        ]
    }
    assert "The base model 'x' was not found." in drawn(failed)
    assert read_states(failed)["meta_training"].input_error


def test_events_of_an_earlier_try_do_not_count() -> None:
    states = read_states(EVENTS, since=NOW + 1)
    assert states["data_preparation"].status in {"waiting", "reused"}
    assert states["meta_training"].status == "running"
    assert read_states(EVENTS, since=NOW + 100)["meta_training"].status == "waiting"


def test_a_plain_line_for_each_ended_step() -> None:
    assert summary_lines(read_states(EVENTS)) == [
        "finished   0:01  preflight",
        "reused     0:02  prepare data       12 tasks, 2,950 train rows",
    ]


def calibrated(
    *groups: dict[str, object], runs: int = 10, planned: int = 4
) -> dict[str, list[dict[str, object]]]:
    """Return the events of a run with calibration runs in so many groups, of which these have begun."""
    plan = [
        {"time": NOW, "event": "start", "params": {}},
        {"time": NOW, "event": "metric", "values": {"groups": float(planned)}},
        {"time": NOW, "event": "end", "status": "finished", "seconds": 1.0},
    ]
    params = {"calibrate_runs": runs, "confirm_runs": 0}
    started = {"time": NOW, "event": "start", "params": params}
    events: dict[str, list[dict[str, object]]] = {**EVENTS, "pipeline": [started], "calibration-plan": plan}
    for number, end in enumerate(groups):
        begin = {"time": NOW + 10 * number, "event": "start", "params": {}}
        trained = {"time": NOW + 10 * number, "event": "metric", "values": {"runs": 3.0}}
        ends = (
            [trained, {"time": NOW + 10 * number + 8, "event": "end", "seconds": 8.0, **end}] if end else []
        )
        events[f"calibration-{number}"] = [begin, *ends]
    return events


DONE: dict[str, object] = {"status": "finished"}
REUSED: dict[str, object] = {"status": "reused"}


def test_calibration_is_a_line_where_it_was_asked_for() -> None:
    assert "calibration" not in read_states(calibrated(runs=0))
    assert list(read_states(calibrated(DONE)))[3:6] == [
        "gradient_extraction",
        "calibration",
        "subset_estimation",
    ]


def test_a_run_that_confirms_its_choice_has_two_rounds_and_the_choice() -> None:
    assert list(read_states(EVENTS))[3:9] == [
        "gradient_extraction",
        "calibration",
        "subset_estimation",
        "finalists",
        "choice",
        "target_finetuning",
    ]


@pytest.mark.parametrize(
    ("params", "chooses"),
    [
        ({"fine_tune_scopes": ["all"], "fine_tune_rates": []}, False),
        ({"fine_tune_scopes": ["late"], "fine_tune_rates": [1e-4]}, False),
        ({"fine_tune_scopes": ["all", "late"], "fine_tune_rates": []}, True),
        ({"fine_tune_scopes": ["all"], "fine_tune_rates": [1e-4, 1e-3]}, True),
    ],
)
def test_a_choice_of_layers_is_a_line_where_there_is_one(params: dict[str, object], chooses: bool) -> None:
    states = list(read_states({**EVENTS, "preflight": [{**EVENTS["preflight"][0], "params": params}]}))
    assert ("scope_sweep" in states) is chooses
    if chooses:
        assert states.index("scope_sweep") == states.index("target_finetuning") - 1


def test_calibration_runs_until_its_last_group_has_ended() -> None:
    state = read_states(calibrated(DONE, {}))["calibration"]
    assert state.status == "running"
    assert "1/4 groups" in drawn(calibrated(DONE, {}))
    done = read_states(calibrated(DONE, DONE, REUSED, DONE))["calibration"]
    assert (done.status, done.seconds, done.numbers) == ("finished", 38.0, {"runs": 12.0})
    assert read_states(calibrated(*[REUSED] * 4))["calibration"].status == "reused"
    assert read_states(calibrated(), since=NOW + 100)["calibration"].status == "waiting"


def test_one_group_shows_its_own_progress() -> None:
    events = calibrated({}, planned=1)
    events["calibration-0"].append(
        {"time": NOW + 10, "event": "progress", "done": 30, "total": 240, "unit": "steps"}
    )
    assert "30/240 steps" in drawn(events)


def test_comparisons_are_a_line_between_the_final_model_and_the_evaluation() -> None:
    events = calibrated(DONE, DONE, planned=2, runs=0)
    renamed = {name.replace("calibration", "comparisons"): log for name, log in events.items()}
    states = read_states(renamed)
    assert list(states)[-3:] == ["target_finetuning", "comparisons", "evaluation"]
    assert (states["comparisons"].status, states["comparisons"].numbers) == ("finished", {"runs": 6.0})


def test_a_failed_group_fails_calibration() -> None:
    failed = {"status": "failed", "error": "The loss is not finite.", "input_error": False}
    state = read_states(calibrated(DONE, failed))["calibration"]
    assert (state.status, state.error) == ("failed", "The loss is not finite.")


def registering(changed: float) -> dict[str, list[dict[str, object]]]:
    """Return the events of a run that registers its model, up to the look for news."""
    started = {"time": NOW, "event": "start", "params": {"promote_model_name": "reviews"}}
    freshness = [
        {"time": NOW, "event": "start", "params": {}},
        {"time": NOW, "event": "metric", "values": {"changed": changed}},
        {"time": NOW, "event": "end", "status": "finished", "seconds": 1.0},
    ]
    before = {name: EVENTS[name] for name in ("preflight", "data_preparation")}
    return {**before, "pipeline": [started], "freshness": freshness}


def test_a_run_that_registers_looks_for_news_first_and_promotes_last() -> None:
    states = read_states(registering(changed=1.0))
    assert list(states)[1:4] == ["data_preparation", "freshness", "meta_training"]
    assert list(states)[-2:] == ["evaluation", "promotion"]
    assert not found_nothing_new(states)
    assert "freshness" not in read_states(EVENTS)


def test_a_run_without_news_has_no_steps_after_the_look() -> None:
    states = read_states(registering(changed=0.0))
    assert list(states) == ["preflight", "data_preparation", "freshness"]
    assert found_nothing_new(states)


def test_the_cut_of_sources_is_a_line_where_it_is_asked_for() -> None:
    cut = {
        "preflight": [{**EVENTS["preflight"][0], "params": {"extract_cluster_sources": 2}}],
        "source_clusters": [
            {"time": NOW, "event": "start", "params": {}},
            {"time": NOW, "event": "metric", "values": {"clusters": 6.0}},
        ],
    }
    assert "cut sources" not in drawn(EVENTS)
    [line] = [line for line in drawn(EVENTS | cut).splitlines() if "cut sources" in line]
    assert "6 clusters" in line
