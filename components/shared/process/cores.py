"""How many cores a process may use: fewer than the machine has, in a container or with a CPU affinity."""

from joblib import cpu_count  # type: ignore[import-untyped]


def cores_per_process(processes: int = 1) -> int:
    """Return how many cores each of `processes` on this machine gets, at least 1.

    The container's CPU quota, rounded up, and the CPU affinity limit the number of cores.
    """
    return max(1, int(cpu_count()) // processes)
