"""NeMo's translation model, made distillable and mended where it validates.

Outside distillation it is `MTEncDecModel`, output for output, and the `.nemo` that it saves names NeMo's own class.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import DictConfig, open_dict
from torch import Tensor

import nemo_distill.models.youtokentome  # noqa: F401  (teachers of NeMo 1.x need it)
from nemo_distill.core.config import LossTerm
from nemo_distill.core.console import console
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.data.resumable_loader import resumable_loader
from nemo_distill.models.mt_config import REGISTERED_TENSORS, distillation_losses, pairing_problems, width_problems
from nemo_distill.models.named_evaluation import NamedEvaluationMixin, squeeze_batch
from nemo_distill.models.tokenizer_files import Vocabulary

NEMO_CLASS = f"{MTEncDecModel.__module__}.{MTEncDecModel.__name__}"


class DistillableMTEncDecModel(DistillationMixin, NamedEvaluationMixin, MTEncDecModel):
    """`MTEncDecModel` that can be teacher or student.

    Registers `log_probs` (B, T, V), tempered, and `decoder_hidden_states` (B, T, D), both masked by the labels, and
    `encoder_hidden_states` (B, S, D), masked by the source.

    Args:
        cfg: as NeMo has it.
        trainer: the trainer that will run it.
    """

    distillation_tensors = REGISTERED_TENSORS

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        super().__init__(cfg, trainer=trainer)
        with open_dict(self._cfg):
            self._cfg.target = NEMO_CLASS

    def forward(self, src: Tensor, src_mask: Tensor, tgt: Tensor, tgt_mask: Tensor) -> Tensor:
        """Returns the log-probabilities (B, T, V) of the target tokens.

        Args:
            src: source ids (B, S).
            src_mask: (B, S), true at real tokens.
            tgt: decoder input ids (B, T).
            tgt_mask: (B, T), true at real tokens.
        """
        if not self.is_being_distilled():
            return super().forward(src, src_mask, tgt, tgt_mask)
        encoder_hidden_states = self.encoder(input_ids=src, encoder_mask=src_mask)  # (B, S, D)
        decoder_hidden_states = self.decoder(
            input_ids=tgt, decoder_mask=tgt_mask, encoder_embeddings=encoder_hidden_states, encoder_mask=src_mask
        )  # (B, T, D)
        log_probs = self.log_softmax(hidden_states=decoder_hidden_states)  # (B, T, V)
        self.distillation_registration_step(
            log_probs=log_probs,
            encoder_hidden_states=encoder_hidden_states,
            decoder_hidden_states=decoder_hidden_states,
        )
        return log_probs

    def distillation_forward(self, batch: list[Tensor]) -> Tensor:
        src_ids, src_mask, tgt_ids, tgt_mask, labels = squeeze_batch(batch)
        # By the labels: the decoder's inputs are one token to the left, so that their mask ends one token later.
        label_mask = labels != self.decoder_tokenizer.pad_id
        self.register_distillation_mask("log_probs", label_mask)
        self.register_distillation_mask("decoder_hidden_states", label_mask)
        self.register_distillation_mask("encoder_hidden_states", src_mask.bool())
        return self(src_ids, src_mask, tgt_ids, tgt_mask)

    def distillation_train_loss(self, outputs: Tensor, batch: list[Tensor]) -> Tensor:
        return self.loss_fn(log_probs=outputs, labels=squeeze_batch(batch)[-1])

    def setup_distillation_loss(self, distillation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return distillation_losses(distillation)

    def validate_distillation_model(self, teacher: "DistillableMTEncDecModel", terms: Sequence[LossTerm]) -> list[str]:
        widths = width_problems(terms, self.cfg, teacher.cfg)
        return pairing_problems(self._vocabularies(), teacher._vocabularies()) + widths

    def save_to(self, save_path: str) -> None:
        """Writes the `.nemo` whole or not at all; NeMo alone leaves half a file where it is interrupted."""
        unfinished = f"{save_path}.unfinished"
        super().save_to(unfinished)
        if self.global_rank == 0:
            os.replace(unfinished, save_path)
            if "yttm" in (self.cfg.encoder_tokenizer.get("library"), self.cfg.decoder_tokenizer.get("library")):
                console.info(f"NeMo 2.x restores {save_path} only after 'import nemo_distill.models.youtokentome'.")

    def _vocabularies(self) -> dict[str, Vocabulary]:
        sides = {"encoder": self.encoder_tokenizer, "decoder": self.decoder_tokenizer}
        return {
            side: Vocabulary(
                type(tokenizer).__name__,
                tuple(tokenizer.ids_to_tokens([index])[0] for index in range(tokenizer.vocab_size)),
                {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos")},
            )
            for side, tokenizer in sides.items()
        }

    def train_dataloader(self) -> Any:
        return resumable_loader(super().train_dataloader(), shuffle=bool(self.cfg.train_ds.get("shuffle", True)))
