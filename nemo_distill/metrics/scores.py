"""Corpus scores by sacrebleu, each with the signature that reproduces it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.metrics.base import Metric
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from nemo_distill.text.languages import BLEU_TOKENIZERS, CHARACTERS, bleu_tokenization

MetricName = Literal["BLEU", "chrF", "TER", "chrF++", "spBLEU"]
METRICS: tuple[MetricName, ...] = get_args(MetricName)
FLORES = "flores200"  # sacrebleu's tokenizer of spBLEU
FEWER_IS_BETTER = ("TER",)
ASIAN = ("zh", "ja-mecab")  # tokenizers of BLEU in whose languages TER needs its Asian options


@dataclass(frozen=True)
class Score:
    """A corpus score and the sacrebleu signature of how it was computed.

    All but TER are between 0 and 100. TER is the number of edits per 100 reference words; lower is better.
    """

    value: float
    signature: str


class CharacterTER(TER):
    """TER of single characters, for scripts without spaces that sacrebleu's `asian_support` does not split."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer_signature = f"{self.tokenizer.signature()}-{CHARACTERS}"

    def _preprocess_segment(self, sent: str) -> str:
        return " ".join(super()._preprocess_segment(sent).replace(" ", ""))


def signed_tokenization(signature: str) -> str:
    """Returns the tokenization in a BLEU signature, without its version; `13a` if it names none."""
    signed = dict(part.split(":", 1) for part in signature.split("|") if ":" in part).get("tok", "13a")
    return next((name for name in BLEU_TOKENIZERS.values() if signed.startswith(f"{name}-")), signed)


def flores_pieces() -> Path:
    """Returns where sacrebleu expects the SentencePiece model of spBLEU."""
    return Path(SACREBLEU_DIR) / "models" / Path(SPM_MODELS[FLORES]["url"]).name


def metric_problems(where: str, names: Sequence[str]) -> list[str]:
    """Returns a sentence that begins with `where` if the metrics include spBLEU and its file is missing."""
    if "spBLEU" not in names or flores_pieces().is_file():
        return []
    return [
        f"{where}: spBLEU needs FLORES-200's SentencePiece model. Fetch {SPM_MODELS[FLORES]['url']} and save it as "
        f"'{flores_pieces()}', or leave spBLEU out."
    ]


def build_metric(name: str, language: str | None = None) -> Metric:
    """Returns a sacrebleu metric with the default settings for a language.

    Args:
        name: BLEU (Papineni 2002), chrF (chrF2, Popović 2015), TER (Snover 2006), chrF++ (Popović 2017), or spBLEU
            (Goyal 2022): BLEU of FLORES-200's pieces, whose file sacrebleu fetches if it is missing.
        language: the target language, which determines BLEU's tokenization. For languages without spaces, TER counts
            characters as words. Otherwise it would count whole sentences.
    """
    tokenizer = bleu_tokenization(language)
    if name == "BLEU":
        return BLEU(tokenize=tokenizer)
    if name == "spBLEU":
        return BLEU(tokenize=FLORES)
    if name == "chrF++":
        return CHRF(word_order=2)
    if name == "TER" and tokenizer in ASIAN:
        return TER(normalized=True, asian_support=True)
    if name == "TER" and tokenizer == CHARACTERS:
        return CharacterTER()
    return {"chrF": CHRF, "TER": TER}[name]()


def corpus_score(
    name: str,
    translations: Sequence[str],
    references: Sequence[str],
    language: str | None = None,
    more: Sequence[Sequence[str]] = (),
) -> Score:
    """Returns the corpus score of `translations`.

    Args:
        name: one of `METRICS`.
        translations: one per sentence.
        references: one per sentence.
        language: the target language.
        more: further references, each as many; an empty line is none.

    Raises:
        ValueError: if the numbers of translations and references differ.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)} translations cannot be scored against {len(references)} references")
    metric = build_metric(name, language)
    value = metric.corpus_score(list(translations), all_references(references, more)).score
    return Score(value, str(metric.get_signature()))


def all_references(references: Sequence[str], more: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Returns the references as sacrebleu takes them, with None in place of an empty line of the further ones."""
    return [list(references), *([line or None for line in lines] for lines in more)]


def bleu(translations: Sequence[str], references: Sequence[str], language: str | None = None) -> Score:
    """Returns the corpus BLEU; see `corpus_score`."""
    return corpus_score("BLEU", translations, references, language)
