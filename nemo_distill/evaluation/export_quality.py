"""What an export costs: BLEU of the export and of the same model in float32, on a development set.

Exports for CTranslate2 and the browser are searched as their reference is, so that only the export makes a difference.
An export for Hugging Face is searched by Hugging Face and its reference by us. Its weights are the same, so that the
search makes the difference. A shortlist is measured with one sentence in a batch and with many, because CTranslate2
unites the candidates of a batch.

Rounding changes words in many sentences, for better and for worse, so that BLEU differs by chance; a p-value says how
easily. The likelihood of the references, which are the same words for both, varies much less.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import Field

from nemo_distill.config.section import changed, section
from nemo_distill.console import console
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.translations import translated
from nemo_distill.export.record import ExportRecord, Quality
from nemo_distill.metrics.scores import bleu
from nemo_distill.metrics.significance import CHANCE, SignificanceSettings, compare
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.files import named_files, unfit_reference
from nemo_distill.text.languages import first_lines, language_problems, scored_language

FLOAT32, EXPORT = "float32", "export"
BATCHES = (1, 32)  # sentences in a batch, of the measurements of a shortlist
# Of an export and of its reference, if they differ.
SEARCHES = {"hugging_face": (" by Hugging Face's search", " by our search")}


@section
class DevelopmentSet:
    """Sentences with references that tell what an export costs."""

    source: str | None = None
    """A file, plain or packed, a sentence a line; null: the cost is not measured."""
    reference: str | None = None
    """The translations of the source by people."""
    language: str | None = None
    """The target language, which chooses how BLEU finds words; null: what the model writes."""
    beam_size: int = Field(default=4, ge=1)
    """Hypotheses in the beam; 1 is greedy search. The length penalty is 0, which all engines understand alike."""

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why the set cannot be read, and each key without effect."""
        if self.source is None and self.reference is None:
            return [
                f"{key}={value}: has no effect without source and reference; give them, or leave it out."
                for key, value in changed(self).items()
            ]
        if not self.is_given:
            missing = "source" if self.source is None else "reference"
            return [f"{missing}=null: a development set has source and reference."]
        files, problems = self._files()
        if problems:
            return problems + language_problems("language", self.language)
        return language_problems("language", scored_language(self.language, first_lines(files[1])))

    @property
    def is_given(self) -> bool:
        """True if there is a development set."""
        return self.source is not None and self.reference is not None

    def set_for(self, language: str | None) -> EvaluationSet:
        """Returns the set; `language` is what the model writes."""
        (source, reference), _ = self._files()
        language = scored_language(self.language or language, first_lines(reference))
        return EvaluationSet("development", source, reference, language)

    def _files(self) -> tuple[list[Path], list[str]]:
        found, problems = [], []
        for key, value in (("source", self.source), ("reference", self.reference)):
            paths, unreadable = named_files(key, value)
            problems += unreadable
            found += paths
            if not unreadable and len(paths) != 1:
                problems.append(f"{key}={value}: must be one file; it names {len(paths)}.")
        return found, problems or unfit_reference("source", *found)


def measure_export(model: Path, folder: Path, record: ExportRecord, development: DevelopmentSet) -> Quality:
    """Translates the development set by the model in float32 and by its export, and returns their BLEU.

    Args:
        model: the `.nemo`.
        folder: the export for CTranslate2, Hugging Face or the browser.
        record: the record of the export.
        development: the development set.
    """
    one = development.set_for(None if record.target.language == "ignore" else record.target.language)
    search = SearchSettings(beam_size=development.beam_size, length_penalty=0.0)
    sources, references = one.read()
    texts: dict[str, list[str]] = {}
    nats: dict[str, float] = {}
    for name, load in _engines(model, folder, record).items():
        console.info(f"measuring: {name}")
        texts[name], lost = _measured(name, load(), sources, references, search)  # one engine in memory at a time
        if lost is not None:
            nats[name] = lost
    return Quality(
        source=fingerprint(one.source),
        reference=fingerprint(one.reference),
        beam_size=development.beam_size,
        scores={name: bleu(lines, references, one.language) for name, lines in texts.items()},
        p_values=_p_values(texts, references, one.language),
        nats=nats,
    )


def _measured(
    name: str, engine: Engine, sources: list[str], references: list[str], search: SearchSettings
) -> tuple[list[str], float | None]:
    """Returns the translations, and what the references cost in nats a token, if the engine can tell."""
    texts = [found.text for found in translated(name, engine, sources, search)]
    if not isinstance(engine, CTranslate2Engine) or name not in (FLOAT32, EXPORT):
        return texts, None
    log_probs, tokens = map(sum, zip(*engine.totals(sources, references)))
    return texts, -log_probs / tokens


def _p_values(texts: dict[str, list[str]], references: list[str], language: str | None) -> dict[str, float]:
    pairs = [(name, FLOAT32 if name == EXPORT else EXPORT) for name in texts if name != FLOAT32]
    settings = SignificanceSettings(metrics=["BLEU"])
    return {one["system"]: one["p_value"] for one in compare(texts, references, settings, pairs, language)}


def _engines(model: Path, folder: Path, record: ExportRecord) -> dict[str, Callable[[], Engine]]:
    """Returns what translates, by the names of the scores."""
    others: dict[str, Callable[[], Engine]] = {
        "hugging_face": lambda: load_engine("hugging_face", [folder]),
        "browser": lambda: _browser_engine(model, folder, record),
    }
    if record.format in others:
        return {FLOAT32: lambda: load_engine("nemo_distill", [model]), EXPORT: others[record.format]}
    with_shortlist = {
        f"shortlist, batches of {size}": partial(CTranslate2Engine, folder, sentences_in_batch=size)
        for size in BATCHES
        if record.shortlist is not None
    }
    return {
        FLOAT32: lambda: CTranslate2Engine.from_nemo(model, "float32"),
        EXPORT: lambda: CTranslate2Engine(folder, shortlist=False),
        **with_shortlist,
    }


def _browser_engine(model: Path, folder: Path, record: ExportRecord) -> Engine:
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    from nemo_distill.decoding.browser_engine import BrowserEngine
    from nemo_distill.nemo_files.restore import restore_for_inference

    return BrowserEngine(restore_for_inference(MTEncDecModel, model), folder, record)


def quality_problems(
    quality: Quality, format: str, quantization: str, max_loss: float, shortlist_max_loss: float
) -> list[str]:
    """Returns a sentence, with the scores, for each part of an export that loses more BLEU than it may.

    Args:
        quality: what was measured.
        format: the format of the export.
        quantization: the type of the export's weights.
        max_loss: how much the export may lose, compared with float32.
        shortlist_max_loss: how much the shortlist may lose, compared with the export without it.
    """
    values = {name: score.value for name, score in quality.scores.items()}
    exported = values[EXPORT]
    problems = []
    if (loss := values[FLOAT32] - exported) > max_loss:
        lost_by = f"format={format}" if quantization == FLOAT32 else f"quantization={quantization}"
        theirs, ours = SEARCHES.get(format, ("", ""))
        problems.append(
            f"{lost_by} loses {loss:.2f} BLEU on '{quality.source['name']}': {exported:.2f}{theirs} instead of "
            f"{values[FLOAT32]:.2f} in float32{ours}{_chance(quality, EXPORT)}; max_loss={max_loss} allows less. "
            f"{_help(quantization)}"
        )
    worst = min((name for name in values if name not in (FLOAT32, EXPORT)), key=values.__getitem__, default=None)
    if worst is not None and (loss := exported - values[worst]) > shortlist_max_loss:
        measured = ", ".join(f"{name}: {value:.2f}" for name, value in values.items() if name != FLOAT32)
        problems.append(
            f"The shortlist loses {loss:.2f} BLEU on '{quality.source['name']}' ({measured})"
            f"{_chance(quality, worst)}; shortlist.max_loss={shortlist_max_loss} allows less. A larger "
            "shortlist.candidates or shortlist.common and more text in shortlist.source lose less."
        )
    return problems


def _chance(quality: Quality, name: str) -> str:
    """Says whether a loss can be chance, and what the likelihood says of it."""
    if (p_value := quality.p_values.get(name)) is None:
        return ""
    said = f", more than chance (p = {p_value:.3f})"
    if p_value >= CHANCE:
        said = f", which can be chance (p = {p_value:.2f}): a larger development set tells"
    if name == EXPORT and quality.nats:
        lost = quality.nats[EXPORT] - quality.nats[FLOAT32]
        said += f"; the references' likelihood loses {lost:.4f} nats a token"
    return said


def _help(quantization: str) -> str:
    """Returns a sentence that names what loses less, if there is a type of weights that does."""
    if quantization == FLOAT32:
        return "The weights are the model's own, so that no other quantization loses less."
    if quantization.startswith("int8"):
        return (
            "quantization=float32 loses nothing; int16 and float16, which not all formats have, lose less and take "
            "twice the bytes of int8."
        )
    return "quantization=float32 loses nothing."
