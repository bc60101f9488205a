"""Checkpoints of a training: when they are made, where they are kept, and which one it goes on from."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gradsift.components.shared.training.deepspeed_compat import CHECKPOINT_CLASSES
from gradsift.components.shared.training.progress import WHOLE, TrainingProgress


def refuse_pickled_code() -> None:
    """Let checkpoints hold numbers and the classes of ZeRO's state alone, whatever a library asks `torch.load` for.

    Who may write where checkpoints are kept could otherwise run code in the training.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    torch.serialization.add_safe_globals([*CHECKPOINT_CLASSES])


class CheckpointCallback(TrainerCallback):
    """Makes checkpoints that a killed training continues from as if nothing had happened.

    Attributes:
        stopped: whether the training ended early, with a checkpoint, as a process got SIGTERM.
    """

    def __init__(self, job: str, progress: TrainingProgress | None) -> None:
        self.job = job
        self.progress = progress
        self.stopped = False
        self._signalled = False

    def on_train_begin(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Let SIGTERM, which a pod gets before it is evicted, end the training at a step's end."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        """Let SIGTERM end the process at once, as before."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, *_: Any) -> None:
        self._signalled = True

    def _any_signalled(self, args: TrainingArguments) -> bool:
        """Return the same in every process, as all have to make the checkpoint together."""
        if args.world_size == 1:
            return self._signalled
        signalled = torch.tensor(float(self._signalled), device=args.device)
        torch.distributed.all_reduce(signalled, torch.distributed.ReduceOp.MAX)
        return bool(signalled)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log with every checkpoint, for the running mean loss is not saved; skip that of the last step."""
        if self._any_signalled(args) and state.global_step < state.max_steps:
            self.stopped = control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps:
            control.should_save, control.should_log = False, True
        elif control.should_save:
            control.should_log = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Mark the checkpoint once every process has written its part, here or where progress is kept."""
        torch.distributed.barrier()
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        if self.progress is None:
            (folder / WHOLE).touch()
            return
        if args.local_process_index == 0:
            self.progress.save_checkpoint(self.job, args.world_size, folder)
            shutil.rmtree(folder)
        torch.distributed.barrier()
        if args.process_index == 0:
            self.progress.seal_checkpoint(self.job, args.world_size, folder.name)

    def last_checkpoint(self, args: TrainingArguments) -> str | None:
        """Return the newest checkpoint that no kill cut short, of any machine where progress is kept."""
        folder = Path(str(args.output_dir))
        if self.progress is not None:
            if args.local_process_index == 0:
                self.progress.fetch_checkpoint(self.job, args.world_size, folder)
            torch.distributed.barrier()
        whole = [path.parent for path in folder.glob(f"checkpoint-*/{WHOLE}")]
        return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None
