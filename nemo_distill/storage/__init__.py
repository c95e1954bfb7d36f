"""Files that appear whole or not at all, locks, shards, and records of what was made from what."""
