"""The container images that components run in, one place and one release tag, and how a function becomes one.

For a registry of one's own, or to pin digests, set GRADSIFT_CPU_IMAGE and GRADSIFT_TRAIN_IMAGE where the pipeline
is compiled or submitted, for instance to `registry.example.com/gradsift/cpu@sha256:...`.
"""

import os
from collections.abc import Callable
from typing import Any

from kfp import dsl

CPU_IMAGE = os.environ.get("GRADSIFT_CPU_IMAGE") or "gradsift/cpu:0.1.0"
TRAIN_IMAGE = os.environ.get("GRADSIFT_TRAIN_IMAGE") or "gradsift/train:0.1.0"


def component(image: str) -> Callable[[Callable[..., Any]], Any]:
    """Make a function a component of the pipeline, which runs in an image that has all it needs.

    In a task's own process (see `task`), KFP's SDK comes without its compiler, and the function stays as it is.
    """
    if os.environ.get("_KFP_RUNTIME") == "true":
        return lambda function: function
    return dsl.component(base_image=image, install_kfp_package=False)
