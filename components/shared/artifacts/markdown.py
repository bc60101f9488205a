"""Texts in Markdown that Kubeflow shows."""

import re

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def escaped(text: str) -> str:
    """Return a text on one line, with every character escaped that Markdown reads as something else."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
