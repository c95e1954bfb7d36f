"""A distillable version of NeMo's translation model, with fixed validation.

Outside distillation it gives the same outputs as `MTEncDecModel`. The saved `.nemo` names NeMo's own class.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (teachers of NeMo 1.x need it)
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.core.loss_terms import Widths
from nemo_distill.decoding.nemo_engines import CachedEngine, search_settings
from nemo_distill.losses.closed_forms import SmoothedLabels
from nemo_distill.losses.fused import fused_losses
from nemo_distill.losses.projection import Projection
from nemo_distill.losses.reduction import masked_mean
from nemo_distill.models.batch_origin import batch_origin
from nemo_distill.models.distillation_section import (
    REFERENCE_TENSORS,
    REGISTERED_TENSORS,
    TranslationDistillation,
    distillation_losses,
    registered_widths,
)
from nemo_distill.models.inner_tensors import inner_tensors
from nemo_distill.models.language_tag import language_ids
from nemo_distill.models.named_evaluation import NamedEvaluationMixin, squeeze_batch
from nemo_distill.models.on_policy import OnPolicy, target_tensors
from nemo_distill.models.pair_weights import PairWeights
from nemo_distill.models.pairing import pairing_problems
from nemo_distill.models.positions import check_positions, check_width
from nemo_distill.models.start_model import KEY, weight_problems
from nemo_distill.models.teacher_setup import TeacherSetupMixin
from nemo_distill.nemo_files.host_fixes import count_batches_of_all_devices, opening_data
from nemo_distill.nemo_files.model_kinds import is_hugging_face_encoder, number_of_positions
from nemo_distill.nemo_files.nemo_tokenizers import text_of, without_dropout
from nemo_distill.nemo_files.weights import check_weights
from nemo_distill.storage.files import whole_path
from nemo_distill.text.source_noise import NoisySource
from nemo_distill.trainer.resumable_loader import resumable_loader

NEMO_CLASS = f"{MTEncDecModel.__module__}.{MTEncDecModel.__name__}"


class DistillableMTEncDecModel(TeacherSetupMixin, NamedEvaluationMixin, MTEncDecModel):
    """An `MTEncDecModel` that can be teacher or student.

    It registers these tensors, masked by the labels:

    - `log_probs` (B, T, V), at the temperature of the step
    - `projection`, from which `log_probs` can be computed for a few tokens at a time
    - `nll` (B, T), the negative log-likelihood of the labels
    - `decoder_hidden_states` (B, T, D), the output of the decoder
    - `decoder_layers`, a list of (B, T, D): the embeddings and each layer
    - `decoder_self_attention`, a list of (B, H, T, T): each layer
    - `decoder_cross_attention`, a list of (B, H, T, S): each layer

    It registers `encoder_hidden_states`, `encoder_layers` and `encoder_self_attention` masked by the source.

    Args:
        cfg: the NeMo config.
        trainer: the Lightning trainer.
    """

    distillation_tensors = REGISTERED_TENSORS
    reference_tensors = REFERENCE_TENSORS
    _noisy_source: NoisySource | None = None  # adds noise to the source that the student reads
    _pair_weights: PairWeights | None = None  # multiply the losses of pairs
    _on_policy = OnPolicy()
    _encoded: list[tuple[Tensor, Tensor]] | None = None  # within `source_once`: the encoder's output and its mask

    def __init__(self, cfg: DictConfig, trainer: Any = None):
        super().__init__(cfg, trainer=trainer)
        with open_dict(self._cfg):
            self._cfg.target = NEMO_CLASS

    def forward(self, src: Tensor, src_mask: Tensor, tgt: Tensor, tgt_mask: Tensor) -> Tensor | Projection:
        """Returns the log-probabilities (B, T, V) of the target tokens, or a `Projection` if no loss reads them.

        Args:
            src: source ids (B, S).
            src_mask: (B, S), true at real tokens.
            tgt: decoder input ids (B, T).
            tgt_mask: (B, T), true at real tokens.
        """
        check_width(self.cfg, encoder=src.shape[1], decoder=tgt.shape[1])
        if not self.is_being_distilled():
            return super().forward(src, src_mask, tgt, tgt_mask)
        with inner_tensors(self) as inside:
            encoder_hidden_states, decoder_hidden_states = self._hidden_states(src, src_mask, tgt, tgt_mask)
        for name, output in (("encoder_layers", encoder_hidden_states), ("decoder_layers", decoder_hidden_states)):
            if name in inside:
                inside[name][-1] = output  # the last layer's output after the final norm, if there is one
        inside |= {"encoder_hidden_states": encoder_hidden_states, "decoder_hidden_states": decoder_hidden_states}
        projection = self._projection(decoder_hidden_states)
        if self.language_tag:
            inside = {name: self.language_tag.without(name, tensors) for name, tensors in inside.items()}
            projection = self.language_tag.projection(projection)
        self.distillation_registration_step(projection=projection, **inside)
        if not self._needs_log_probs():
            return projection
        if self.language_tag:
            log_probs = projection.tempered_log_probs()  # (B, T, V)
        else:
            log_probs = self.log_softmax(hidden_states=decoder_hidden_states)  # (B, T, V)
        self.distillation_registration_step(log_probs=log_probs)
        return log_probs

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Any]:
        """Returns NeMo's loss of a batch, in one pass over the vocabulary that keeps no (B, T, V) tensor."""
        if not self.cfg.head.get("log_softmax", True):
            return super().training_step(batch, batch_idx)
        src, src_mask, tgt, tgt_mask, _ = squeeze_batch(batch)
        check_width(self.cfg, encoder=src.shape[1], decoder=tgt.shape[1])
        _, decoded = self._hidden_states(src, src_mask, tgt, tgt_mask)
        labels, real = self.distillation_labels(batch), self._target_weights(batch)
        (loss,) = fused_losses(self._projection(decoded), None, real, [], [1.0], labels=labels)
        return {"loss": loss, "log": {"train_loss": loss, "lr": self._optimizer.param_groups[0]["lr"]}}

    def _hidden_states(self, src: Tensor, src_mask: Tensor, tgt: Tensor, tgt_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the outputs of the encoder (B, S, D) and of the decoder (B, T, D)."""
        encoded, src_mask = self._encode(src, src_mask)  # (B, S, D), (B, S)
        decoded = self.decoder(
            input_ids=tgt, decoder_mask=tgt_mask, encoder_embeddings=encoded, encoder_mask=src_mask
        )  # (B, T, D)
        return encoded, decoded

    def _encode(self, src: Tensor, src_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the encoder's output (B, S, D) and its mask. Within `source_once`, only the first call computes it.

        With a shared encoder, it reuses the teacher's if that ran.
        """
        if self._encoded:
            return self._encoded[0]
        states = self.teacher_tensor("encoder_hidden_states") if self._shares_encoder else None
        if states is None:
            states = self.encoder(input_ids=src, encoder_mask=src_mask)
        if self._encoded is not None:
            self._encoded.append((states, src_mask))
        return states, src_mask

    @contextmanager
    def source_once(self) -> Iterator[None]:
        self._encoded = []
        try:
            yield
        finally:
            self._encoded = None

    def _needs_log_probs(self) -> bool:
        """True if a loss reads log-probabilities, or if the student's own loss is not computed in the fused pass."""
        own = self.is_student_model() and not self.wants_distillation_tensor("projection")
        return own or any(self.wants_distillation_tensor(name) for name in ("log_probs", "nll"))

    def _projection(self, hidden_states: Tensor) -> Projection:
        """Returns the projection of the decoder's output (B, T, D) by NeMo's head, which has a single layer."""
        layer = self.log_softmax.mlp.layer0
        return Projection(self.log_softmax.dropout(hidden_states), layer.weight, layer.bias)

    def train(self, mode: bool = True) -> "DistillableMTEncDecModel":
        """Sets train or eval mode. A shared encoder stays in eval mode, because the teacher uses no dropout."""
        super().train(mode)
        if self._shares_encoder:
            self.encoder.eval()
        return self

    @torch.no_grad()
    def batch_translate(
        self, src: Tensor, src_mask: Tensor, return_beam_scores: bool = False, cache: dict | None = None
    ) -> Any:
        """Translates a batch with our own search. Replaces NeMo's method for `translate` and validation.

        NeMo's search is used if the config has `search: nemo` or if beam scores are requested.

        Args:
            src: source ids (B, S).
            src_mask: (B, S), true at real tokens.
            return_beam_scores: passed to NeMo.
            cache: passed to NeMo, which stores its timers there.

        Returns:
            The sources and the translations, as text.
        """
        if return_beam_scores or self.cfg.get("search") == "nemo":
            return super().batch_translate(src, src_mask, return_beam_scores, cache or {})
        with self._engine() as engine:
            translations = engine.translate_ids(src, src_mask, search_settings(self.cfg))
        sources = self.ids_to_postprocessed_text(
            src, self.encoder_tokenizer, self.source_processor, filter_beam_ids=False
        )
        return sources, translations

    @contextmanager
    def _engine(self) -> Iterator[CachedEngine]:
        """Within this context, the model is in eval mode, and its engine can search."""
        training = self.training
        try:
            yield CachedEngine([self.eval()], reads_ids=True)
        finally:
            self.train(training)

    @classmethod
    def ids_to_postprocessed_text(
        cls, beam_ids: Tensor, tokenizer: Any, processor: Any, filter_beam_ids: bool = True
    ) -> list[str]:
        """Returns the text of each row of ids (B, T), without padding, start and end.

        NeMo leaves `<pad>` in the text of tokenizers with `sentencepiece_legacy`, also in the references of BLEU.
        """
        if filter_beam_ids:
            beam_ids = cls.filter_predicted_ids(beam_ids, decoder_tokenizer=tokenizer)
        texts = [text_of(row, tokenizer) for row in beam_ids.tolist()]
        return texts if processor is None else [processor.detokenize(text.split(" ")) for text in texts]

    def modules_to_compile(self) -> list[nn.Module]:
        """Returns the stacks and the head. The code around them has type checks and hooks that break the graph.

        Of an encoder of Hugging Face, it returns the parts: NeMo calls the whole in a way that is not compiled.
        """
        if is_hugging_face_encoder(self.cfg):
            (whole,) = self.encoder.children()
            encoder = [*whole.children()]
        else:
            encoder = [self.encoder.encoder]
        return [*encoder, self.decoder.decoder, self.log_softmax.mlp]

    def distillation_forward(self, batch: list[Tensor]) -> Tensor | Projection:
        src_ids, src_mask, tgt_ids, tgt_mask, labels = squeeze_batch(batch)
        target_weights = self._target_weights(batch)
        if self._noisy_source and self.is_student_model() and not self._encoded:
            src_ids, src_mask = self._noisy_source(src_ids, src_mask)
        source_weights = src_mask.bool()
        if self._pair_weights:  # a pair's first label has its weight
            source_weights = source_weights * target_weights[:, :1]
        for name in self.distillation_tensors:
            self.register_distillation_mask(name, source_weights if name.startswith("encoder") else target_weights)
        if self.language_tag:
            src_ids, src_mask = self.language_tag.in_front(src_ids, src_mask)
        log_probs = self(src_ids, src_mask, tgt_ids, tgt_mask)
        if self.wants_distillation_tensor("nll"):
            self.register_distillation_tensor("nll", -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1))
        return log_probs

    def own_batch(self, batch: list[Tensor], step: int) -> tuple[list[Tensor] | None, dict[str, Tensor]]:
        if self._on_policy.is_off:
            return None, {}
        self.log("on_policy_share", self._on_policy.share_at(step))
        own = self._own_translations(batch, step) if self._on_policy.is_drawn(step) else None
        labels = own[-1] if own else batch[-1].new_empty((0, 0))
        real = labels != self.decoder_tokenizer.pad_id  # (B, T)
        return own, {"on_policy_tokens": real.sum(), "on_policy_empty": (~real.any(dim=1)).sum()}

    def _own_translations(self, batch: list[Tensor], step: int) -> list[Tensor]:
        """Returns the batch with this model's translations as targets."""
        src_ids, src_mask, *_ = squeeze_batch(batch)
        settings = self._on_policy.search_settings(step, self.global_rank)
        with self._engine() as engine, torch.compiler.set_stance("force_eager"):
            translations = engine.search_ids(src_ids, src_mask, settings)
        torch.clear_autocast_cache()  # older versions of torch would use its weights again, without gradients
        targets = target_tensors(translations, engine.special, self._longest_target)
        return [src_ids, src_mask, *(tensor.to(src_ids.device) for tensor in targets)]

    def reread_batch(self, batch: list[Tensor], outputs: Tensor | Projection) -> list[Tensor]:
        """Returns the batch with the words that the student found most probable as decoder inputs.

        The labels are the same, and only their mask is read: at each position, the decoders read the predictions for
        the earlier ones, which were made side by side (Zhang et al. 2023, and its published code).
        """
        src_ids, src_mask, tgt_ids, tgt_mask, labels = squeeze_batch(batch)
        words = self.decoder_tokenizer.vocab_size  # the head of an older NeMo's model may have more
        if isinstance(outputs, Projection):
            predicted = outputs.most_probable(words)  # (B, T)
        else:
            predicted = outputs[..., :words].argmax(dim=-1)
        return [src_ids, src_mask, torch.cat((tgt_ids[:, :1], predicted[:, :-1]), dim=1), tgt_mask, labels]

    def distillation_train_loss(self, outputs: Tensor, batch: list[Tensor]) -> Tensor:
        return masked_mean(self.distillation_labels(batch).per_token(outputs), self._target_weights(batch))

    def distillation_labels(self, batch: list[Tensor]) -> SmoothedLabels:
        return SmoothedLabels(squeeze_batch(batch)[-1], self.cfg.get("label_smoothing") or 0.0)

    def distillation_batch_weight(self, batch: list[Tensor]) -> Tensor:
        """Returns the sum of the weights of the target tokens. It also weights the losses at source positions."""
        return self._target_weights(batch).sum()

    def number_of_targets(self, batch: list[Tensor]) -> Tensor:
        return (squeeze_batch(batch)[-1] != self.decoder_tokenizer.pad_id).sum()

    def _target_weights(self, batch: list[Tensor]) -> Tensor:
        """Returns a mask (B, T) of the real target tokens, or their weights if pairs have weights."""
        src_ids, src_mask, _, _, labels = squeeze_batch(batch)
        # The mask of the decoder inputs is shifted by one token, so derive the mask from the labels.
        mask = labels != self.decoder_tokenizer.pad_id
        return mask * self._pair_weights.of(src_ids, src_mask, labels).unsqueeze(-1) if self._pair_weights else mask

    def setup_distillation_loss(self, distillation: TranslationDistillation) -> dict[str, Mapping[str, Any]]:
        self._across_vocabularies = distillation.across_vocabularies
        if not distillation.noise.is_none:
            tokenizer = self.encoder_tokenizer
            fixed = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, *self.multilingual_ids]
            tags = {corpus.tag for corpus in distillation.mix.corpora.values() if corpus.tag}
            positions = number_of_positions(self.cfg, "encoder")
            self._noisy_source = NoisySource(distillation.noise, tokenizer, fixed, positions, tags)
        if distillation.mix.weighting == "loss":
            source, target = (Path(self.cfg.train_ds[f"{side}_file_name"]) for side in ("src", "tgt"))
            self._pair_weights = PairWeights(source, target, (self.encoder_tokenizer, self.decoder_tokenizer))
        self._on_policy, self.distillation_passes = distillation.on_policy, distillation.iterations
        return distillation_losses(distillation)

    def distillation_widths(self) -> Widths:
        return registered_widths(self.cfg)

    def start_from(self, started: "DistillableMTEncDecModel", path: str) -> None:
        """Copies all weights of another model.

        Args:
            started: the other model.
            path: its `.nemo`, for the messages.

        Raises:
            ConfigurationError: if the weights do not fit this model.
        """
        problems = weight_problems(self.cfg, started.cfg, path)
        problems += pairing_problems(self.vocabularies(), started.vocabularies(), f"{KEY}'s")
        if problems:
            raise ConfigurationError(problems)
        self.load_state_dict(started.state_dict())

    def batch_origin(self, batch: list[Tensor]) -> str:
        return batch_origin(self, squeeze_batch(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(self, "No checkpoint is written: the model")

    def save_to(self, save_path: str) -> None:
        """Writes the `.nemo` atomically. NeMo alone leaves a partial file if it is interrupted.

        Raises:
            NotFiniteError: if the weights contain NaN or infinity. Nothing is written then.
        """
        check_weights(self, f"'{save_path}' is not written: the model")
        with whole_path(Path(save_path)) as unfinished:
            super().save_to(str(unfinished))
        libraries = (self.cfg.encoder_tokenizer.get("library"), self.cfg.decoder_tokenizer.get("library"))
        if self.global_rank == 0 and "yttm" in libraries:
            console.info(f"NeMo 2.x restores {save_path} only after 'import nemo_distill.nemo_files.youtokentome'.")

    def setup_training_data(self, train_data_config: DictConfig | None) -> None:
        with self._setting_up("train_ds"):
            super().setup_training_data(train_data_config)
        if self._train_dl is not None:
            count_batches_of_all_devices(self._train_dl.dataset)

    def setup_validation_data(self, val_data_config: DictConfig | None) -> None:
        with self._setting_up("validation_ds"), without_dropout(self.encoder_tokenizer, self.decoder_tokenizer):
            super().setup_validation_data(val_data_config)

    def setup_test_data(self, test_data_config: DictConfig | None) -> None:
        with self._setting_up("test_ds"), without_dropout(self.encoder_tokenizer, self.decoder_tokenizer):
            super().setup_test_data(test_data_config)

    @contextmanager
    def _setting_up(self, section: str) -> Iterator[None]:
        """Within this context, NeMo reads the data of a section safely; then its pairs must fit this model."""
        self.multilingual_ids = language_ids(self)
        with opening_data(f"model.{section}", self.global_rank == 0):
            yield
        check_positions(f"model.{section}", getattr(self, f"_{section}"), self.cfg)

    def train_dataloader(self) -> Any:
        return resumable_loader(super().train_dataloader(), shuffle=bool(self.cfg.train_ds.get("shuffle", True)))
