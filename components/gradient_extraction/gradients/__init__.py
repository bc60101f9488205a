"""Loss, margins, gradients and probes of rows, and what training started from."""
