"""How good and how large a model is; nothing here needs NeMo."""
