"""Validates and tests a translation model on several sets, each logged under its own name.

NeMo's own code logs the second set as `dl_index_1` and fails at the end of validation without a process group. With
DDP, it counts a batch twice if it was repeated to fill the last round.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from omegaconf import ListConfig
from sacrebleu import corpus_bleu
from torch import Tensor

from nemo_distill.console import console
from nemo_distill.core.distillation_mixin import NeMoHost
from nemo_distill.text.files import MEAN_OF_SETS, as_list
from nemo_distill.text.languages import bleu_tokenization, scored_language


def squeeze_batch(batch: list[Tensor]) -> list[Tensor]:
    """Removes the dimension of size 1 that a DataLoader adds in front of NeMo's batches."""
    return [tensor.squeeze(dim=0) if tensor.ndim == 3 else tensor for tensor in batch]


def set_names(section: Mapping[str, Any]) -> list[str]:
    """Returns the names of the evaluation sets: `names` if given, otherwise unique names from the source files."""
    if section.get("names"):
        return as_list(section["names"])
    stems = [Path(file).stem for file in as_list(section.get("src_file_name"))]
    numbered = [f"{stem}_{index}" for index, stem in enumerate(stems)]
    names = [
        number if stems.count(stem) > 1 or stem == MEAN_OF_SETS else stem for stem, number in zip(stems, numbered)
    ]
    return names if len(set(names)) == len(names) else numbered  # a file may be called as another one is numbered


class NamedEvaluationMixin(NeMoHost):
    """Logs scores per evaluation set. List it before `MTEncDecModel` in the bases.

    With mode `val` or `test`, it logs `{mode}_loss` (mean NLL per target token) and `{mode}_sacreBLEU` for the first
    set. With several sets, it also logs `{mode}_loss_{name}` and `{mode}_sacreBLEU_{name}` for each, and `..._avg`.
    BLEU's tokenizer is `bleu_tokenizer` of the config, or else follows the target language or the references' script.
    """

    # Of `MTEncDecModel`.
    __call__: Callable[..., Tensor]
    batch_translate: Callable[..., tuple[list[str], list[str]]]
    ids_to_postprocessed_text: Callable[..., list[str]]
    val_dataloader: Callable[[], Any]
    test_dataloader: Callable[[], Any]
    multilingual: bool
    tgt_language: Any
    decoder_tokenizer: Any
    source_processor_list: list[Any]
    target_processor_list: list[Any]

    @torch.no_grad()
    def eval_step(self, batch: list[Tensor], batch_idx: int, mode: str, dataloader_idx: int = 0) -> dict[str, Any]:
        """Returns the translations, the references, the total NLL of the references and their number of tokens."""
        if self.multilingual:
            self.source_processor = self.source_processor_list[dataloader_idx]
            self.target_processor = self.target_processor_list[dataloader_idx]
        src_ids, src_mask, tgt_ids, tgt_mask, labels = squeeze_batch(batch)
        log_probs = self(src_ids, src_mask, tgt_ids, tgt_mask)
        label_mask = labels != self.decoder_tokenizer.pad_id  # (B, T)
        nll = -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (B, T)
        inputs, translations = self.batch_translate(src=src_ids, src_mask=src_mask)
        references = self.ids_to_postprocessed_text(
            tgt_ids, self.decoder_tokenizer, self.target_processor, filter_beam_ids=False
        )
        return {
            "inputs": inputs,
            "translations": translations,
            "ground_truths": references,
            "nll": nll[label_mask].double().sum().item(),
            "num_non_pad_tokens": int(label_mask.sum()),
        }

    def eval_epoch_end(self, outputs: list, mode: str, global_rank: int) -> None:
        """Scores each set over all devices and logs the scores."""
        if not outputs:
            return
        sets = [outputs] if isinstance(outputs[0], dict) else outputs
        loaders = self.val_dataloader() if mode == "val" else self.test_dataloader()
        section = self.cfg.validation_ds if mode == "val" else self.cfg.test_ds
        scores = {}
        for index, (name, steps, loader) in enumerate(zip(set_names(section), sets, loaders)):
            scores[name] = self._score_set(mode, name, _gather(steps, len(loader.dataset)), index)
            steps.clear()
        self._log_scores(mode, scores)

    def _score_set(self, mode: str, name: str, steps: list[dict[str, Any]], index: int) -> dict[str, float]:
        inputs, translations, references = (
            list(itertools.chain(*(step[key] for step in steps)))
            for key in ("inputs", "translations", "ground_truths")
        )
        several = self.multilingual and isinstance(self.tgt_language, ListConfig)
        language = self.tgt_language[index] if several else self.tgt_language
        tokenizer = self.cfg.get("bleu_tokenizer") or bleu_tokenization(scored_language(language, references))
        bleu = corpus_bleu(translations, [references], tokenize=tokenizer).score
        loss = sum(step["nll"] for step in steps) / max(1, sum(step["num_non_pad_tokens"] for step in steps))
        if self.global_rank == 0 and not self.trainer.sanity_checking:
            scores = f"loss {loss:.3f}, sacreBLEU {bleu:.2f} (tok:{tokenizer})"
            console.info(f"\n{mode} {name}: {len(translations)} sentences, {scores}")
            console.info(
                f"  source:      {inputs[0]}\n  translation: {translations[0]}\n  reference:   {references[0]}"
            )
        return {"loss": loss, "sacreBLEU": bleu}

    def _log_scores(self, mode: str, scores: dict[str, dict[str, float]]) -> None:
        for metric, on_bar in (("loss", False), ("sacreBLEU", True)):
            values = {name: score[metric] for name, score in scores.items()}
            named = {f"{mode}_{metric}": next(iter(values.values()))}
            if len(values) > 1:
                named |= {f"{mode}_{metric}_{name}": value for name, value in values.items()}
                named[f"{mode}_{metric}_{MEAN_OF_SETS}"] = sum(values.values()) / len(values)
            for key, value in named.items():
                # No sync_dist: every device has gathered all steps and computed the same value.
                self.log(key, value, prog_bar=on_bar and key == f"{mode}_{metric}", sync_dist=False)


def _gather(steps: list[dict[str, Any]], num_batches: int) -> list[dict[str, Any]]:
    """Returns the steps of all devices in the order of the data.

    A distributed sampler assigns the batches to the devices in turn, and repeats the first ones to fill the last
    round. The repetitions come after the first `num_batches` and are dropped.
    """
    if not dist.is_initialized():
        return list(steps)
    gathered: list = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, list(steps))
    return list(itertools.chain(*zip(*gathered)))[:num_batches]
