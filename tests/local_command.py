"""`gradsift run` as a process, on little data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SMALL = {
    "sources": ["mr", "trec", "mr_flipped"],
    "prepare_max_rows_per_task": 48,
    "meta_epochs": 1.0,
    "extract_dimension": 64,
    "extract_projection_width": 1024,
    "extract_shard_rows": 64,
    "estimate_random_subsets": 20,
    "fine_tune_steps": 4,
    "evaluate_seeds": 1,
    "train_checkpoint_steps": 2,
    "train_precision": "float32",
    "extract_precision": "float32",
}


def command(output: Path | str, base_model: Path, /, **changes: Any) -> list[str]:
    settings = {"base_model": str(base_model), **SMALL, **changes}
    options = [
        f"--set={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    ]
    run = [sys.executable, "-m", "gradsift.pipelines.cli.command_line", "run", "--output", str(output)]
    return [*run, *options]


def call(
    arguments: list[str], mlflow_on: bool = False, folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "GRADSIFT_MLFLOW": "on" if mlflow_on else "off"}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "KFP_RUN_ID", "PYTHONSAFEPATH"):
        environment.pop(name, None)
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, env=environment, timeout=600)
