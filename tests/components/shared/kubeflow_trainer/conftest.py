"""Fixtures for what trains through a cluster."""

from doubles.trainer_fixtures import cluster, in_cluster, nodes, trainer_api
from launched_step import controllers, data, launch

__all__ = ["cluster", "controllers", "data", "in_cluster", "launch", "nodes", "trainer_api"]
