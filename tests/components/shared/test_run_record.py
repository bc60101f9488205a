"""What is read back of a run's steps."""

from pathlib import Path

import pytest

from gradsift.components.shared.run_record import run_settings
from gradsift.components.shared.tracking import track_step


def test_settings_are_those_of_steps_and_not_of_their_parts_nor_of_the_preflight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    given = {
        "preflight": {"meta_epochs": 2.0},
        "gradient_extraction-0": {},
        "gradient_extraction": {"seed": 1},
    }
    for step, settings in given.items():
        with track_step(step, str(tmp_path), settings):
            pass
    settings, seconds = run_settings(str(tmp_path), "run-1")
    assert settings == {"gradient_extraction": {"seed": 1}}
    assert seconds.keys() == given.keys()
