"""A teacher that reads its distributions from a teacher cache."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.loss_terms import Widths
from nemo_distill.models.distillation_section import registered_widths
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.models.positions import in_memory
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.nemo_tokenizers import text_of
from nemo_distill.progress import shown_progress
from nemo_distill.teacher_cache.cache import MissingPairError, TeacherCache, cached_teacher_path
from nemo_distill.teacher_cache.records import is_known, kept_words, padded, pair_keys


class CachedTeacher(DistillationMixin, nn.Module):
    """Registers `log_probs` and `nll` for a batch from the cache, instead of running the teacher.

    Args:
        path: the folder of the cache.
        tail: how to treat the words that are not stored, one of `nemo_distill.losses.top_k.TAILS`.
        student: the student, an `MTEncDecModel` with the vocabulary that the cache was made for.
    """

    def __init__(self, path: str | Path, tail: str, student: Any):
        super().__init__()
        self.cache = TeacherCache(path)
        self.archive = NemoArchive(cached_teacher_path(path))
        self.cfg = self.archive.config
        self.tail = tail
        self.across_vocabularies = "student_tokenizers" in self.cache.manifest["settings"]
        self.pad_id, self.vocab_size = student.decoder_tokenizer.pad_id, student.decoder_vocab_size
        self._source_tokenizer = student.encoder_tokenizer

    @property
    def record(self) -> dict[str, Any]:
        """Name and SHA-256 of the teacher's `.nemo`, and the settings of the stored distributions."""
        settings = self.cache.manifest["settings"]
        return settings["teacher"] | {"cached": {key: settings.get(key) for key in ("k", "dtype", "precision")}}

    def distillation_forward(self, batch: list[Tensor]) -> None:
        labels = squeeze_batch(batch)[-1]
        mask = labels != self.pad_id  # (B, T)
        records = self._records(batch)
        top_k = kept_words(records, mask, self.vocab_size, self.tail)
        if self.across_vocabularies:
            self.running_step.registry.register_pairs(padded(is_known(records), mask, torch.bool))
        self.register_distillation_tensor("projection", top_k)  # for the fused losses
        if self.wants_distillation_tensor("log_probs"):
            temperature = self.running_step.registry.temperature
            self.register_distillation_tensor("log_probs", top_k.tempered_log_probs(temperature))
        self.register_distillation_tensor("nll", -padded(records["label"], mask, torch.float32))

    def check_pairs(self, datasets: Any) -> None:
        """Looks up all pairs of NeMo's data sets, which takes seconds for a million. Tarred data is not read.

        Raises:
            ConfigurationError: if the cache lacks some.
        """
        loaded = list(in_memory(datasets))
        missing, pairs, first = 0, 0, ""
        with shown_progress(
            "looking up pairs in the teacher cache", sum(map(len, loaded)), unit="pairs"
        ) as on_progress:
            batches = (dataset[number] for dataset in loaded for number in range(len(dataset)))
            for done, batch in enumerate(batches, start=1):
                src_ids, src_mask, _, _, labels = map(torch.as_tensor, batch)
                held = self.cache.holds(pair_keys(src_ids, src_mask, labels, self.pad_id))
                missing, pairs = missing + int((~held).sum()), pairs + len(held)
                row = int(held.argmin())
                first = first or ("" if held.all() else text_of(src_ids[row].tolist(), self._source_tokenizer))
                on_progress(done, len(held))
        if missing:
            raise ConfigurationError(
                [
                    f"model.distillation.teacher_cache={self.cache.path} lacks {missing:,} of the {pairs:,} pairs of "
                    f"model.train_ds, such as that with the source '{first}'; make the cache from this data with "
                    "these tokenizers. Lines of a mix are cleaned, others are not."
                ]
            )

    def _records(self, batch: list[Tensor]) -> np.ndarray:
        src_ids, src_mask, _, _, labels = squeeze_batch(batch)
        try:
            return self.cache.records(pair_keys(src_ids, src_mask, labels, self.pad_id))
        except MissingPairError as error:
            source = text_of(src_ids[error.row].tolist(), self._source_tokenizer)
            raise DataError(
                f"'{self.cache.path}' does not hold the pair whose source is '{source}'; check that the cache was "
                "made from this data with these tokenizers"
            ) from error

    def distillation_widths(self) -> Widths:
        return registered_widths(self.cfg)

    def modules_to_compile(self) -> list[nn.Module]:
        return []
