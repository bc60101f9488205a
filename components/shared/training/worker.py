"""The work of one training process: trains jobs with the Hugging Face Trainer and DeepSpeed."""

import gc
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers import TrainingArguments
from transformers.integrations import unset_hf_deepspeed_config

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import GradsiftError, TrainingError
from gradsift.components.shared.models.frozen_weights import store_base_as_computed
from gradsift.components.shared.models.model_answers import held_out_answers, validation_answers
from gradsift.components.shared.models.model_loading import from_base, open_model
from gradsift.components.shared.models.precision import resolve_precision
from gradsift.components.shared.models.task_model import TaskModel, pretrained_in
from gradsift.components.shared.models.tune_scope import set_trained
from gradsift.components.shared.parameters.training import TrainingRecipe
from gradsift.components.shared.process import outages
from gradsift.components.shared.process.gpus import gpu_memory_errors
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.training.checkpoints import CheckpointCallback, refuse_pickled_code
from gradsift.components.shared.training.covariance_limit import objective_of
from gradsift.components.shared.training.deepspeed_compat import use_gloo_between_cpu_processes
from gradsift.components.shared.training.events import (
    EventCallback,
    EventHandler,
    WrittenRows,
    is_first_process,
)
from gradsift.components.shared.training.example_order import example_order, shares_by_size
from gradsift.components.shared.training.job import RESULT, TrainingJob
from gradsift.components.shared.training.job_trainer import FrozenWeightsCallback, JobTrainer
from gradsift.components.shared.training.micro_batches import (
    ComputedTokens,
    by_length_within_steps,
    computed_tokens,
    lengths_of,
    parts_on_cpu,
)
from gradsift.components.shared.training.objective import (
    ObjectiveCallback,
    collator,
    restore,
    with_columns,
)
from gradsift.components.shared.training.processes import EVENTS, FAILURE, JOBS, failure_of
from gradsift.components.shared.training.progress import CHECKPOINTS, TrainingProgress
from gradsift.components.shared.training.sampling.shares import fetch_start, round_shares
from gradsift.components.shared.training.sharding import Sharding, choose_sharding
from gradsift.components.shared.training.tokenised_rows import tokenised_rows

NO_ROOM = (
    "The training does not fit into the GPU's memory: expected a smaller micro_batch_size, max_length or base "
    "model, gradient_checkpointing, offload or a higher zero_stage, or more or larger GPUs."
)


def main(scratch: Path, progress: TrainingProgress | None) -> None:
    """Train the jobs listed in `scratch`; a user's error goes to `failure.json` there.

    Args:
        scratch: folder of the job list, the checkpoints and the events.
        progress: keeps finished jobs and checkpoints; None where this machine's disk is enough.
    """
    gc.freeze()  # what was imported is no garbage: every collection between jobs would look through it
    jobs = [TrainingJob.from_json(job) for job in json.loads((scratch / JOBS).read_text())]
    datasets.disable_progress_bars()
    use_gloo_between_cpu_processes()
    refuse_pickled_code()
    handler = EventHandler(scratch / EVENTS)
    outages.logger.addHandler(handler)
    try:
        with gpu_memory_errors(_device(), NO_ROOM):
            _train_all(jobs, scratch, progress)
    except GradsiftError as error:
        with atomic_file(scratch / FAILURE) as path:
            path.write_text(json.dumps(failure_of(error)))
        raise SystemExit(2) from error
    finally:
        outages.logger.removeHandler(handler)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _train_all(jobs: list[TrainingJob], scratch: Path, progress: TrainingProgress | None) -> None:
    totals = [_steps(job) for job in jobs]
    written = WrittenRows(scratch / EVENTS, jobs)
    for position, job in enumerate(jobs):
        callback = EventCallback(
            scratch / EVENTS, sum(totals[:position]), sum(totals), _curve_start(job, position)
        )
        if job.round and job.start and progress:
            fetch_start(job.start, progress)
        if job.tasks:
            train_one(job, scratch / CHECKPOINTS / job.folder.name, callback, written, progress)
        else:
            measure_untrained(job, written, progress)
        gc.collect()


def _curve_start(job: TrainingJob, position: int) -> int | None:
    if job.round:
        return job.round.steps_before
    return 0 if position == 0 else None


def _device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


def train_one(
    job: TrainingJob,
    checkpoints: Path,
    callback: EventCallback,
    written: WrittenRows,
    progress: TrainingProgress | None,
) -> None:
    """Train one job, from its last checkpoint where there is one, and leave what is asked for in its folder."""
    started = time.monotonic()
    recipe = job.recipe
    data = PreparedData(job.data)
    unset_hf_deepspeed_config()  # else, after a job under ZeRO-3, the next one's weights load in pieces
    transformers.set_seed(recipe.seed)
    model = from_base(job.model, data) if job.start is None else open_model(job.start)
    sizes = set_trained(model, recipe.scope, job.model.train_embeddings)
    store_base_as_computed(model, recipe.precision)
    sharding = _prepare_memory(model, recipe)
    job = _fitted(job, model, data)
    steps = _steps(job)
    rows = {task: data.task(task).rows["train"] for task in job.tasks}
    arguments = training_arguments(job, sharding, steps, checkpoints)
    with arguments.main_process_first():
        examples = tokenised_rows(model, data, job.tasks)
    if job.round is None:
        shares, seed = shares_by_size(rows, recipe.sampling_exponent), [recipe.seed]
    else:
        device = torch.device("cpu") if sharding.stage == 3 else arguments.device
        shares = round_shares(job, job.round, model, examples, device, progress)
        seed = [recipe.seed, job.round.number]
    order = example_order(rows, shares, steps * recipe.batch_size, seed)
    lengths = lengths_of(examples)
    if arguments.gradient_accumulation_steps > 1:
        order = by_length_within_steps(order, lengths, recipe.batch_size)
    tokens = computed_tokens(order, lengths, arguments.per_device_train_batch_size)
    checkpointing = CheckpointCallback(job.folder.name, progress)
    objective = objective_of(job, model, data)
    trainer = JobTrainer(
        model=model,
        args=arguments,
        train_dataset=with_columns(examples, objective).select(order),
        data_collator=collator(model, objective),
        callbacks=[ObjectiveCallback(objective), checkpointing, callback],
    )
    trainer.may_divide = recipe.micro_batch_size == 0
    trainer.objective = objective
    trainer.add_callback(FrozenWeightsCallback(trainer))
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    checkpoint = checkpointing.last_checkpoint(trainer.args)
    restore(objective, checkpoint)
    output = trainer.train(resume_from_checkpoint=checkpoint)
    if checkpointing.stopped:
        raise SystemExit(128 + signal.SIGTERM)
    if not math.isfinite(output.training_loss):
        raise TrainingError(
            f"The training loss of {job.folder.name} is not finite: expected a smaller learning rate than "
            f"{recipe.learning_rate}."
        )
    trained: TaskModel = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if job.keep_model:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            trained.save(job.folder, state)
    _measure(job, trained.eval(), data, started, written)
    curve = loss_curve(trainer.state.log_history, int(trainer.args.logging_steps), steps)
    counts: dict[str, Any] = tokens._asdict()
    if recipe.scope != "all":
        counts |= dict(zip(("trained_parameters", "parameters_of_all"), sizes, strict=True))
    _finish(job, sharding, steps, rows, counts | objective.result(), curve, progress)
    if trainer.args.local_process_index == 0:
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.free_memory()


def measure_untrained(job: TrainingJob, written: WrittenRows, progress: TrainingProgress | None) -> None:
    """Measure the model that training would start from, a whole one in every process."""
    started = time.monotonic()
    data = PreparedData(job.data)
    unset_hf_deepspeed_config()
    model = from_base(job.model, data) if job.start is None else open_model(job.start)
    _measure(job, model.eval().to(_device()), data, started, written)
    _finish(job, Sharding(0, "none"), 0, {}, ComputedTokens(0, 0)._asdict(), [], progress)


def _measure(
    job: TrainingJob, model: TaskModel, data: PreparedData, started: float, written: Callable[[int], None]
) -> None:
    """Let the model answer the splits asked for, in every process, as ZeRO-3 spreads the weights over all."""
    precision = job.recipe.precision
    if "val" in job.measured:
        val = validation_answers(model, data, precision)
        if is_first_process():
            val.write(job.folder, time.monotonic() - started)
    if "test" in job.measured:
        test = held_out_answers(model, data, precision, written)
        if is_first_process():
            test.write(job.folder)


def _fitted(job: TrainingJob, model: TaskModel, data: PreparedData) -> TrainingJob:
    """Divide the rows of a step on a CPU, whose memory cannot be tried as a GPU's can."""
    if job.recipe.micro_batch_size or torch.cuda.is_available():
        return job
    rows = job.recipe.batch_size // int(os.environ["WORLD_SIZE"])
    longest = job.model.resolved(data.max_length).max_length
    parts = max(job.micro_batches, parts_on_cpu(model, rows, longest))
    return replace(job, micro_batches=parts)


def _prepare_memory(model: TaskModel, recipe: TrainingRecipe) -> Sharding:
    """Let a large model recompute activations, and choose how what it needs is spread."""
    if recipe.recomputes_activations(sum(each.numel() for each in model.parameters())):
        pretrained_in(model).gradient_checkpointing_enable({"use_reentrant": False})
    gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    frozen_bytes = sum(each.nbytes for each in model.parameters() if not each.requires_grad)
    return choose_sharding(recipe, trained, frozen_bytes, int(os.environ["WORLD_SIZE"]), gpu)


def training_arguments(
    job: TrainingJob, sharding: Sharding, steps: int, checkpoints: Path
) -> TrainingArguments:
    """Translate a job's recipe into the Hugging Face Trainer's arguments and DeepSpeed's configuration."""
    recipe = job.recipe
    processes = int(os.environ["WORLD_SIZE"])
    at_once = recipe.rows_at_once(processes, job.micro_batches)
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=recipe.batch_size // processes // at_once,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=max(1, steps // 10),
        lr_scheduler_type="linear",
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=recipe.checkpoint_steps,
        save_total_limit=2,
        seed=recipe.seed,
        data_seed=recipe.seed,
        use_cpu=not torch.cuda.is_available(),
        deepspeed=deepspeed_config(recipe, sharding),
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
        max_grad_norm=1.0,
        ddp_timeout=int(2 * outages.OUTAGE_TIMEOUT_SECONDS),  # one process may wait to save a checkpoint
    )


def deepspeed_config(recipe: TrainingRecipe, sharding: Sharding) -> dict[str, Any]:
    """Return DeepSpeed's configuration; `auto` values are filled in by the Trainer.

    bf16 is computed through DeepSpeed's autocast, with weights, gradients and optimizer states in float32: the
    small steps of a fine-tune would be lost in bf16 weights.
    """
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_allow_untested_optimizer": True,
        **sharding.deepspeed_config(),
    }
    if resolve_precision(recipe.precision) == "bf16":
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return config


def _steps(job: TrainingJob) -> int:
    data = PreparedData(job.data)
    rows = sum(data.task(task).rows["train"] for task in job.tasks)
    return job.recipe.optimizer_steps(rows) if job.tasks else 0


def _finish(
    job: TrainingJob,
    sharding: Sharding,
    steps: int,
    rows: Mapping[str, int],
    found: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
    progress: TrainingProgress | None,
) -> None:
    """Write down how the model was trained, which marks the job as finished.

    `found` are its tokens; the parameters of a part of the layers, if one was trained; and what its objective says.
    """
    if not is_first_process():
        return
    processes = int(os.environ["WORLD_SIZE"])
    result = {
        "tasks": job.tasks,
        "rows": dict(rows),
        "optimizer_steps": steps,
        "examples": steps * job.recipe.batch_size,
        **found,
        "model": job.model.model_dump(),
        "recipe": job.recipe.model_dump(),
        "precision": resolve_precision(job.recipe.precision),
        "processes": processes,
        "micro_batch_size": job.recipe.rows_at_once(processes, job.micro_batches),
        "sharding": asdict(sharding),
        "losses": losses,
    }
    with atomic_file(job.folder / RESULT) as path:
        path.write_text(json.dumps(result, indent=1))
    if progress is not None:
        progress.save_result(job.folder)


def loss_curve(log_history: list[dict[str, float]], every: int, steps: int) -> list[tuple[int, float]]:
    """Return the mean loss since the point before at every `every`-th step and at the last one.

    The history has more entries, each over fewer steps, where checkpoints were made or training was stopped;
    the curve has not, so that it is the same for a training that was interrupted.
    """
    curve = []
    total, logged, last = 0.0, 0, 0
    for entry in log_history:
        if "loss" in entry:
            step = int(entry["step"])
            total, logged = total + entry["loss"] * (step - logged), step
            if step % every == 0 or step == steps:
                curve.append((step, total / (step - last)))
                total, last = 0.0, step
    return curve
