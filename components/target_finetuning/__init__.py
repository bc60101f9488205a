"""Base model, selected tasks -> the model the user wanted."""
