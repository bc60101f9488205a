"""Estimates the target loss of any subset of tasks from a gradient store, and chooses one."""
