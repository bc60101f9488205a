"""Every parameter of the pipeline, declared once: name, type, default, bounds and description."""
