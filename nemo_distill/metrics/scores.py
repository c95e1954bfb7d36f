"""Corpus scores by sacrebleu, each with the signature that reproduces it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric

METRICS = ("BLEU", "chrF", "TER")
FEWER_IS_BETTER = ("TER",)


@dataclass(frozen=True)
class Score:
    """A corpus score and the sacrebleu signature of how it was computed.

    BLEU and chrF are between 0 and 100. TER is the number of edits per 100 reference words; lower is better.
    """

    value: float
    signature: str


# sacrebleu's tokenizations by language code (of NeMo, Marian, NLLB, M2M-100 and mBART), without script or country.
TOKENIZATIONS = {
    **dict.fromkeys(("ja", "jpn", "jap"), "ja-mecab"),
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
}
WITHOUT_SPACES = ("ja-mecab", "zh")


def bleu_tokenization(language: str | None) -> str:
    """Returns sacrebleu's tokenization for a target language; `13a` by default.

    Args:
        language: such as `zh`, `zh-CN`, `zh_CN`, `zho_Hans` or `__zh__`.
    """
    return TOKENIZATIONS.get(re.split("[-_]", (language or "").strip("_").lower())[0], "13a")


def signed_tokenization(signature: str) -> str:
    """Returns the tokenization in a BLEU signature, without its version; `13a` if it names none."""
    signed = dict(part.split(":", 1) for part in signature.split("|") if ":" in part).get("tok", "13a")
    return next((name for name in TOKENIZATIONS.values() if signed.startswith(f"{name}-")), signed)


def language_problems(where: str, language: str | None) -> list[str]:
    """Returns a sentence that begins with `where` if sacrebleu lacks the tokenizer for this language."""
    try:
        build_metric("BLEU", language)
    except RuntimeError:
        extra = bleu_tokenization(language)[:2]
        return [f"{where}: BLEU for language={language} needs pip install 'sacrebleu[{extra}]'."]
    return []


def build_metric(name: str, language: str | None = None) -> Metric:
    """Returns a sacrebleu metric with the default settings for a language.

    Args:
        name: BLEU (Papineni 2002), chrF (chrF2, Popović 2015) or TER (Snover 2006).
        language: the target language, which determines BLEU's tokenization. For Chinese and Japanese, TER counts
            characters as words. Otherwise it would count whole sentences.
    """
    tokenization = bleu_tokenization(language)
    if name == "BLEU":
        return BLEU(tokenize=tokenization)
    if name == "TER" and tokenization in WITHOUT_SPACES:
        return TER(normalized=True, asian_support=True)
    return {"chrF": CHRF, "TER": TER}[name]()


def corpus_score(
    name: str, translations: Sequence[str], references: Sequence[str], language: str | None = None
) -> Score:
    """Returns the corpus score of `translations` against one reference each.

    Args:
        name: one of `METRICS`.
        translations: one per sentence.
        references: one per sentence.
        language: the target language.

    Raises:
        ValueError: if the numbers of translations and references differ.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)} translations cannot be scored against {len(references)} references")
    metric = build_metric(name, language)
    value = metric.corpus_score(list(translations), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def bleu(translations: Sequence[str], references: Sequence[str], language: str | None = None) -> Score:
    """Returns the corpus BLEU; see `corpus_score`."""
    return corpus_score("BLEU", translations, references, language)
