"""The small documents that people and steps write, YAML and JSON: opened in one place, bounded, plain data only."""
