"""The kernel report: whether fine-tuning kept to first order, after Malladi et al. 2023."""
