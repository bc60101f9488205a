"""All tasks -> theta*: one multitask training run, at whose weights the gradients are taken."""
