"""A .nemo opened safely, its tokenizers, and what NeMo 2.x needs to load those of NeMo 1.x."""
