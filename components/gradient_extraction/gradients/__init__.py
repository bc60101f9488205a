"""Per-example gradients and probes, and the checks that they are right."""
