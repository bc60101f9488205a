"""The steps of the pipeline and what they share. On import, a process takes on its environment (see `process`)."""

from gradsift.components.shared.process.openmp import limit_spinning
from gradsift.components.shared.process.pod_environment import load_mounted_environment

load_mounted_environment()
limit_spinning()
