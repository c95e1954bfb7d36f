"""A teacher's translations as training text: generated in shards, selected, filtered and written."""
