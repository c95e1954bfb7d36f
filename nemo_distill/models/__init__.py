"""Distillable NeMo models. Import the module of the model: NeMo loads only then."""
