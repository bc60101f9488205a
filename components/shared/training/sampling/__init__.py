"""Meta-training in rounds: before each, a sampler decides how often rows of each task are drawn."""
