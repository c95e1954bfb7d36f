"""Translation with a trained model: search with cached decoder states, and a common interface for all engines."""
