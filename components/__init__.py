"""The steps of the pipeline and what they share. In a pod, its mounted environment is loaded first."""

from gradsift.components.shared.process.pod_environment import load_mounted_environment

load_mounted_environment()
