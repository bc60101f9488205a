"""What steps report while they work: a log that needs no server, and MLflow."""
