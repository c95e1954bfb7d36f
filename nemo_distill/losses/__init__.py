"""Distillation losses. Each maps tensors to a scalar and is selected by `_target_` in the config."""

from nemo_distill.losses.attention_maps import AttentionMapsLoss
from nemo_distill.losses.cosine_embedding import CosineEmbeddingLoss
from nemo_distill.losses.cross_entropy import CrossEntropyLoss
from nemo_distill.losses.jensen_shannon import JensenShannonLoss
from nemo_distill.losses.kl_divergence import KLDivergenceLoss
from nemo_distill.losses.mean_squared_error import MeanSquaredErrorLoss
from nemo_distill.losses.reverse_kl_divergence import ReverseKLDivergenceLoss
from nemo_distill.losses.selective import SelectiveDistillationLoss
from nemo_distill.losses.span_likelihood import SpanLikelihoodLoss
from nemo_distill.losses.top_one_ranking import TopOneRankingLoss

__all__ = [
    "AttentionMapsLoss",
    "CosineEmbeddingLoss",
    "CrossEntropyLoss",
    "JensenShannonLoss",
    "KLDivergenceLoss",
    "MeanSquaredErrorLoss",
    "ReverseKLDivergenceLoss",
    "SelectiveDistillationLoss",
    "SpanLikelihoodLoss",
    "TopOneRankingLoss",
]
