"""What answers to test rows are worth, with intervals."""
