"""What the children of the harness would import, imported once in their parent; no threads may start here."""

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT

__all__ = ["DistillableMTEncDecModel", "DistillationModelPT"]
