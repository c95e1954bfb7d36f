"""The teacher that a teacher cache is built with, and the pairs that it runs over."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nemo.collections.common.data.dataset import ConcatDataset
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import IterableDataset

from nemo_distill.core.registry import LOG_PROBS, DistillationRegistry, Role
from nemo_distill.core.teachers import Teachers
from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher
from nemo_distill.models.language_tag import language_ids, taught_words, teacher_tag
from nemo_distill.models.mt_enc_dec_model import DistillableMTEncDecModel
from nemo_distill.models.positions import check_positions
from nemo_distill.models.retokenized_teacher import RetokenizedTeacher, TranslationPieceTeacher
from nemo_distill.nemo_files.host_fixes import opening_data
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.teacher_cache.build import Batch

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
            self.model = restore_for_inference(DistillableMTEncDecModel, path).to(device)
            self.model.language_tag = teacher_tag(self.model, student)
        self.precision = precision
        own = tokenizers or (self.model.encoder_tokenizer, self.model.decoder_tokenizer)
        self.pad_id = own[1].pad_id
        if tokenizers:
            retokenized = RetokenizedTeacher(TranslationPieceTeacher(self.model), *tokenizers)
            self.vocab_size, self._teachers = retokenized.piece_map.vocab_size, Teachers([retokenized])
        else:
            self.vocab_size, self._teachers = taught_words(self.model), Teachers([self.model])
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
            tag = bool(self.model.language_tag)
            check_positions("model.train_ds", dataset, self.model.cfg, "the teacher's", tag)
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

    def log_probs(self, batch: Batch) -> Tensor:
        """Returns what the teacher registers in a training, (B, T, V); all -inf where it has no distribution."""
        registry = DistillationRegistry({(Role.TEACHER, LOG_PROBS)})
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            self._teachers.register([tensor.to(device) for tensor in batch], registry)
        log_probs: Any = registry.get(Role.TEACHER, LOG_PROBS)
        if registry.pairs is None:
            return log_probs
        return log_probs.masked_fill(~registry.pairs.unsqueeze(-1), -torch.inf)
