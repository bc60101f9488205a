"""A model computes with the threads that this process is given cores for."""

from collections.abc import Iterator

import pytest
import torch

from gradsift.components.shared.models import threads
from gradsift.components.shared.models.threads import use_given_cores


@pytest.fixture(autouse=True)
def _threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(threads, "cores_per_process", lambda processes: 6 // processes)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("processes", "expected"), [(1, 6), (3, 2)])
def test_processes_share_the_cores(processes: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    use_given_cores(processes)
    assert torch.get_num_threads() == expected


def test_what_the_environment_asks_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    torch.set_num_threads(4)
    use_given_cores()
    assert torch.get_num_threads() == 4
