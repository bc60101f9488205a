"""What is taken out of a suite's rows: duplicates, leaks, rows that do not fit the model."""
