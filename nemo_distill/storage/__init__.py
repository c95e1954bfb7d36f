"""Atomic file writes, locks, shards, and records of what each result was made from."""
