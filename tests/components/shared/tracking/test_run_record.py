"""What a run's logs say of its steps."""

from pathlib import Path

import pytest

from gradsift.components.shared.tracking.event_log import run_id
from gradsift.components.shared.tracking.run_record import run_settings, step_events
from gradsift.components.shared.tracking.tracking import record_pipeline_start, track_step


def record(root: Path, step: str, **params: object) -> None:
    with track_step(step, str(root), params):
        pass


@pytest.fixture(autouse=True)
def _no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADSIFT_MLFLOW", "off")


def test_each_step_has_its_latest_settings_and_its_seconds(tmp_path: Path) -> None:
    record_pipeline_start(str(tmp_path), {"output_uri": str(tmp_path)})
    record(tmp_path, "data_preparation", rows=1)
    record(tmp_path, "data_preparation", rows=2)
    record(tmp_path, "evaluation", seeds=3)
    settings, seconds = run_settings(str(tmp_path), run_id())
    assert settings == {"data_preparation": {"rows": 2}, "evaluation": {"seeds": 3}}
    assert seconds.keys() == settings.keys()


def test_parts_of_a_step_count_as_one(tmp_path: Path) -> None:
    record(tmp_path, "calibration-plan", runs=3)
    for part in range(2):
        record(tmp_path, f"calibration-{part}", part=part)
    settings, seconds = run_settings(str(tmp_path), run_id())
    assert settings == {"calibration-plan": {"runs": 3}, "calibration": {"part": 0}}
    events = step_events(str(tmp_path), run_id())
    ends = [events[f"calibration-{part}"][-1]["seconds"] for part in range(2)]
    assert seconds["calibration"] == pytest.approx(sum(ends))


def test_the_preflight_and_parts_without_settings_of_their_own_give_none(tmp_path: Path) -> None:
    record(tmp_path, "preflight", meta_epochs=2.0)
    record(tmp_path, "gradient_extraction-0")
    record(tmp_path, "gradient_extraction", seed=1)
    settings, seconds = run_settings(str(tmp_path), run_id())
    assert settings == {"gradient_extraction": {"seed": 1}}
    assert seconds.keys() == {"preflight", "gradient_extraction"}
