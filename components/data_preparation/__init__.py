"""The step `data_preparation`: a task suite becomes checked, cleaned Arrow splits."""
