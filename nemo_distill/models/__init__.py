"""Distillable NeMo models. Import the module of the model that you need; importing it loads NeMo."""
