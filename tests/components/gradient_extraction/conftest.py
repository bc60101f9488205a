"""Fixtures for what extracts gradients through a cluster."""

from doubles.trainer_fixtures import cluster, in_cluster, nodes, trainer_api

__all__ = ["cluster", "in_cluster", "nodes", "trainer_api"]
