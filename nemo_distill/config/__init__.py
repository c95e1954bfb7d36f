"""Configuration: typed sections, the known keys of NeMo and Lightning, and error messages."""
