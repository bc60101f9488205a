"""How the steps are wired: the pipeline, its compiled YAML and the command line."""
