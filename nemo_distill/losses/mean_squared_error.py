"""Distillation of hidden states by mean squared error."""

from torch import Tensor

from nemo_distill.losses.hidden_states import HiddenStatesLoss


class MeanSquaredErrorLoss(HiddenStatesLoss):
    """The squared difference, averaged over the D components of a hidden state (Jiao et al. 2020, eq. 8)."""

    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        return (student_hidden_states - teacher_hidden_states).square().mean(dim=-1)
