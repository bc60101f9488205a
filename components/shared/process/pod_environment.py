"""The environment of a pod: its mounted Secret and settings as variables, and the number of its GPUs."""

import os
import re
from pathlib import Path

MOUNTS = "/etc/gradsift"
"""Folder of the mounts, each a folder with a file per variable."""
GPUS = "GRADSIFT_GPUS"
"""Environment variable with the number of GPUs that the run's settings give to a pod; unset on a laptop."""


def load_mounted_environment(folder: Path = Path(MOUNTS)) -> None:
    """Set a variable for each file in the folders of `folder`, in place of what the image has set."""
    for file in sorted(folder.glob("*/*")):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", file.name) and file.is_file():
            os.environ[file.name] = file.read_text()


def given_gpus() -> int:
    """Return how many GPUs the run's settings give to this pod; 0 where they give none, or do not say."""
    return int(os.environ.get(GPUS) or 0)
