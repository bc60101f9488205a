"""What the compared models answer to the target's rows."""
