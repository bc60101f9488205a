"""The steps of the pipeline, one package a step, and what they share."""
