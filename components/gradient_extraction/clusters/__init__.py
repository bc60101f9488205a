"""How sources are cut into clusters of rows with similar gradients."""
