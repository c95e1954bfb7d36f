"""A teacher that has other pieces than its student, and reads the same text in its own pieces.

The ids of a batch become text, and the text becomes the teacher's ids. Its distributions are read at the positions
that both segmentations of the target have, and turned into distributions over the student's pieces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role
from nemo_distill.losses.mapped import MappedDistributions, PieceMap, label_log_probs
from nemo_distill.losses.projection import Logits, Projection
from nemo_distill.losses.span_likelihood import span_sums
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.models.positions import check_width
from nemo_distill.text.segmentations import UNKNOWN, Pieces, align, piece_map

Rows = Sequence[Sequence[int]]  # the ids of some sentences, without special ids


class PieceTeacher(Protocol):
    """A teacher that reads its own pieces. Implement this to let another kind of model teach across vocabularies."""

    source: Pieces
    target: Pieces

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


class NemoPieceTeacher:
    """A NeMo translation model as a `PieceTeacher`.

    Args:
        model: an `MTEncDecModel`.
        run: runs the model on a batch, and returns its distributions.
    """

    def __init__(self, model: Any, run: Callable[[list[Tensor]], Projection | Logits]):
        self.model, self.run = model, run
        self.source, self.target = (pieces_of(side) for side in (model.encoder_tokenizer, model.decoder_tokenizer))

    def distributions(self, sources: Rows, targets: Rows) -> Projection | Logits:
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
        return self.run([tensor.to(device) for tensor in batch])


def _padded(rows: Rows, filler: int, width: int = 0) -> Tensor:
    """Returns the rows as a tensor (B, W), with at least `width` columns."""
    width = max(width, *map(len, rows))
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def projected_by(model: DistillationMixin) -> Callable[[list[Tensor]], Any]:
    """Returns a function that runs a distillable model as teacher on a batch, and returns its `Projection`."""

    def run(batch: list[Tensor]) -> Any:
        registry = DistillationRegistry({(Role.TEACHER, PROJECTION)})
        with model.distillation_pass(Role.TEACHER, registry):
            model.distillation_forward(batch)
        return registry.get(Role.TEACHER, PROJECTION)

    return run


@dataclass(frozen=True)
class Retokenized:
    """What a teacher says about a batch of its student.

    Args:
        distributions: over the student's pieces, at the student's positions (B, T).
        pairs: (B, T), true where the teacher has a distribution.
        spans: the log-likelihoods (B, C) of spans and the number (B, T) of the span of each position; see
            `SpanLikelihoodLoss`. Empty if they were not asked for.
        real: (B, T'), true at the target pieces of the teacher.
    """

    distributions: MappedDistributions
    pairs: Tensor
    spans: list[Tensor]
    real: Tensor


def retokenizer(teacher: PieceTeacher, source: Any, target: Any, teacher_vocab_size: int) -> "Retokenizer":
    """Returns what lets a teacher read the batches of a student with these NeMo tokenizers."""
    return Retokenizer(teacher, pieces_of(source), pieces_of(target), teacher_vocab_size)


class Retokenizer:
    """Lets a teacher read the batches of a student with other pieces.

    A position is paired if the teacher's segmentation has it as well, and if the teacher's next piece is mapped to the
    student's next piece.

    Args:
        teacher: the teacher.
        source: the student's source pieces.
        target: the student's target pieces.
        teacher_vocab_size: V', the size of the teacher's output.
    """

    def __init__(self, teacher: PieceTeacher, source: Pieces, target: Pieces, teacher_vocab_size: int):
        self.teacher, self.source, self.target = teacher, source, target
        # An output may have more columns than there are pieces.
        ids = np.full(teacher_vocab_size, len(target.surfaces))
        found = piece_map(teacher.target, target)[:teacher_vocab_size]
        ids[: len(found)] = found
        self.piece_map = PieceMap(torch.from_numpy(ids), len(target.surfaces))

    def __call__(self, batch: Sequence[Tensor], with_spans: bool = False) -> Retokenized:
        """Runs the teacher on the text of a batch.

        Args:
            batch: src_ids (B, S), src_mask (B, S), tgt_ids (B, T), tgt_mask (B, T), labels (B, T).
            with_spans: whether to return spans.
        """
        src_ids, labels = batch[0], batch[-1]
        theirs = self.teacher.target
        sources = [self.teacher.source.encode(self.source.text(row)) for row in _without_special(src_ids, self.source)]
        own_rows = _without_special(labels, self.target)
        their_rows = [theirs.encode(self.target.text(row)) for row in own_rows]
        alignments = [align(*rows, self.target, theirs) for rows in zip(own_rows, their_rows)]
        distributions = self.teacher.distributions(sources, their_rows)
        their_labels = _padded([[*row, theirs.special_ids["eos"]] for row in their_rows], theirs.special_ids["pad"])
        their_labels = their_labels.to(labels.device)  # (B, T')
        positions = _padded([one.positions for one in alignments], -1, labels.shape[1]).to(labels.device)
        positions = positions[:, : labels.shape[1]]  # (B, T): a translation that was cut has no label for its end
        begun = self.piece_map.ids.to(labels.device)[their_labels]  # (B, T'), of the student, by the teacher's piece
        pairs = (positions >= 0) & (begun.gather(1, positions.clamp(min=0)) == labels)
        mapped = MappedDistributions(distributions, positions.clamp(min=0), self.piece_map)
        spans = [one.spans for one in alignments]
        found = self._spans(labels, their_labels, spans, distributions) if with_spans else []
        return Retokenized(mapped, pairs, found, their_labels != theirs.special_ids["pad"])

    def _spans(
        self, labels: Tensor, their_labels: Tensor, spans: list[list[tuple[int, int, int, int]]], distributions: Any
    ) -> list[Tensor]:
        span_of, their_span_of = (torch.full(shape, -1) for shape in (labels.shape, their_labels.shape))
        for row, found in enumerate(spans):
            for number, (begin, end, their_begin, their_end) in enumerate(found):
                span_of[row, begin:end] = number
                their_span_of[row, their_begin:their_end] = number
        span_of, their_span_of = span_of.to(labels.device), their_span_of.to(labels.device)
        log_probs = label_log_probs(distributions, their_labels, their_span_of >= 0)  # (B, T')
        return [span_sums(log_probs, their_span_of, max(map(len, spans), default=0) or 1), span_of]


def _without_special(ids: Tensor, pieces: Pieces) -> list[list[int]]:
    special = {pieces.special_ids[name] for name in ("pad", "bos", "eos")}
    return [[index for index in row if index not in special] for row in ids.tolist()]


class RetokenizedTeacher(DistillationMixin):
    """Registers a teacher's distributions over the pieces of its student, as `log_probs` and `projection`.

    It also registers `spans` for `SpanLikelihoodLoss`, and `own_pieces` for `SortedProbabilitiesLoss`.

    Args:
        model: the teacher's model.
        retokenizer: runs the teacher on the student's batches.
    """

    def __init__(self, model: Any, retokenizer: Retokenizer):
        self.model, self.retokenizer = model, retokenizer

    def distillation_forward(self, batch: list[Tensor]) -> None:
        said = self.retokenizer(squeeze_batch(batch), self.wants_distillation_tensor("spans"))
        registry = self.running_step.registry
        registry.register_pairs(said.pairs)
        self.register_distillation_tensor("projection", said.distributions)
        if self.wants_distillation_tensor("log_probs"):
            self.register_distillation_tensor("log_probs", said.distributions.whole(registry.temperature))
        self.register_distillation_tensor("spans", said.spans)
        if self.wants_distillation_tensor("own_pieces"):
            tokens = torch.ones_like(said.real).nonzero().unbind(dim=-1)
            own = said.distributions.teacher.select(tokens).tempered_log_probs(registry.temperature)
            self.register_distillation_tensor("own_pieces", [own.unflatten(0, said.real.shape), said.real])

    def bfloat16(self) -> Any:
        return self.model.bfloat16()

    def modules_to_compile(self) -> list[nn.Module]:
        return self.model.modules_to_compile()

    def number_of_parameters(self) -> int | None:
        return self.model.number_of_parameters()

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        self.model.apply_to_tensors(function)
