"""Runs a translation teacher on the pairs of the training data, to build a teacher cache."""

from collections.abc import Iterator
from pathlib import Path

import torch
from nemo.collections.common.data.dataset import ConcatDataset
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import IterableDataset

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (teachers of NeMo 1.x need it)
from nemo_distill.nemo_files.host_fixes import counted_cleaning
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.teacher_cache.build import Batch

# For tarred data: read all files, in order.
IN_ORDER = {"tar_shuffle_n": 0, "shard_strategy": "replicate"}


class TranslationTeacher:
    """Runs once over each pair of NeMo's data sets, in order.

    Args:
        path: the `.nemo`.
        train_ds: the NeMo data section.
        device: the device to run on.
        precision: the precision of the computation, `float32` or `bfloat16`.
    """

    def __init__(self, path: Path, train_ds: DictConfig, device: str, precision: str):
        self.model = restore_for_inference(MTEncDecModel, path).to(device)
        self.precision = precision
        for tokenizer in (self.model.encoder_tokenizer, self.model.decoder_tokenizer):
            if hasattr(tokenizer, "bpe_dropout"):
                tokenizer.bpe_dropout = 0.0  # otherwise the ids of a sentence vary
        self.pad_id, self.vocab_size = self.model.decoder_tokenizer.pad_id, self.model.decoder_vocab_size
        with counted_cleaning("model.train_ds"):
            dataset = MTEncDecModel._setup_dataset_from_config(
                cfg=OmegaConf.merge(train_ds, IN_ORDER),
                encoder_tokenizer=self.model.encoder_tokenizer,
                decoder_tokenizer=self.model.decoder_tokenizer,
                global_rank=0,
                world_size=1,
                multilingual=self.model.multilingual,
                multilingual_ids=self.model.multilingual_ids,
            )
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
        device = self.model.device
        src_ids, src_mask, tgt_ids, tgt_mask, _ = (tensor.to(device) for tensor in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.model(src_ids, src_mask, tgt_ids, tgt_mask)
