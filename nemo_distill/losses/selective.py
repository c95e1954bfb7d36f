"""Word-level distillation of the words that are hard for the student."""

import torch
from torch import Tensor

from nemo_distill.losses.divergences import KLDivergenceLoss
from nemo_distill.losses.reduction import masked_mean


class SelectiveDistillationLoss(KLDivergenceLoss):
    """T² KL(q_T ‖ p_T) of only those target words that have the greatest NLL under the student.

    From Wang et al. 2021, "Selective Knowledge Distillation for Neural Machine Translation". Batch-level selection
    takes the hardest `share` of the words in each batch. Global-level selection compares with a queue of recent words,
    so that hard batches get more distillation than easy ones. The sum is divided by the number of all real words. The
    loss is meant to be used together with the student's own loss. With several devices, each has its own queue, and
    checkpoints contain only the first one.

    Args:
        share: fraction of the words to select, between 0 and 1. The paper uses 0.5.
        queue_size: number of words in the queue of global-level selection (30,000 in the paper); 0 selects per batch.
        scale_by_temperature_squared: False omits the factor T².
        log_probs: the name under which the models register log-probabilities.
        nll: the name under which the student registers its negative log-likelihoods.

    Raises:
        ValueError: if share or queue_size is out of range.
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
        self.queue = torch.empty(0)  # not a buffer, because DDP overwrites all buffers with those of the first device

    def forward(  # type: ignore[override]  # losses get their tensors by name, not by position
        self,
        student_log_probs: Tensor,
        teacher_log_probs: Tensor,
        student_nll: Tensor,
        mask: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Returns the sum over the selected words, divided by the number of all real words.

        Args:
            student_log_probs: (B, T, V), at temperature T.
            teacher_log_probs: (B, T, V), at temperature T.
            student_nll: (B, T), NLL of the reference words, at temperature 1.
            mask: (B, T), true at real target words, or their weights; None counts every position.
            temperature: T.
        """
        nll = student_nll.detach().float()
        real = torch.ones_like(nll, dtype=torch.bool) if mask is None else mask != 0
        selected = real & (nll >= self._threshold(nll[real]))
        values = self.per_token(student_log_probs.float(), teacher_log_probs.float())  # (B, T)
        return self.scale(temperature) * masked_mean(values.masked_fill(~selected, 0.0), mask)

    def _threshold(self, nll: Tensor) -> Tensor:
        """Returns the smallest NLL of a selected word, given the NLLs (N,) of the real words in a batch."""
        if self.queue_size and self.training:
            self.queue = torch.cat([self.queue.to(nll), nll])[-self.queue_size :]
        pool = self.queue.to(nll) if self.queue_size and len(self.queue) else nll
        if len(pool) == 0:
            return nll.new_tensor(torch.inf)
        return pool.topk(max(1, round(self.share * len(pool)))).values[-1]

    def get_extra_state(self) -> Tensor:
        """Returns the queue for checkpoints, so that a resumed training selects the same words."""
        return self.queue

    def set_extra_state(self, state: Tensor) -> None:
        self.queue = state
