"""Both ends of a teacher cache: the teacher that it is built with, and the one that reads from it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nemo.collections.common.data.dataset import ConcatDataset
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (teachers of NeMo 1.x need it)
from nemo_distill.config.errors import DataError
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.loss_terms import Widths
from nemo_distill.losses.projection import Logits
from nemo_distill.models.distillation_section import registered_widths
from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher
from nemo_distill.models.language_tag import language_ids, teacher_tag
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.models.positions import check_positions
from nemo_distill.models.retokenized_teacher import NemoPieceTeacher, retokenizer
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.host_fixes import opening_data
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.teacher_cache.build import Batch
from nemo_distill.teacher_cache.cache import MissingPairError, TeacherCache, cached_teacher_path
from nemo_distill.teacher_cache.keys import pair_keys
from nemo_distill.teacher_cache.records import is_known, kept_words, padded

# For tarred data: read all files, in order.
IN_ORDER = {"tar_shuffle_n": 0, "shard_strategy": "replicate"}


class TranslationTeacher:
    """Runs once over each pair of NeMo's data sets, in order.

    Args:
        path: the `.nemo`, or the folder of a Hugging Face model.
        train_ds: the NeMo data section.
        device: the device to run on.
        precision: the precision of the computation, `float32` or `bfloat16`.
        student: `multilingual`, `src_language` and `tgt_language` of the students that will read the cache.
        languages: the source and target language of a Hugging Face model of several.
        tokenizers: NeMo's tokenizers of the students, if they are others than the teacher's.

    Raises:
        ConfigurationError: if pairs are longer than the teacher's learned positions.
    """

    def __init__(
        self,
        path: Path,
        train_ds: DictConfig,
        device: str,
        precision: str,
        student: Mapping[str, Any],
        languages: Sequence[str | None] = (None, None),
        tokenizers: tuple[Any, Any] | None = None,
    ):
        if path.is_dir():
            self.model = HuggingFaceTeacher(path, languages).to(device)
        else:
            self.model = restore_for_inference(MTEncDecModel, path).to(device)
        self.precision = precision
        own = tokenizers or (self.model.encoder_tokenizer, self.model.decoder_tokenizer)
        for tokenizer in own:
            if hasattr(tokenizer, "bpe_dropout"):
                tokenizer.bpe_dropout = 0.0  # otherwise the ids of a sentence vary
        self.tag = teacher_tag(self.model, student)
        self.pad_id = own[1].pad_id
        self.words = self.tag.words if self.tag else self.model.decoder_vocab_size
        self.retokenizer = None
        if tokenizers:
            reader = NemoPieceTeacher(self.model, lambda batch: Logits(self._log_probs(batch)))
            self.retokenizer = retokenizer(reader, *tokenizers, self.words)
        self.vocab_size = self.retokenizer.piece_map.vocab_size if self.retokenizer else self.words
        with opening_data("model.train_ds"):
            dataset = MTEncDecModel._setup_dataset_from_config(
                cfg=OmegaConf.merge(train_ds, IN_ORDER),
                encoder_tokenizer=own[0],
                decoder_tokenizer=own[1],
                global_rank=0,
                world_size=1,
                multilingual=bool(student.get("multilingual")),
                multilingual_ids=language_ids(self.model),
            )
        if not tokenizers:
            check_positions("model.train_ds", dataset, self.model.cfg, "the teacher's", tag=bool(self.tag))
        # NeMo would sample from several data sets. Here each pair must be read exactly once.
        self.datasets = dataset.datasets if isinstance(dataset, ConcatDataset) else [dataset]

    @property
    def num_batches(self) -> int:
        return sum(len(dataset) for dataset in self.datasets)

    def batches(self) -> Iterator[Batch]:
        for dataset in self.datasets:
            stream = isinstance(dataset, IterableDataset)
            for batch in dataset if stream else (dataset[index] for index in range(len(dataset))):
                yield [torch.as_tensor(array) for array in batch]

    @torch.no_grad()
    def log_probs(self, batch: Batch) -> Tensor:
        if self.retokenizer is None:
            return self._log_probs(batch)
        said = self.retokenizer(batch)
        return said.distributions.whole().masked_fill(~said.pairs.unsqueeze(-1), -torch.inf)  # (B, T, V)

    def _log_probs(self, batch: Batch) -> Tensor:
        device = self.model.device
        src_ids, src_mask, tgt_ids, tgt_mask, _ = (tensor.to(device) for tensor in batch)
        if self.tag:
            src_ids, src_mask = self.tag.in_front(src_ids, src_mask)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            log_probs = self.model(src_ids, src_mask, tgt_ids, tgt_mask)  # (B, T, V)
        return log_probs[..., : self.words].log_softmax(dim=-1) if self.tag else log_probs


class CachedTeacher(DistillationMixin):
    """Registers `log_probs` and `nll` for a batch from the cache, instead of running the teacher.

    Args:
        path: the folder of the cache.
        tail: how to treat the words that are not stored, one of `nemo_distill.losses.top_k.TAILS`.
        student: the student, an `MTEncDecModel` with the vocabulary that the cache was made for.
    """

    def __init__(self, path: str | Path, tail: str, student: Any):
        self.cache = TeacherCache(path)
        self.archive = NemoArchive(cached_teacher_path(path))
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

    def _records(self, batch: list[Tensor]) -> np.ndarray:
        src_ids, src_mask, _, _, labels = squeeze_batch(batch)
        try:
            return self.cache.records(pair_keys(src_ids, src_mask, labels, self.pad_id))
        except MissingPairError as error:
            ids = src_ids[error.row][src_mask[error.row].bool()].tolist()
            source = self._source_tokenizer.ids_to_text(ids)
            raise DataError(
                f"'{self.cache.path}' does not hold the pair whose source is '{source}'; check that the cache was "
                "made from this data with these tokenizers"
            ) from error

    def distillation_widths(self) -> Widths:
        return registered_widths(self.archive.config)

    def modules_to_compile(self) -> list[nn.Module]:
        return []

    def number_of_parameters(self) -> None:
        return None

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """Does nothing: the stored records are moved to the device of the labels."""
