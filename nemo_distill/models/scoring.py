"""Scores given translations by forced decoding, for cross-entropy filters."""

from collections.abc import Sequence
from pathlib import Path

import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from torch import Tensor

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (models of NeMo 1.x need it)
from nemo_distill.decoding.engine import batches_by_length
from nemo_distill.nemo_files.restore import restore_for_inference


class PairScorer:
    """Scores pairs of raw text with a translation model, using its own processors and tokenizers.

    Args:
        model: a bilingual model, in eval mode.
        batch_characters: number of source and target characters per batch, including padding.
    """

    def __init__(self, model: MTEncDecModel, batch_characters: int = 20_000):
        self.model = model
        self.batch_characters = batch_characters

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Returns the mean log-probability per target token for each pair, including the end of sentence.

        Sentences longer than the model's limit are cut off and scored by their beginning.
        """
        lengths = [len(source) + len(target) for source, target in zip(sources, targets, strict=True)]
        scores = [0.0] * len(lengths)
        for indices in batches_by_length(lengths, self.batch_characters):
            batch = [sources[index] for index in indices], [targets[index] for index in indices]
            for index, score in zip(indices, self._score_batch(*batch).tolist()):
                scores[index] = score
        return scores

    @torch.no_grad()
    def _score_batch(self, sources: Sequence[str], targets: Sequence[str]) -> Tensor:
        src_ids, src_mask = self._ids(sources, False, self.model.encoder.max_sequence_length)  # (B, S)
        target_ids, target_mask = self._ids(targets, True, self.model.decoder.max_sequence_length + 1)  # (B, T + 1)
        tgt_ids, tgt_mask, labels, mask = (
            target_ids[:, :-1],
            target_mask[:, :-1],
            target_ids[:, 1:],
            target_mask[:, 1:],
        )
        log_probs = self.model(src_ids, src_mask, tgt_ids, tgt_mask)  # (B, T, V)
        label_log_probs = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, T)
        return (label_log_probs * mask).sum(-1) / mask.sum(-1)  # (B,)

    def _ids(self, lines: Sequence[str], target: bool, most: int) -> tuple[Tensor, Tensor]:
        ids, mask = self.model.prepare_inference_batch(
            lines,
            target=target,
            source_processor=self.model.source_processor,
            target_processor=self.model.target_processor,
            encoder_tokenizer=self.model.encoder_tokenizer,
            decoder_tokenizer=self.model.decoder_tokenizer,
            device=self.model.device,
        )
        return ids[:, :most], mask[:, :most]


class NeMoScorer(PairScorer):
    """Scores pairs with the model in a `.nemo`.

    Args:
        model_path: the `.nemo`.
        device: the device to run on.
        batch_characters: see `PairScorer`.

    Raises:
        ValueError: if the model is multilingual.
    """

    def __init__(self, model_path: str | Path, device: str = "cpu", batch_characters: int = 20_000):
        super().__init__(restore_for_inference(MTEncDecModel, model_path).to(device), batch_characters)
        if self.model.multilingual:
            raise ValueError(f"'{model_path}' is multilingual; scoring does not support multilingual models")
