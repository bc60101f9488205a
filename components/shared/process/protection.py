"""What every process of gradsift does first, to show no credentials and run no code of the current folder."""

import os

from gradsift.components.shared.credentials import redact_output

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Environment variable that keeps Python from importing modules that lie in the current folder."""


def protect_process() -> None:
    """Redact the output of this process, and keep its child processes from importing from the current folder."""
    redact_output()
    os.environ.update(SAFE_PATH)
