"""A teacher that has other pieces than its student, and reads the same text in its own pieces.

The ids of a batch become text, and the text becomes the teacher's ids. Its distributions are read at the positions
that both segmentations of the target have, and turned into distributions over the student's pieces.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role
from nemo_distill.losses.mapped import MappedDistributions, PieceMap, label_log_probs
from nemo_distill.losses.projection import Logits, Projection
from nemo_distill.losses.span_likelihood import span_sums
from nemo_distill.models.language_tag import taught_words
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.models.positions import check_width
from nemo_distill.text.segmentations import UNKNOWN, Pieces, align, piece_map

Rows = Sequence[Sequence[int]]  # the ids of some sentences, without special ids


class PieceTeacher(Protocol):
    """A teacher that reads its own pieces. Implement this to let another kind of model teach across vocabularies."""

    model: DistillationMixin
    source: Pieces
    target: Pieces
    vocab_size: int  # V', the size of its output, which may have more columns than there are pieces

    def distributions(self, sources: Rows, targets: Rows) -> Projection | Logits:
        """Returns the distributions (B, T', V') over the pieces of `target`.

        Args:
            sources: the ids of the source sentences, by `source`.
            targets: the ids of the target sentences, by `target`. The distribution at position t is that of the piece
                t; after the last piece of a sentence, it is that of the end of the sentence.
        """


def pieces_of(tokenizer: Any) -> Pieces:
    """Returns the pieces of a NeMo tokenizer of SentencePiece or youtokentome."""
    model = tokenizer.tokenizer
    is_sentencepiece = hasattr(model, "is_byte")
    special = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos")}
    special["unk"] = model.unk_id() if is_sentencepiece else tokenizer.unk_id

    def surface(index: int) -> bytes:
        if index in special.values() or index >= getattr(tokenizer, "original_vocab_size", tokenizer.vocab_size):
            return UNKNOWN if index == special["unk"] else b""  # NeMo may have added special pieces at the end
        (piece,) = tokenizer.ids_to_tokens([index])
        if is_sentencepiece and model.is_byte(index):
            return bytes([int(piece[1:-1], 16)])  # <0xE2>
        return piece.encode()

    # youtokentome's own method, because NeMo's applies BPE-dropout.
    encode = tokenizer.text_to_ids if is_sentencepiece else lambda text: model.encode([text])[0]
    return Pieces(tuple(map(surface, range(tokenizer.vocab_size))), special, encode)


class TranslationPieceTeacher:
    """A translation model as a `PieceTeacher`.

    Args:
        model: a `DistillableMTEncDecModel`, or a `HuggingFaceTeacher` that reads the pieces of its own files.
    """

    def __init__(self, model: Any):
        self.model = model
        self.source, self.target = (pieces_of(side) for side in (model.encoder_tokenizer, model.decoder_tokenizer))
        self.vocab_size = taught_words(model)

    def distributions(self, sources: Rows, targets: Rows) -> Any:
        src_ids, tgt_ids = (
            _padded(
                [[pieces.special_ids["bos"], *row, pieces.special_ids["eos"]] for row in rows],
                pieces.special_ids["pad"],
            )
            for rows, pieces in ((sources, self.source), (targets, self.target))
        )
        src_mask, tgt_mask = src_ids != self.source.special_ids["pad"], tgt_ids != self.target.special_ids["pad"]
        check_width(self.model.cfg, encoder=src_ids.shape[1], decoder=tgt_ids.shape[1] - 1)
        batch = [src_ids, src_mask.long(), tgt_ids[:, :-1], tgt_mask[:, :-1].long(), tgt_ids[:, 1:]]
        device = next(self.model.parameters()).device  # `model.device` does not follow a teacher
        registry = DistillationRegistry({(Role.TEACHER, PROJECTION)})
        with self.model.distillation_pass(Role.TEACHER, registry):
            self.model.distillation_forward([tensor.to(device) for tensor in batch])
        return registry.get(Role.TEACHER, PROJECTION)


def _padded(rows: Rows, filler: int, width: int = 0) -> Tensor:
    """Returns the rows as a tensor (B, W), with at least `width` columns."""
    width = max(width, *map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


class RetokenizedTeacher(DistillationMixin, nn.Module):
    """A teacher that reads the batches of a student with other pieces.

    It registers its distributions over the pieces of the student, as `log_probs` and `projection`, `spans` for
    `SpanLikelihoodLoss`, and `own_pieces` for `SortedProbabilitiesLoss`. A position is paired if the teacher's
    segmentation has it as well, and if the teacher's next piece is mapped to the student's next piece.

    Args:
        teacher: the teacher, which reads its own pieces.
        source_tokenizer: the student's tokenizer of the encoder, in NeMo's class.
        target_tokenizer: that of the decoder.
    """

    def __init__(self, teacher: PieceTeacher, source_tokenizer: Any, target_tokenizer: Any):
        super().__init__()
        self.teacher, self.model = teacher, teacher.model
        self.source, self.target = pieces_of(source_tokenizer), pieces_of(target_tokenizer)
        ids = np.full(teacher.vocab_size, len(self.target.surfaces))
        found = piece_map(teacher.target, self.target)[: teacher.vocab_size]
        ids[: len(found)] = found
        self.piece_map = PieceMap(torch.from_numpy(ids), len(self.target.surfaces))

    def modules_to_compile(self) -> list[nn.Module]:
        return self.model.modules_to_compile()

    def distillation_forward(self, batch: list[Tensor]) -> None:
        src_ids, *_, labels = squeeze_batch(batch)
        theirs = self.teacher.target
        sources = _without(src_ids, self.source, ("pad", "bos", "eos"))
        sources = [self.teacher.source.encode(self.source.text(row)) for row in sources]
        # A start that the student wrote itself is kept. It has no text, but it has a position.
        own_rows = _without(labels, self.target, ("pad", "eos"))
        their_rows = [theirs.encode(self.target.text(row)) for row in own_rows]
        distributions = self.teacher.distributions(sources, their_rows)
        their_labels = _padded([[*row, theirs.special_ids["eos"]] for row in their_rows], theirs.special_ids["pad"])
        their_labels = their_labels.to(labels.device)  # (B, T')
        alignments = [align(*rows, self.target, theirs) for rows in zip(own_rows, their_rows)]
        positions, pairs = self._paired(labels, their_labels, [one.positions for one in alignments])
        self.running_step.registry.register_pairs(pairs)
        self._register_distributions(MappedDistributions(distributions, positions, self.piece_map))
        if self.wants_distillation_tensor("spans"):
            spans = [one.spans for one in alignments]
            self.register_distillation_tensor("spans", _span_likelihoods(labels, their_labels, spans, distributions))
        if self.wants_distillation_tensor("own_pieces"):
            self._register_own_pieces(distributions, their_labels != theirs.special_ids["pad"])

    def _paired(self, labels: Tensor, their_labels: Tensor, positions: Rows) -> tuple[Tensor, Tensor]:
        """Returns (B, T), the teacher's position for each of the student's, and (B, T), true where the two are paired.

        Args:
            labels: (B, T), of the student.
            their_labels: (B, T'), of the teacher.
            positions: the teacher's position for each of the student's, by sentence; -1 for none.
        """
        found = _padded(positions, -1, labels.shape[1]).to(labels.device)
        found = found[:, : labels.shape[1]]  # (B, T): a translation that was cut has no label for its end
        begun = self.piece_map.ids.to(labels.device)[their_labels]  # (B, T'), the student's, by the teacher's piece
        theirs = found.clamp(min=0)
        return theirs, (found >= 0) & (begun.gather(1, theirs) == labels)

    def _register_distributions(self, distributions: MappedDistributions) -> None:
        """Registers the distributions over the student's pieces, at the student's positions (B, T)."""
        self.register_distillation_tensor("projection", distributions)
        if self.wants_distillation_tensor("log_probs"):
            log_probs = distributions.whole(self.running_step.registry.temperature)
            self.register_distillation_tensor("log_probs", log_probs)

    def _register_own_pieces(self, distributions: Projection | Logits, real: Tensor) -> None:
        """Registers the distributions over the teacher's pieces, and (B, T'), true at its target pieces."""
        every = torch.ones_like(real).nonzero().unbind(dim=-1)
        own = distributions.select(every).tempered_log_probs(self.running_step.registry.temperature)
        self.register_distillation_tensor("own_pieces", [own.unflatten(0, real.shape), real])


def _without(ids: Tensor, pieces: Pieces, names: Sequence[str]) -> list[list[int]]:
    """Returns the rows of ids (B, T) without the special ids of these names."""
    special = {pieces.special_ids[name] for name in names}
    return [[index for index in row if index not in special] for row in ids.tolist()]


def _span_likelihoods(
    labels: Tensor,
    their_labels: Tensor,
    spans: Sequence[Sequence[tuple[int, int, int, int]]],
    distributions: Projection | Logits,
) -> list[Tensor]:
    """Returns the log-likelihoods (B, C) of spans, and the number (B, T) of the span of each position.

    Args:
        labels: (B, T), of the student.
        their_labels: (B, T'), of the teacher.
        spans: of each sentence, where each span begins and ends for the student and for the teacher.
        distributions: the teacher's, at its positions (B, T').
    """
    span_of, their_span_of = (torch.full(shape, -1) for shape in (labels.shape, their_labels.shape))
    for row, found in enumerate(spans):
        for number, (begin, end, their_begin, their_end) in enumerate(found):
            span_of[row, begin:end] = number
            their_span_of[row, their_begin:their_end] = number
    span_of, their_span_of = span_of.to(labels.device), their_span_of.to(labels.device)
    log_probs = label_log_probs(distributions, their_labels, their_span_of >= 0)  # (B, T')
    return [span_sums(log_probs, their_span_of, max(map(len, spans), default=0) or 1), span_of]
