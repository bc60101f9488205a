"""How the store's shards are divided among pods and processes, and written."""
