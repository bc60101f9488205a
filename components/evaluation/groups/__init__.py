"""How the compared models treat two groups of the target's test rows."""
