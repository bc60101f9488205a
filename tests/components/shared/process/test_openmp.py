"""OpenMP's threads in a process that imports gradsift."""

import os
import subprocess
import sys

import pytest

from gradsift.components.shared.process.openmp import SPIN_COUNT, limit_spinning

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def test_the_library_that_torch_loads_limits_spinning() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", "import gradsift.components, torch"],
        env={**environment, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "ACTIVE")])
def test_what_the_environment_asks_for_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    limit_spinning()
    assert {each: os.environ[each] for each in VARIABLES if each in os.environ} == {name: value}
