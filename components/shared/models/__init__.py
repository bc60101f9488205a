"""The models: encoders, causal and sequence-to-sequence language models, prompts, LoRA."""
