"""The registered model in MLflow: its versions, and whether a run has anything to add to them."""
