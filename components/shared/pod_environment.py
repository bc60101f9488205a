"""The environment of a pod: what its mounted Secret and settings hold becomes environment variables."""

import os
import re
from pathlib import Path

MOUNTS = "/etc/gradsift"
"""Folder of the mounts, each a folder with a file per variable."""


def load_mounted_environment(folder: Path = Path(MOUNTS)) -> None:
    """Set a variable for each file in the folders of `folder`, in place of what the image has set."""
    for file in sorted(folder.glob("*/*")):
        if re.fullmatch(r"[A-Z][A-Z0-9_]*", file.name) and file.is_file():
            os.environ[file.name] = file.read_text()
