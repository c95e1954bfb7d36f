"""Word-level distillation of the words that the student finds hard."""

import torch
from torch import Tensor

from nemo_distill.losses.kl_divergence import KLDivergenceLoss
from nemo_distill.losses.reduction import masked_mean


class SelectiveDistillationLoss(KLDivergenceLoss):
    """T² KL(q_T ‖ p_T) of the target words with the greatest negative log-likelihood under the student, of no others.

    Wang et al. 2021, "Selective Knowledge Distillation for Neural Machine Translation": batch-level
    selection takes the hardest share of each batch; global-level selection takes the words that would belong to the
    hardest share of a queue of the latest ones, so that a hard batch gets more distillation than an easy one. The sum
    is divided by the number of all real words, and meant to stand beside the student's own loss. Of several devices
    each has a queue of its own words; a checkpoint holds the first one's.

    Args:
        share: of the words, between 0 and 1; published: 0.5.
        queue_size: words in the queue of global-level selection, published: 30,000; 0 selects in each batch.
        scale_by_temperature_squared: False leaves out the factor T².
        log_probs: the name under which log-probabilities are registered.
        nll: the name under which the student's negative log-likelihoods are registered.

    Raises:
        ValueError: if share or queue_size is outside its range.
    """

    def __init__(
        self,
        share: float = 0.5,
        queue_size: int = 30_000,
        scale_by_temperature_squared: bool = True,
        log_probs: str = "log_probs",
        nll: str = "nll",
    ):
        super().__init__(scale_by_temperature_squared, log_probs)
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: must be above 0 and at most 1.")
        if queue_size < 0:
            raise ValueError(f"queue_size={queue_size}: must be at least 0.")
        self.consumes["nll"] = nll
        self.share, self.queue_size = share, queue_size
        self.queue = torch.empty(0)  # no buffer: DDP would overwrite each device's with the first one's

    def forward(
        self,
        student_log_probs: Tensor,
        teacher_log_probs: Tensor,
        student_nll: Tensor,
        mask: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Returns the sum over the selected words, divided by the number of all real ones.

        Args:
            student_log_probs: (B, T, V), at the temperature.
            teacher_log_probs: (B, T, V), at the temperature.
            student_nll: (B, T), of the reference's words, at temperature 1.
            mask: (B, T), true at real target words; None counts every position.
            temperature: T, that of the log-probabilities.
        """
        nll = student_nll.detach().float()
        real = torch.ones_like(nll, dtype=torch.bool) if mask is None else mask.bool()
        selected = real & (nll >= self._threshold(nll[real]))
        values = self.per_token(student_log_probs.float(), teacher_log_probs.float())  # (B, T)
        return self.scale(temperature) * masked_mean(values.masked_fill(~selected, 0.0), real)

    def _threshold(self, nll: Tensor) -> Tensor:
        """The NLL from which on a word is selected, given those (N,) of a batch's real words."""
        if self.queue_size and self.training:
            self.queue = torch.cat([self.queue.to(nll), nll])[-self.queue_size :]
        pool = self.queue.to(nll) if self.queue_size and len(self.queue) else nll
        if len(pool) == 0:
            return nll.new_tensor(torch.inf)
        return pool.topk(max(1, round(self.share * len(pool)))).values[-1]

    def get_extra_state(self) -> Tensor:
        """Returns what checkpoints hold, so that a resumed training selects as it would have: the queue."""
        return self.queue

    def set_extra_state(self, state: Tensor) -> None:
        self.queue = state
