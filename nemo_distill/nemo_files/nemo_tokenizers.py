"""Tokenizers of NeMo's classes, among them those that only NeMo can load, such as Hugging Face's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

import nemo_distill.nemo_files.youtokentome  # noqa: F401  (lets NeMo load youtokentome tokenizers)
from nemo_distill.nemo_files.model_kinds import SIDES


class NemoTokenIds:
    """The ids of a NeMo tokenizer."""

    threads_help = False

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.pad_id, self.bos_id, self.eos_id = tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._tokenizer.text_to_ids(text) for text in texts]


def text_of(ids: Sequence[int], tokenizer: Any) -> str:
    """Returns the text of ids, without padding, start and end, which `sentencepiece_legacy` would write out."""
    special = (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    return tokenizer.ids_to_text([index for index in ids if index not in special])


@contextmanager
def without_dropout(*tokenizers: Any) -> Iterator[None]:
    """Within this context, the ids of a text do not vary.

    NeMo applies the `bpe_dropout` of a youtokentome tokenizer to all text, also to that of a validation.
    """
    dropouts = [(tokenizer, tokenizer.bpe_dropout) for tokenizer in tokenizers if hasattr(tokenizer, "bpe_dropout")]
    for tokenizer, _ in dropouts:
        tokenizer.bpe_dropout = 0.0
    try:
        yield
    finally:
        for tokenizer, dropout in dropouts:
            tokenizer.bpe_dropout = dropout


def load_nemo_tokenizers(model: Mapping[str, Any]) -> tuple[Any, Any]:
    """Loads NeMo's tokenizers of a model's config, as NeMo's model does."""
    values: dict[str, Any] = {"encoder_tokenizer_vocab_file": model["encoder_tokenizer"].get("vocab_file")}
    for side in SIDES:
        section = model[f"{side}_tokenizer"]
        values |= {
            f"{side}_tokenizer_library": section.get("library", "sentencepiece"),
            f"{side}_tokenizer_model": section.get("tokenizer_model"),
            f"{side}_model_name": (model.get(side) or {}).get("model_name"),
            f"{side}_r2l": section.get("r2l", False),
            f"{side}_sentencepiece_legacy": section.get("sentencepiece_legacy", False),
        }
    return MTEncDecModel.setup_enc_dec_tokenizers(**values)
