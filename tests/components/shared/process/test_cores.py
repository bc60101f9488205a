"""A process counts the cores that it may use, not those of the machine."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky.backend import context  # type: ignore[import-untyped]

from gradsift.components.shared.process.cores import cores_per_process


def test_the_affinity_limits_the_cores() -> None:
    program = (
        "import os; from gradsift.components.shared.process.cores import cores_per_process as cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(cores(), cores(3))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("250000 100000", 3), ("max 100000", 12)])
def test_the_quota_of_the_container_limits_the_cores(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    exists = os.path.exists

    def opened(path: Any, *rest: Any) -> Any:
        return (tmp_path / "cpu.max").open() if path == "/sys/fs/cgroup/cpu.max" else Path(path).open(*rest)

    monkeypatch.setattr(context, "open", opened, raising=False)
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/sys/fs/cgroup/cpu.max" or exists(path))
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    assert cores_per_process() == cores
    assert cores_per_process(5) == max(1, cores // 5)
