"""Opens .nemo files safely, reads their tokenizers, and lets NeMo 2.x load files of NeMo 1.x."""
