"""The container images that components run in: one place, one release tag.

For a registry of one's own, or to pin digests, set GRADSIFT_CPU_IMAGE and GRADSIFT_TRAIN_IMAGE where the pipeline
is compiled or submitted, for instance to `registry.example.com/gradsift/cpu@sha256:...`.
"""

import os

CPU_IMAGE = os.environ.get("GRADSIFT_CPU_IMAGE") or "gradsift/cpu:0.1.0"
TRAIN_IMAGE = os.environ.get("GRADSIFT_TRAIN_IMAGE") or "gradsift/train:0.1.0"
