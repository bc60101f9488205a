"""The random projection from all parameters to d numbers."""
