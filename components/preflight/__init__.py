"""Everything that can be known to be wrong before data is read and GPUs are spent, said at once."""
