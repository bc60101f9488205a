"""Which subset is chosen by its estimated loss, and the simple choices that it is compared with."""
