"""Files by key: on the local disk or in an object store."""
