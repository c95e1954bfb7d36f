"""Distillation losses: plain modules from tensors to a scalar, selectable by `_target_` in a config."""

from nemo_distill.losses.cosine_embedding import CosineEmbeddingLoss
from nemo_distill.losses.kl_divergence import KLDivergenceLoss

__all__ = ["CosineEmbeddingLoss", "KLDivergenceLoss"]
