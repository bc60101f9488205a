"""Estimated losses of subsets: the solvers, their ridge, their errors, and what runs correct in them."""
