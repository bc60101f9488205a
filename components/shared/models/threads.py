"""How many threads a model computes with on this machine."""

import os

import torch

from gradsift.components.shared.process.cores import cores_per_process


def use_given_cores(processes: int = 1) -> None:
    """Give torch one thread per core that each of `processes` may use; OMP_NUM_THREADS, where it is set, stays.

    Without it torch takes all cores of the machine, those included that the container's quota withholds.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores_per_process(processes))
