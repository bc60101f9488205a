"""The gradient store: checksummed shards of projected gradients under a manifest."""
