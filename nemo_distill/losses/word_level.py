"""What the losses between a teacher's and a student's word distributions have in common."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nemo_distill.losses.reduction import masked_mean


class WordLevelLoss(nn.Module, ABC):
    """T² times the mean, over real target tokens, of a divergence between two distributions over the vocabulary.

    The factor T² keeps the size of the gradients when T changes (Hinton et al. 2015, section 2). Whatever precision
    the models run in, the divergence is computed in float32.

    Args:
        scale_by_temperature_squared: False leaves out the factor T².
        log_probs: the name under which log-probabilities are registered.
    """

    uses_temperature = True
    # True where the loss is infinite if the teacher gives a word no probability.
    needs_every_word = False

    def __init__(self, scale_by_temperature_squared: bool = True, log_probs: str = "log_probs"):
        super().__init__()
        self.consumes = {"log_probs": log_probs}
        self.scale_by_temperature_squared = scale_by_temperature_squared

    @property
    def consumes_projection(self) -> bool:
        """True if `fused_losses` can compute it from hidden states and their projection, a few tokens at a time.

        False for a class whose `forward` does more than to average `per_token`, for one with parameters of its own,
        and where `log_probs` was renamed.
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
            student_log_probs: (B, T, V), at the temperature.
            teacher_log_probs: (B, T, V), at the temperature.
            mask: (B, T), true at real target tokens; None counts every position.
            temperature: T, that of the log-probabilities.
        """
        values = self.per_token(student_log_probs.float(), teacher_log_probs.float())  # (B, T)
        return self.scale(temperature) * masked_mean(values, mask)

    def scale(self, temperature: float) -> float:
        """Returns T², or 1 where it is left out."""
        return temperature**2 if self.scale_by_temperature_squared else 1.0

    @abstractmethod
    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        """Returns the divergence (B, T) of each position, from float32 log-probabilities (B, T, V)."""
