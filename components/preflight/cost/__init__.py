"""What a run will cost, counted before it starts."""
