"""Reads, checks and mixes lines of text, and adds noise. Independent of models."""
