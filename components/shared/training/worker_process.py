"""A training process as `torchrun` starts it: it runs `worker`, which it imports with the garbage collector off.

Torch, Transformers and DeepSpeed are thousands of modules that leave no garbage; looking for some takes a fifth of
the import.
"""

import gc
import sys
from pathlib import Path

from gradsift.components.shared.process.lifeline import hold_lifeline
from gradsift.components.shared.process.protection import protect_process


def main(scratch: Path, uri: str | None = None) -> None:
    """Train the jobs listed in `scratch`.

    Args:
        scratch: folder of the job list, the checkpoints and the events.
        uri: where finished jobs and checkpoints are kept; None where this machine's disk is enough.
    """
    protect_process()
    hold_lifeline()
    gc.disable()
    from gradsift.components.shared.training import worker
    from gradsift.components.shared.training.progress import TrainingProgress

    gc.enable()
    worker.main(scratch, TrainingProgress(uri) if uri else None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
