"""Word-level distillation by the Kullback-Leibler divergence."""

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.losses.reduction import masked_mean


class KLDivergenceLoss(nn.Module):
    """T² KL(q_T ‖ p_T), with q the teacher's and p the student's distribution of each target token.

    Hinton et al. 2015, section 2, gives the tempered softmax and the factor T², which keeps the size of the gradients
    when T changes; Kim & Rush 2016, eq. 5, gives the sum over the vocabulary at each target position (there as a
    cross-entropy, which differs from KL by the teacher's entropy, a constant for the student).

    Args:
        temperature: T, at which the log-probabilities were registered.
        scale_by_temperature_squared: False leaves out the factor T².
        log_probs: the name under which log-probabilities are registered.
    """

    def __init__(
        self, temperature: float = 1.0, scale_by_temperature_squared: bool = True, log_probs: str = "log_probs"
    ):
        super().__init__()
        self.consumes = {"log_probs": log_probs}
        self.scale = temperature**2 if scale_by_temperature_squared else 1.0

    def forward(self, student_log_probs: Tensor, teacher_log_probs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the mean over real target tokens.

        Args:
            student_log_probs: (B, T, V), at the temperature.
            teacher_log_probs: (B, T, V), at the temperature.
            mask: (B, T), true at real target tokens; None counts every position.
        """
        divergence = F.kl_div(student_log_probs, teacher_log_probs, reduction="none", log_target=True)
        return self.scale * masked_mean(divergence.sum(dim=-1), mask)  # (B, T)
