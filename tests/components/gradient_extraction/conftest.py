"""Fixtures for what extracts gradients, in this process and through a cluster."""

from doubles.trainer_fixtures import cluster, in_cluster, nodes, trainer_api
from extracted_store import data, finished, model, one_thread

__all__ = ["cluster", "data", "finished", "in_cluster", "model", "nodes", "one_thread", "trainer_api"]
