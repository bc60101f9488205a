"""A fixture for tests of the doubles: compiling a pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

Compile = Callable[[Any], list[dict[str, Any]]]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Return what compiles a pipeline: its specification and its platform's come back."""

    def compile_pipeline(pipeline: Any) -> list[dict[str, Any]]:
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return list(yaml.safe_load_all(path.read_text()))

    return compile_pipeline
