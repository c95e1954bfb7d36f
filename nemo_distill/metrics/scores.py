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
    """A corpus score, and the signature of how it was computed.

    BLEU and chrF are points of 0 to 100, TER is edits for 100 words of the reference, of which fewer are better.
    """

    value: float
    signature: str


# sacrebleu's, of languages as NeMo, Marian, NLLB, M2M-100 and mBART call them, but for scripts and countries.
TOKENIZATIONS = {
    **dict.fromkeys(("ja", "jpn", "jap"), "ja-mecab"),
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
}
WITHOUT_SPACES = ("ja-mecab", "zh")


def bleu_tokenization(language: str | None) -> str:
    """Returns sacrebleu's tokenization for a target language; `13a` where the language needs none of its own.

    Args:
        language: such as `zh`, `zh-CN`, `zh_CN`, `zho_Hans` or `__zh__`.
    """
    return TOKENIZATIONS.get(re.split("[-_]", (language or "").strip("_").lower())[0], "13a")


def signed_tokenization(signature: str) -> str:
    """Returns the tokenization in a signature of BLEU, there perhaps with a version; `13a` if it names none."""
    signed = dict(part.split(":", 1) for part in signature.split("|") if ":" in part).get("tok", "13a")
    return next((name for name in TOKENIZATIONS.values() if signed.startswith(f"{name}-")), signed)


def language_problems(where: str, language: str | None) -> list[str]:
    """Returns a sentence, which begins with `where`, if sacrebleu cannot part the words of a language here."""
    try:
        build_metric("BLEU", language)
    except RuntimeError:
        extra = bleu_tokenization(language)[:2]
        return [f"{where}: BLEU of language={language} needs pip install 'sacrebleu[{extra}]'."]
    return []


def build_metric(name: str, language: str | None = None) -> Metric:
    """Returns sacrebleu's metric of a name in `METRICS`, as sacrebleu sets it up by default for a language.

    Args:
        name: BLEU (Papineni 2002), chrF, which is chrF2 (Popović 2015), or TER (Snover 2006).
        language: the target language, which chooses BLEU's tokenization. TER counts the characters of Chinese and
            Japanese for words, which are otherwise whole sentences.
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
    """Returns a corpus score of `translations` against one reference each.

    Args:
        name: one of `METRICS`.
        translations: one a sentence.
        references: likewise.
        language: the target language.

    Raises:
        ValueError: if there are not as many references as translations.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)} translations cannot be scored against {len(references)} references")
    metric = build_metric(name, language)
    value = metric.corpus_score(list(translations), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def bleu(translations: Sequence[str], references: Sequence[str], language: str | None = None) -> Score:
    """Returns the corpus BLEU; see `corpus_score`."""
    return corpus_score("BLEU", translations, references, language)
