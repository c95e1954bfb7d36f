"""Translating with a trained model: search over cached decoder states, and one interface to all engines."""
