"""Scores with signatures, and significance tests of score differences."""
