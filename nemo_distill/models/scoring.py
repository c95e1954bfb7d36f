"""Scores given translations by forced decoding, for cross-entropy filters and to detect swapped files."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf
from torch import Tensor

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (models of NeMo 1.x need it)
from nemo_distill.console import console
from nemo_distill.decoding.engine import batches_by_length
from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher
from nemo_distill.models.retokenized_teacher import RetokenizedTeacher
from nemo_distill.nemo_files.model_kinds import number_of_positions
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.nemo_files.translation_archive import bilingual_archive
from nemo_distill.text.files import text_pairs
from nemo_distill.text.lines import TextFiles

BATCH_CHARACTERS = 20_000  # of source and target, including padding
SAMPLED_PAIRS, SAMPLED_FROM = 32, 3200
# In nats per token. A teacher that knows neither language scores both directions about the same.
MIN_DIFFERENCE = 0.5


class PairScorer:
    """Scores pairs of raw text with a translation model, using its own processors and tokenizers.

    Args:
        model: a bilingual model, in eval mode.
        dtype: `bfloat16`: the matrix products are computed in it; `float32`.
    """

    def __init__(self, model: MTEncDecModel, dtype: str = "float32"):
        self.model, self.dtype = model, dtype
        self.positions = {side: number_of_positions(model.cfg, side) for side in ("encoder", "decoder")}
        self.cut = 0  # pairs so far of which only the beginning was scored

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Returns the mean log-probability per target token for each pair; see `totals`."""
        return [log_prob / tokens for log_prob, tokens in self.totals(sources, targets)]

    def totals(self, sources: Sequence[str], targets: Sequence[str]) -> list[tuple[float, int]]:
        """Returns the log-probability of each target, and its number of tokens, both with the end of sentence.

        Sentences longer than the model's positions are cut off and scored by their beginning. `cut` counts them, and
        the first is told.
        """
        lengths = [len(source) + len(target) for source, target in zip(sources, targets, strict=True)]
        scores = [(0.0, 0)] * len(lengths)
        for indices in batches_by_length(lengths, BATCH_CHARACTERS):
            batch = [sources[index] for index in indices], [targets[index] for index in indices]
            for index, log_prob, tokens in zip(indices, *(found.tolist() for found in self._score_batch(*batch))):
                scores[index] = log_prob, tokens
        return scores

    def _count_cut(self, sides: Sequence[tuple[Tensor, int]]) -> None:
        """Counts the pairs of a batch that are cut: masks (B, S) and (B, T) with the most tokens of each."""
        cut = int(torch.stack([mask.sum(dim=1) > most for mask, most in sides]).any(dim=0).sum())
        if cut and not self.cut:
            console.warning(
                f"Warning: some pairs are longer than the {self.positions['encoder']} source or "
                f"{self.positions['decoder']} target positions of the model that scores them; they are scored by "
                "their beginning."
            )
        self.cut += cut

    @torch.no_grad()
    def _score_batch(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns the log-probability of each target, and its number of tokens (B,)."""
        most = self.positions["encoder"], self.positions["decoder"] + 1  # the last label is not read
        (src_ids, src_mask), (target_ids, target_mask) = self._ids(sources, False), self._ids(targets, True)
        self._count_cut([(src_mask, most[0]), (target_mask, most[1])])
        src_ids, src_mask = src_ids[:, : most[0]], src_mask[:, : most[0]]  # (B, S)
        target_ids, target_mask = target_ids[:, : most[1]], target_mask[:, : most[1]]  # (B, T + 1)
        labels, mask = target_ids[:, 1:], target_mask[:, 1:]  # (B, T)
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            log_probs = self.model(src_ids, src_mask, target_ids[:, :-1], target_mask[:, :-1])  # (B, T, V)
        label_log_probs = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, T)
        return (label_log_probs * mask).sum(-1), mask.sum(-1)

    def _ids(self, lines: Sequence[str], target: bool) -> tuple[Tensor, Tensor]:
        return MTEncDecModel.prepare_inference_batch(
            lines,
            target=target,
            source_processor=self.model.source_processor,
            target_processor=self.model.target_processor,
            encoder_tokenizer=self.model.encoder_tokenizer,
            decoder_tokenizer=self.model.decoder_tokenizer,
            device=self.model.device,
        )


def load_scorer(model_path: str | Path, device: str = "cpu", dtype: str = "float32") -> PairScorer:
    """Returns a scorer with the model in a `.nemo`.

    Raises:
        ValueError: if the model is multilingual.
    """
    bilingual_archive(model_path)
    return PairScorer(restore_for_inference(MTEncDecModel, model_path).to(device), dtype)


def warn_of_reversed_pairs(model: Any, trainer: Any) -> None:
    """Prints a warning for each data section whose source and target files seem to be swapped.

    Args:
        model: a `DistillationModelPT`. Nothing is checked if it runs no teacher.
        trainer: its trainer. Only the first process checks.
    """
    teacher = model.teacher.model if isinstance(model.teacher, RetokenizedTeacher) else model.teacher
    if not isinstance(teacher, MTEncDecModel | HuggingFaceTeacher) or not trainer.is_global_zero:
        return
    config = OmegaConf.to_container(model.student.cfg, resolve=True)
    for name in ("train_ds", "validation_ds", "test_ds"):
        warn_of_reversed_section(f"model.{name}", teacher, config.get(name) or {})


def warn_of_reversed_section(where: str, teacher: Any, section: Mapping[str, Any]) -> None:
    """Prints a warning if a teacher finds some pairs of a data section more likely with source and target swapped.

    Args:
        where: the key of the section, for the message.
        teacher: an `MTEncDecModel` or a `HuggingFaceTeacher`. Multilingual teachers are not checked.
        section: names the files in `src_file_name` and `tgt_file_name`.
    """
    pairs = [] if teacher.multilingual else sampled_pairs(section)
    if not pairs:
        return
    scorer = PairScorer(teacher)
    sources, targets = zip(*pairs)
    forward, backward = (-statistics.mean(scorer.score(*sides)) for sides in ((sources, targets), (targets, sources)))
    if forward >= backward + MIN_DIFFERENCE:
        console.warning(
            f"Warning: {where} seems to have source and target swapped: on {len(pairs)} pairs, the teacher's mean "
            f"negative log-likelihood per token is {forward:.2f} for the targets, but {backward:.2f} in the other "
            "direction."
        )


def sampled_pairs(section: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns some pairs from the start of a data section's first files; none if the data is tarred."""
    named = text_pairs(section)
    if section.get("use_tarred_dataset") or not named:
        return []
    files = [TextFiles([path]) for path in named[0]]
    lines = [pair for pair in islice(zip(*files), SAMPLED_FROM) if all(side.strip() for side in pair)]
    step = max(1, len(lines) // SAMPLED_PAIRS)
    chosen = lines[::step][:SAMPLED_PAIRS]
    return [(source.decode("utf-8", "replace"), target.decode("utf-8", "replace")) for source, target in chosen]
