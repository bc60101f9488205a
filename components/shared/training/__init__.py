"""One training job: from a recipe to weights, in DeepSpeed processes that continue after a kill."""
