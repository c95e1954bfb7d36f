"""Exports a `.nemo` to formats that run without NeMo."""
