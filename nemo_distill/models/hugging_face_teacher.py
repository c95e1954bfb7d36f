"""A Marian, M2M-100, NLLB or mBART model as teacher of a NeMo student that has the same pieces.

The student's ids are mapped to the teacher's by their pieces. Special tokens and language tags are inserted on the
teacher's side, and their positions are left out of what it returns. It teaches distributions over the student's words:

- A word that both have keeps the teacher's probability.
- Padding, the start of a sentence where the teacher has none, and words that its generation config forbids have none.
- The rest of the teacher's probability, of words that the student lacks, is the tail: words that only the student has
  share it in equal parts. If there are none, it is divided among the others by their probabilities.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.decoding.hugging_face_text import open_folder, prompt
from nemo_distill.losses.projection import Logits, Projection
from nemo_distill.models.distillation_section import DISTRIBUTIONS, TranslationDistillation
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.models.positions import check_width
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.nemo_files.tokenizer_files import Vocabulary, loaded_vocabulary
from nemo_distill.nemo_files.weights import check_weights
from nemo_distill.text.files import as_list

LEAST = 50.0  # in nats below the most probable word: no probability, but finite and without effect


@dataclass(frozen=True, kw_only=True)
class MappedProjection(Projection):
    """A projection to the teacher's words, whose logits are those of the student's words.

    Args:
        words: (V,), the teacher's id of each of the student's words; 0 for those in `tail` and `none`.
        tail: (K,), the student's words that the teacher lacks.
        none: (N,), the student's words without probability.
        others: (M,), the teacher's words that the student lacks.
    """

    words: Tensor
    tail: Tensor
    none: Tensor
    others: Tensor

    def project(self) -> Logits:
        """Returns the logits (..., V). A softmax over them gives the teacher's probabilities."""
        teacher = super().project().values  # (..., teacher's V)
        logits = teacher[..., self.words]  # (..., V)
        least = teacher.amax(dim=-1, keepdim=True) - LEAST
        logits[..., self.none] = least
        if count := len(self.tail):
            rest = teacher[..., self.others].logsumexp(dim=-1, keepdim=True) - math.log(count)
            logits[..., self.tail] = rest.maximum(least)
        return Logits(logits)


class HuggingFaceTeacher(DistillationMixin[TranslationDistillation], nn.Module):
    """A teacher that reads a student's batches. It has what a teacher's `MTEncDecModel` has.

    Args:
        path: the folder.
        languages: source and target language, if the model has several.

    Raises:
        ConfigurationError: if the folder cannot be loaded, or a language is wrong.
        NotFiniteError: if the weights contain NaN or infinity.
    """

    distillation_tensors = DISTRIBUTIONS
    multilingual, multilingual_ids = False, (None,)
    source_processor = target_processor = language_tag = None
    words: Tensor
    tail: Tensor
    none: Tensor
    others: Tensor
    source_ids: Tensor
    target_ids: Tensor

    def __init__(self, path: str | Path, languages: Sequence[str | None] = (None, None)):
        super().__init__()
        folder = HuggingFaceFolder(path)
        with torch.random.fork_rng(devices=[]):  # the first weights of a student depend only on the seed
            self.model, self._tokenizer, direction = open_folder(folder.path, languages, fast=False)
        check_weights(self.model, f"'{path}' is not used: it")
        self.model.eval().requires_grad_(False)
        self._prompt = prompt(self.model.generation_config, self._tokenizer, direction)
        self._before, self._after = self._around_sources(direction.before.strip())
        self.cfg = folder.config
        self.cfg.encoder.max_sequence_length -= len(self._before) + len(self._after) - 2  # a student's are 2
        self.cfg.decoder.max_sequence_length -= len(self._prompt) - 1
        self.set_student(*_nemo_tokenizers(folder))

    def _around_sources(self, tag: str) -> tuple[list[int], list[int]]:
        """Returns the ids before and after the pieces of a source. OPUS-MT's tag counts among them."""
        middle = self._tokenizer.unk_token_id
        ids = self._tokenizer.build_inputs_with_special_tokens([middle])
        cut = ids.index(middle)
        return ids[:cut] + ([self._tokenizer.convert_tokens_to_ids(tag)] if tag else []), ids[cut + 1 :]

    def set_student(self, source_tokenizer: Any, target_tokenizer: Any) -> None:
        """Sets the tokenizers whose ids are read and returned.

        Args:
            source_tokenizer: the student's tokenizer of the encoder, in NeMo's class.
            target_tokenizer: that of the decoder.
        """
        self.encoder_tokenizer, self.decoder_tokenizer = source_tokenizer, target_tokenizer
        known = self._tokenizer.get_vocab()
        sides = known, getattr(self._tokenizer, "target_encoder", known)  # Marian may have a vocabulary for each side
        source, target = (
            _teacher_ids(own, side, self._tokenizer) for own, side in zip((source_tokenizer, target_tokenizer), sides)
        )
        for name, ids, side in zip(("source_ids", "target_ids"), (source, target), sides):
            self._keep(name, [side[self._tokenizer.unk_token] if index is None else index for index in ids])
        never = self._forbidden() | {sides[1][self._tokenizer.pad_token]}
        lacked = {own_id for own_id, index in enumerate(target) if index is None}
        unused = lacked & {target_tokenizer.bos_id, target_tokenizer.pad_id}
        none = unused | {own_id for own_id, index in enumerate(target) if index in never}
        every = range(self.model.get_output_embeddings().weight.shape[0])
        self._keep("words", [0 if own_id in lacked | none else index for own_id, index in enumerate(target)])
        self._keep("tail", sorted(lacked - none))
        self._keep("none", sorted(none))
        self._keep("others", sorted(set(every) - set(target) - never))
        self.pad_id, self.decoder_vocab_size = target_tokenizer.pad_id, len(target)

    def _keep(self, name: str, ids: Sequence[int | None]) -> None:
        self.register_buffer(name, torch.tensor(ids, dtype=torch.long, device=self.device), persistent=False)

    def _forbidden(self) -> set[int]:
        """Returns the ids that the model's generation config rules out."""
        config = self.model.generation_config
        words = [ids[0] for ids in config.bad_words_ids or () if len(ids) == 1]
        return {*words, *(config.suppress_tokens or ())} - set(as_list(config.eos_token_id))

    @property
    def device(self) -> torch.device:
        return self.model.device

    def vocabularies(self) -> dict[str, Vocabulary]:
        """Returns the vocabulary of each side of what it reads: until `set_student`, of its own tokenizer files."""
        return {side: loaded_vocabulary(getattr(self, f"{side}_tokenizer")) for side in SIDES}

    def modules_to_compile(self) -> list[nn.Module]:
        return [self.model.get_encoder(), self.model.get_decoder()]

    def distillation_forward(self, batch: list[Tensor]) -> Tensor | Projection:
        src_ids, src_mask, tgt_ids, tgt_mask, labels = squeeze_batch(batch)
        for name in self.distillation_tensors:
            self.register_distillation_mask(name, labels != self.pad_id)
        outputs = self(src_ids, src_mask, tgt_ids, tgt_mask)
        if self.wants_distillation_tensor("nll"):
            self.register_distillation_tensor("nll", -outputs.gather(-1, labels.unsqueeze(-1)).squeeze(-1))
        return outputs

    def forward(self, src: Tensor, src_mask: Tensor, tgt: Tensor, tgt_mask: Tensor) -> Tensor | Projection:
        """Returns the log-probabilities (B, T, V) of the target tokens, or a `Projection` if no loss reads them.

        Args:
            src: the student's source ids (B, S), with start and end.
            src_mask: (B, S), true at real tokens.
            tgt: the student's decoder input ids (B, T), with the start.
            tgt_mask: (B, T). Not read, because padding stands behind all that is read.
        """
        check_width(self.cfg, encoder=src.shape[1], decoder=tgt.shape[1])
        ids, mask = self._sources(src, src_mask.bool())
        start = tgt.new_tensor(self._prompt).expand(len(tgt), -1)  # (B, P)
        hidden_states = self.model.model(
            input_ids=ids,
            attention_mask=mask.long(),
            decoder_input_ids=torch.cat((start, self.target_ids[tgt[:, 1:]]), dim=1),  # (B, P + T - 1)
            use_cache=False,
        ).last_hidden_state[:, len(self._prompt) - 1 :]  # (B, T, D)
        bias = getattr(self.model, "final_logits_bias", None)
        layer = self.model.get_output_embeddings()
        projection = MappedProjection(
            hidden_states,
            layer.weight,
            layer.bias if bias is None else bias[0],
            words=self.words,
            tail=self.tail,
            none=self.none,
            others=self.others,
        )
        self.distillation_registration_step(projection=projection)
        if self.is_being_distilled() and not any(map(self.wants_distillation_tensor, ("log_probs", "nll"))):
            return projection
        log_probs = projection.tempered_log_probs()  # (B, T, V)
        self.distillation_registration_step(log_probs=log_probs)
        return log_probs

    def _sources(self, src: Tensor, src_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the teacher's ids and mask of sources (B, S), whose start and end are replaced by its own."""
        before, after, lengths = len(self._before), len(self._after), src_mask.sum(dim=1) - 2
        width = before + src.shape[1] - 2 + after
        positions = torch.arange(width, device=src.device)  # (S',)
        mask = positions < (lengths + before + after).unsqueeze(1)  # (B, S')
        ids = src.new_full((len(src), width), self._tokenizer.pad_token_id)
        ids[:, :before] = src.new_tensor(self._before)
        ids[:, before : before + src.shape[1] - 2] = self.source_ids[src[:, 1:-1]]
        rows = torch.arange(len(src), device=src.device)
        for place, index in enumerate(self._after):
            ids[rows, before + lengths + place] = index
        return ids.masked_fill(~mask, self._tokenizer.pad_token_id), mask


def _teacher_ids(own: Any, known: Mapping[str, int], tokenizer: Any) -> list[int | None]:
    """Returns the teacher's id of each of a student's ids; None if it has none. No id of the teacher is given twice.

    Args:
        own: the student's tokenizer, in NeMo's class.
        known: the teacher's ids by their pieces.
        tokenizer: the teacher's tokenizer.
    """
    roles = {own.eos_id: tokenizer.eos_token, own.unk_id: tokenizer.unk_token, own.pad_id: tokenizer.pad_token}
    given = {known[token] for token in roles.values()}
    ids: list[int | None] = []
    for index, piece in enumerate(loaded_vocabulary(own).pieces):
        found = known[roles[index]] if index in roles else known.get(piece)
        ids.append(None if index not in roles and found in given else found)
    return ids


def _nemo_tokenizers(folder: HuggingFaceFolder) -> list[Any]:
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    with tempfile.TemporaryDirectory() as place:
        sections = [folder.config[f"{side}_tokenizer"] for side in SIDES]
        paths = [folder.extract_artifact(section.tokenizer_model, place) for section in sections]
        return [SentencePieceTokenizer(str(path)) for path in paths]
