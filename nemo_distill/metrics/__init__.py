"""Scores with their signatures, and whether differences of scores are more than chance."""
