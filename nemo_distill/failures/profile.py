"""The profile of failures: what each system does wrong on each test set, how often, and in which sentences."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.failures.kinds import KINDS, Context
from nemo_distill.failures.robustness import NOISES, fragile, noised
from nemo_distill.failures.segment import Found, Segment
from nemo_distill.failures.settings import KIND_NAMES, FailureSettings, KindName
from nemo_distill.failures.surface import characters_per_source
from nemo_distill.failures.target_language import language_of
from nemo_distill.failures.training_text import Answers, answers, questions
from nemo_distill.metrics.significance import CONFIDENCE, pairs_with
from nemo_distill.text.files import input_files
from nemo_distill.text.languages import identified_language

REVISION = 5  # increase it when other failures are found in the same text, so that stored ones are not used
SAMPLE = 200  # lines by which the language of a test set is found
Findings = Sequence[Found | None]  # the evidence for each sentence; None if it cannot be judged


@dataclass(frozen=True)
class TranslatedSet:
    """A test set and its translations.

    Args:
        translations: of each system, one per sentence.
        noised: for some kinds of noise, the translations of `noised(sources, kind, seed)` by some systems.
        more_references: further references, each as many; an empty line is none. A sentence fails only if it does by
            each of its references.

    Raises:
        DataError: if there are more or fewer lines of one than sources.
    """

    sources: Sequence[str]
    references: Sequence[str]
    translations: Mapping[str, Sequence[str]]
    noised: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    more_references: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        lines = {f"reference {number}": text for number, text in enumerate(self.more_references, start=2)}
        lines |= {"the references": self.references, **{f"'{name}'": text for name, text in self.translations.items()}}
        for kind, texts in self.noised.items():
            lines |= {f"'{name}' with {kind}": text for name, text in texts.items()}
        for name, text in lines.items():
            if len(text) != len(self.sources):
                raise DataError(f"{name} has {len(text)} lines, but the source has {len(self.sources)}")

    def segments(self, system: str) -> list[list[Segment]]:
        """Returns each sentence with a system's translation, once for each of its references."""
        references = zip(self.references, *self.more_references)
        return [
            [Segment(source, translation, one) for one in (first, *filter(None, more))]
            for source, translation, (first, *more) in zip(self.sources, self.translations[system], references)
        ]


def profile(
    sets: Mapping[str, TranslatedSet],
    settings: FailureSettings,
    folder: Path,
    baselines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Returns the failures of all systems on all test sets.

    Args:
        folder: where answers about the training text are kept.
        baselines: the systems that the others are compared with; by default the first one.

    Returns:
        For each test set its `languages`, and its `kinds`: `not_applicable` with the reason, or `systems` with
        `judged` sentences, `rate` (of every thousand, with limits) and `hits` (number of the sentence, from 1, and
        evidence). `comparisons` has for each kind, system and baseline the sentences that only one of them fails,
        the p-value of McNemar's exact test, and the same by Holm for the number of kinds. Only sentences that both
        were judged on count; without any, there is no comparison.
    """
    known = _training_answers(sets, settings, folder)
    return {name: _set_profile(one, settings, known, baselines) for name, one in sets.items()}


def _training_answers(sets: Mapping[str, TranslatedSet], settings: FailureSettings, folder: Path) -> Answers:
    text = {
        "sources": input_files(settings.training_source),
        "targets": input_files(settings.training_target),
        "word_lists": input_files(settings.word_lists),
    }
    if not text["targets"]:
        return Answers((), {}, {}, {})
    folder.mkdir(parents=True, exist_ok=True)
    every = (one.segments(system) for one in sets.values() for system in one.translations)
    asked = questions(chain.from_iterable(chain.from_iterable(every)), settings.span_words)
    return answers(asked, text, settings.span_words, folder / "training_text.json")


def _set_profile(
    one: TranslatedSet, settings: FailureSettings, known: Answers, baselines: Sequence[str] | None
) -> dict[str, Any]:
    context = _context(one, settings, known)
    kinds: dict[str, Any] = {}
    findings: dict[str, dict[str, Findings]] = {}
    for kind in settings.kinds or KIND_NAMES:
        if hindrance := _hindrance(kind, one, context):
            kinds[kind] = {"not_applicable": hindrance}
        else:
            findings[kind] = {system: list(_findings(kind, one, system, context)) for system in one.translations}
            kinds[kind] = {"systems": {system: _counted(found) for system, found in findings[kind].items()}}
    chosen = list(baselines or [next(iter(one.translations))])
    return {
        "languages": {"source": context.source_language, "target": context.target_language},
        "kinds": kinds,
        "comparisons": list(_comparisons(findings, list(one.translations), chosen)),
    }


def _context(one: TranslatedSet, settings: FailureSettings, known: Answers) -> Context:
    return Context(
        identified_language(settings.source_language) or _language(one.sources),
        identified_language(settings.target_language) or _language(one.references),
        characters_per_source(one.sources, one.references),
        settings,
        known,
    )


def _language(lines: Sequence[str]) -> str | None:
    text = " ".join(lines[:SAMPLE]).strip()
    return language_of(text) if text else None


def _hindrance(kind: KindName, one: TranslatedSet, context: Context) -> str | None:
    if kind in NOISES:
        return None if kind in one.noised else f"needs noise=[{kind}]"
    return KINDS[kind].hindrance(context)


def _findings(kind: KindName, one: TranslatedSet, system: str, context: Context) -> Iterator[Found | None]:
    """Yields the evidence for each sentence; None if it cannot be judged."""
    if kind not in NOISES:
        for segments in one.segments(system):
            yield by_all(KINDS[kind].find(segment, context) for segment in segments)
        return
    changed, drop = noised(one.sources, kind, context.settings.noise_seed), context.settings.noise_drop
    translated = one.noised[kind].get(system)
    for place, (source, segments) in enumerate(zip(changed, one.segments(system))):
        if translated is None or source == one.sources[place]:
            yield None
        else:
            yield by_all(fragile(said.translation, translated[place], said.reference, drop) for said in segments)


def by_all(findings: Iterable[Found | None]) -> Found | None:
    """Returns the evidence by the first reference if there is some by each; None if none of them can judge."""
    judged = [found for found in findings if found is not None]
    return min(judged, key=bool) if judged else None


def _counted(findings: Findings) -> dict[str, Any]:
    judged = sum(found is not None for found in findings)
    hits = [{"line": line, "found": list(found)} for line, found in enumerate(findings, start=1) if found]
    return {"judged": judged, "rate": asdict(wilson(len(hits), judged)) if judged else None, "hits": hits}


def _comparisons(
    findings: Mapping[str, Mapping[str, Findings]], systems: Sequence[str], baselines: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for system, baseline in pairs_with(baselines, systems):
        pairs = {kind: _failed(found[system], found[baseline]) for kind, found in findings.items()}
        failed = {kind: pair for kind, pair in pairs.items() if pair is not None}
        p_values = [mcnemar(*pair) for pair in failed.values()]
        for (kind, (mine, theirs)), p_value, adjusted in zip(failed.items(), p_values, holm(p_values)):
            yield {
                "kind": kind,
                "system": system,
                "baseline": baseline,
                "only_system": sorted(mine - theirs),
                "only_baseline": sorted(theirs - mine),
                "p_value": p_value,
                "p_value_holm": adjusted,
            }


def _failed(mine: Findings, theirs: Findings) -> tuple[set[int], set[int]] | None:
    """Returns which sentences each of two systems fails, of those that both were judged on; None without any."""
    pairs = enumerate(zip(mine, theirs), start=1)
    both = {line: (one, other) for line, (one, other) in pairs if one is not None and other is not None}
    if not both:
        return None
    return {line for line, (one, _) in both.items() if one}, {line for line, (_, other) in both.items() if other}


@dataclass(frozen=True)
class Rate:
    """Hits of every thousand sentences, with the limits of Wilson's interval at 95 %."""

    per_thousand: float
    low: float
    high: float


def wilson(hits: int, judged: int) -> Rate:
    """Returns the rate of `hits` in `judged` sentences with Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(hits, judged).proportion_ci(CONFIDENCE, method="wilson")
    return Rate(1000 * hits / judged, 1000 * float(interval.low), 1000 * float(interval.high))


def mcnemar(mine: Collection[int], theirs: Collection[int]) -> float:
    """Returns the two-sided p-value of McNemar's exact test: is a failure of only one system equally often each's?

    Args:
        mine: the sentences that one system fails.
        theirs: the sentences that the other one fails.
    """
    from scipy.stats import binomtest

    only_mine, only_theirs = len(set(mine) - set(theirs)), len(set(theirs) - set(mine))
    discordant = only_mine + only_theirs
    return float(binomtest(only_mine, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted for their number (Holm 1979).

    If each is compared with a level, some difference between equals is found at most as often as the level says.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
