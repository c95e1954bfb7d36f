"""What NeMo does to text before its tokenizer and after it, chosen by language, and without NeMo where that can be."""

from functools import cache
from typing import Protocol

# NeMo has processors of its own for these; Japanese changes the other side's, too.
NEMOS_OWN = {"ja", "ja-mecab", "zh", "hi"}


class Processor(Protocol):
    """One language's."""

    def normalize(self, text: str) -> str: ...
    def tokenize(self, text: str) -> str: ...
    def detokenize(self, tokens: list[str]) -> str: ...


class Moses:
    """NeMo's `MosesProcessor`, whose import would take many seconds: Moses's scripts, as sacremoses has them."""

    def __init__(self, language: str):
        from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

        self._normalizer = MosesPunctNormalizer(lang=language)
        self._tokenizer = MosesTokenizer(lang=language)
        self._detokenizer = MosesDetokenizer(lang=language)

    def normalize(self, text: str) -> str:
        return self._normalizer.normalize(text)

    def tokenize(self, text: str) -> str:
        return self._tokenizer.tokenize(text, escape=False, return_str=True)

    def detokenize(self, tokens: list[str]) -> str:
        return self._detokenizer.detokenize(tokens)


@cache
def load_processors(
    source_language: str | None, target_language: str | None
) -> tuple[Processor | None, Processor | None]:
    """Returns the processors of source and target that NeMo has for the languages; None does nothing."""
    if NEMOS_OWN & {source_language, target_language}:
        from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

        return MTEncDecModel.setup_pre_and_post_processing_utils(source_language, target_language, None, None)
    languages = (source_language, target_language)
    source, target = (None if language in (None, "ignore") else Moses(language) for language in languages)
    return source, target


def tokenized(text: str, processor: Processor | None) -> str:
    """Returns a line as a model reads it, which was trained on text that the processor has tokenized."""
    return text if processor is None else processor.tokenize(processor.normalize(text))
