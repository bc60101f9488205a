"""Prepared data, as every step after preparation reads them."""
