"""Sketched gradients of single rows: hooks on modules, the projection, and the check against plain autograd."""
