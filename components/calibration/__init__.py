"""A few subsets -> their true losses: what the estimates are put on scale with and judged by."""
