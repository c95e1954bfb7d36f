"""Evaluates the quality, size and speed of models. Nothing here needs NeMo."""
