"""NeMo's text pre- and post-processing by language, without importing NeMo where possible."""

from functools import cache
from typing import Protocol

# For these languages, NeMo's own processors are used. Japanese also changes the processor of the other side.
NEMO_PROCESSOR_LANGUAGES = {"ja", "ja-mecab", "zh", "hi"}


class Processor(Protocol):
    """The pre- and post-processing of one language."""

    def normalize(self, text: str) -> str: ...
    def tokenize(self, text: str) -> str: ...
    def detokenize(self, tokens: list[str]) -> str: ...


class Moses:
    """Does the same as NeMo's `MosesProcessor` with sacremoses. Importing NeMo's class would take many seconds."""

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
    """Returns NeMo's processors for source and target. None means no processing."""
    if NEMO_PROCESSOR_LANGUAGES & {source_language, target_language}:
        from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

        return MTEncDecModel.setup_pre_and_post_processing_utils(source_language, target_language, None, None)
    languages = (source_language, target_language)
    source, target = (None if language in (None, "ignore") else Moses(language) for language in languages)
    return source, target


def tokenized(text: str, processor: Processor | None) -> str:
    """Returns a line normalized and tokenized by `processor`, as the model's training text was."""
    return text if processor is None else processor.tokenize(processor.normalize(text))
