"""What the estimators need of a gradient store, as arrays in memory."""
