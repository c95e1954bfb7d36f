"""Distillation losses. Each maps tensors to a scalar and is selected by `_target_` in the config."""

from nemo_distill.losses.attention_maps import AttentionMapsLoss
from nemo_distill.losses.divergences import (
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    ReverseKLDivergenceLoss,
)
from nemo_distill.losses.hidden_states import CosineEmbeddingLoss, MeanSquaredErrorLoss
from nemo_distill.losses.selective import SelectiveDistillationLoss
from nemo_distill.losses.sorted_probabilities import SortedProbabilitiesLoss
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
    "SortedProbabilitiesLoss",
    "SpanLikelihoodLoss",
    "TopOneRankingLoss",
]
