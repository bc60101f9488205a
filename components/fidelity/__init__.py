"""The fidelity study: how close the estimates come to true fine-tunings of the same subsets."""
