"""The base class of losses between word distributions."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nemo_distill.losses.reduction import masked_mean


class WordLevelLoss(nn.Module, ABC):
    """T² times the mean over real target tokens of a divergence between two word distributions.

    The factor T² keeps the size of the gradients when T changes (Hinton et al. 2015, section 2). The divergence is
    always computed in float32.

    Args:
        scale_by_temperature_squared: False omits the factor T².
        log_probs: the name under which the models register log-probabilities.
    """

    uses_temperature = True
    # True if the loss is infinite when the teacher gives a word zero probability.
    needs_every_word = False

    def __init__(self, scale_by_temperature_squared: bool = True, log_probs: str = "log_probs"):
        super().__init__()
        self.consumes = {"log_probs": log_probs}
        self.scale_by_temperature_squared = scale_by_temperature_squared

    @property
    def consumes_projection(self) -> bool:
        """True if `fused_losses` can compute this loss from the hidden states and their projection.

        False if the class overrides `forward`, has parameters of its own, or reads another name than `log_probs`.
        """
        averages = type(self).forward is WordLevelLoss.forward and next(self.parameters(), None) is None
        return averages and self.consumes == {"log_probs": "log_probs"}

    def forward(
        self,
        student_log_probs: Tensor,
        teacher_log_probs: Tensor,
        mask: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            student_log_probs: (B, T, V), at temperature T.
            teacher_log_probs: (B, T, V), at temperature T.
            mask: (B, T), true at real target tokens, or their weights; None counts every position.
            temperature: T.
        """
        values = self.per_token(student_log_probs.float(), teacher_log_probs.float())  # (B, T)
        return self.scale(temperature) * masked_mean(values, mask)

    def scale(self, temperature: float) -> float:
        """Returns T², or 1 if `scale_by_temperature_squared` is False."""
        return temperature**2 if self.scale_by_temperature_squared else 1.0

    @abstractmethod
    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        """Returns the divergence (B, T) at each position, from float32 log-probabilities (B, T, V)."""
