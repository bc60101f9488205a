"""Runs and schedules on Kubeflow Pipelines."""
