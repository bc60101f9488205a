"""What two or more steps need: storage, prepared data, models, training, the gradient store, tracking."""
