"""A step that does not see its GPUs stops, and one whose GPU others fill says so."""

import weakref

import pytest
import torch

from gradsift.components.shared.errors import GpuMemoryError, InputError
from gradsift.components.shared.process.gpus import check_gpus, gpu_memory_errors

GIB = 2**30
GPU = torch.device("cuda", 1)


@pytest.mark.parametrize(("expected", "seen"), [(0, 0), (0, 2), (2, 2), (1, 2)])
def test_enough_gpus_are_fine(monkeypatch: pytest.MonkeyPatch, expected: int, seen: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    check_gpus(expected)


def test_missing_gpus_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        InputError, match=r"^This step was given 2 GPUs by the run's settings but sees 1: "
    ) as e:
        check_gpus(2)
    for words in ("device plugin", "gpu_type", "platform_node_selector", "is built for"):
        assert words in str(e.value)


def test_gpus_that_the_driver_cannot_use_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"given 2 GPUs .* but sees 0"):
        check_gpus(2)


def memory(monkeypatch: pytest.MonkeyPatch, free: float, own: float) -> None:
    """Make a GPU of 80 GiB with so many GiB free and so many held by this process."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * GIB), 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(own * GIB))


def test_memory_that_others_hold_is_told_from_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, free=0, own=40)
    message = r"^The memory of GPU 1 is full, and other processes hold a part of it\.$"
    with pytest.raises(GpuMemoryError, match=message), gpu_memory_errors(GPU, "Too large."):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    memory(monkeypatch, free=0.5, own=78)
    with pytest.raises(InputError, match=r"^Too large\.$"), gpu_memory_errors(GPU, "Too large."):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_gpu_without_room_to_begin_with_is_filled_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def mem_get_info(device: torch.device) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    with pytest.raises(GpuMemoryError), gpu_memory_errors(GPU, "Too large."):
        raise RuntimeError("CUDA error: out of memory")


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), gpu_memory_errors(GPU, "Too large."):
        raise RuntimeError("shapes differ")


def test_what_the_block_held_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, free=0, own=0)
    held: list[weakref.ref[torch.nn.Module]] = []

    def work() -> None:
        model = torch.nn.Linear(2, 2)
        held.append(weakref.ref(model))
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(GpuMemoryError) as caught, gpu_memory_errors(GPU, "Too large."):
        work()
    assert held[0]() is None, f"{caught.value!r} keeps it alive"
