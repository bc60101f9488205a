"""What steps write down for others to read: losses, selections, evaluations, one file format each."""
