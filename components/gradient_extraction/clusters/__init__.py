"""How sources are cut into clusters of rows that have like gradients."""
