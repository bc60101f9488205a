"""What the step writes: the choice with its reasons, and the chosen rows for other trainers."""
