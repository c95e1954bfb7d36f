"""From a `.nemo` to formats that are served without NeMo."""
