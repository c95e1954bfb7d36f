"""Evaluates the quality, size and speed of models. Importing it does not import NeMo."""
