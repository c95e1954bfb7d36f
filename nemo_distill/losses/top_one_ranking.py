"""Word-level distillation of the teacher's most probable word."""

import torch
from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class TopOneRankingLoss(WordLevelLoss):
    """The hierarchical ranking loss of TIE-KD (Zhang et al. 2023, arXiv 2305.08096).

    It is the sum of two hinge terms, on the student's probabilities p and the teacher's q at a target position:

    1. How far p of each of the teacher's k best words exceeds p of the teacher's best word.
    2. How far p of each of the student's k best words exceeds p of each of the teacher's k best words that q ranks
       higher.

    The paper uses it together with `KLDivergenceLoss`, with equal weights, and with `iterations=3`.

    Args:
        k: number of best words to compare, all if there are fewer. The paper uses 5.
        scale_by_temperature_squared: False omits the factor T².
        log_probs: the name under which the models register log-probabilities.

    Raises:
        ValueError: if k is below 2.
    """

    def __init__(self, k: int = 5, scale_by_temperature_squared: bool = True, log_probs: str = "log_probs"):
        super().__init__(scale_by_temperature_squared, log_probs)
        if k < 2:
            raise ValueError(f"k={k}: must be at least 2.")
        self.k = self.ranked_words = k

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        student, teacher = student_log_probs.exp(), teacher_log_probs.exp()
        k = min(self.k, student.shape[-1])
        best_of_teacher, teacher_ids = teacher.topk(k, dim=-1)  # (B, T, k)
        best_of_student, student_ids = student.topk(k, dim=-1)
        student_at_teachers, teacher_at_students = student.gather(-1, teacher_ids), teacher.gather(-1, student_ids)
        above_first = torch.relu(student_at_teachers - student_at_teachers[..., :1]).sum(dim=-1)
        above_better = torch.relu(best_of_student.unsqueeze(-2) - student_at_teachers.unsqueeze(-1))  # (B, T, k, k)
        ranked_lower = best_of_teacher.unsqueeze(-1) > teacher_at_students.unsqueeze(-2)
        return above_first + (above_better * ranked_lower).sum(dim=(-1, -2))
