"""The language tag that a one-to-many teacher reads in front of each source, and its bilingual student does not.

The teacher's tensors are cut to the student's: positions of the source without the tag, and words without the tags.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nemo_distill.losses.projection import Projection
from nemo_distill.nemo_files.model_kinds import tag_of
from nemo_distill.text.files import as_list

SMALLEST_SHARE = 1e-9  # avoids 0 / 0 where all attention is on the tag


@dataclass(frozen=True)
class LanguageTag:
    """A tag for the sources of one teacher.

    Args:
        index: its id.
        words: the size of the student's output, V, which has no tags.
    """

    index: int
    words: int

    def in_front(self, src_ids: Tensor, src_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ids and mask (B, S + 1) of sources (B, S) with the tag in front."""
        return tuple(
            torch.cat((values.new_full((len(values), 1), value), values), dim=1)
            for values, value in ((src_ids, self.index), (src_mask, 1))
        )

    def projection(self, full: Projection) -> Projection:
        """Returns the projection to the student's words."""
        bias = None if full.bias is None else full.bias[: self.words]
        return replace(full, weight=full.weight[: self.words], bias=bias)

    @staticmethod
    def without(name: str, tensors: Any) -> Any:
        """Returns what a model registers as `name`, without the tag's position.

        Hidden states (B, S + 1, D) become (B, S, D). Attention maps whose keys are source positions get each row
        divided by its sum again, so that it remains a distribution over the other positions.
        """
        if isinstance(tensors, list):
            return [LanguageTag.without(name, tensor) for tensor in tensors]
        if name == "decoder_cross_attention":
            return _shares(tensors[..., 1:])  # (B, H, T, S)
        if name == "encoder_self_attention":
            return _shares(tensors[..., 1:, 1:])  # (B, H, S, S)
        return tensors[:, 1:] if name.startswith("encoder") else tensors


def _shares(attention: Tensor) -> Tensor:
    return attention / attention.sum(dim=-1, keepdim=True).clamp(min=SMALLEST_SHARE)


def teacher_tag(teacher: Any, student: Any) -> LanguageTag | None:
    """Returns the tag that a teacher must read for its student; None if the student reads the same as its teacher.

    Args:
        teacher: an `MTEncDecModel`.
        student: the config of the student, with the languages that it takes from its teacher.
    """
    language = tag_of(student, teacher.cfg)
    if language is None:
        return None
    words = teacher.decoder_vocab_size - len(added_tags(teacher))
    return LanguageTag(teacher.multilingual_lang_to_id[language], words)


def taught_words(teacher: Any) -> int:
    """Returns how many words a teacher's distributions have: those of its output, without tags if it reads a tag."""
    return teacher.language_tag.words if teacher.language_tag else teacher.decoder_vocab_size


def added_tags(model: Any) -> list[int]:
    """Returns the ids of the language tags that NeMo has added to the pieces of a model's tokenizer file."""
    pieces = getattr(model.decoder_tokenizer, "original_vocab_size", model.decoder_tokenizer.vocab_size)
    return [index for index in model.multilingual_ids if index is not None and index >= pieces]


def language_ids(model: Any) -> list[int | None]:
    """Returns the id that a model's data sets put in front of the sources of each language; None for none.

    NeMo's own list is empty for a many-to-one model, so that it fails to read the first data set.
    """
    return model.multilingual_ids or [None] * len(as_list(model.cfg.get("src_language")))
