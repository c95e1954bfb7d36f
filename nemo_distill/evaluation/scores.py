"""Corpus scores by sacrebleu, each with the signature that reproduces it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU


@dataclass(frozen=True)
class Score:
    """A corpus score, in points of 0 to 100, and sacrebleu's signature of how it was computed."""

    value: float
    signature: str


def bleu_tokenization(language: str | None) -> str:
    """Returns sacrebleu's tokenization for a target language; `13a` where the language needs none of its own."""
    return {"ja": "ja-mecab", "ja-mecab": "ja-mecab", "zh": "zh"}.get(language or "", "13a")


def bleu(translations: Sequence[str], references: Sequence[str], language: str | None = None) -> Score:
    """Returns the corpus BLEU of `translations` against one reference each.

    Raises:
        ValueError: if there are not as many references as translations.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)} translations cannot be scored against {len(references)} references")
    metric = BLEU(tokenize=bleu_tokenization(language))
    value = metric.corpus_score(list(translations), [list(references)]).score
    return Score(value, str(metric.get_signature()))
