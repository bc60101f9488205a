"""Finished model -> candidate and perhaps champion of a registered model; unchanged data -> no new model."""
