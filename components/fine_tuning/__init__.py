"""Fine-tuning runs: which ones a pipeline run needs, their training, and the final model, which is one of them."""
