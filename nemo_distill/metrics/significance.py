"""Whether a difference of two systems' scores would be there on other sentences too, by paired tests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from sacrebleu.metrics.base import Metric

from nemo_distill.config.section import section
from nemo_distill.metrics.paired_tests import approximate_randomization, paired_bootstrap
from nemo_distill.metrics.scores import METRICS, build_metric

TESTS = {"bootstrap": (paired_bootstrap, 1_000), "approximate_randomization": (approximate_randomization, 10_000)}
REVISION = 2  # of the tests: raised when the same texts get other p-values, so that kept ones are computed again


@section
class SignificanceSettings:
    """How systems are compared."""

    test: Literal["approximate_randomization", "bootstrap"] = "approximate_randomization"
    """`approximate_randomization` (Riezler & Maxwell 2005), or `bootstrap`, paired bootstrap resampling (Koehn
    2004). Among equal systems the first one's p is below any level at most as often as the level says, however few
    lines differ; the second one's is so only approximately."""
    samples: int | None = Field(default=None, ge=1)
    """The most trials, or resamples; null: 10,000 or 1,000, as sacrebleu has it."""
    metrics: list[Literal["BLEU", "chrF", "TER"]] | None = None
    """Of `METRICS`; TER takes long; null: the first that the systems are scored by."""
    baselines: list[str] | None = None
    """Names of the systems that each of the others is compared with; null: the first."""


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline.

    Args:
        system: its name.
        baseline: the other's.
        metric: one of `METRICS`.
        difference: the system's corpus score, less the baseline's.
        p_value: how often a difference as large comes of the choice of sentences alone; see `test`.
        test: one of `TESTS`.
        samples: resamples or trials; fewer than the settings say where they are all that there are.
    """

    system: str
    baseline: str
    metric: str
    difference: float
    p_value: float
    test: str
    samples: int


def compare(
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    settings: SignificanceSettings,
    language: str | None = None,
) -> list[Comparison]:
    """Compares every system with each baseline, no pair twice.

    Args:
        translations: of each system, one a sentence.
        references: one a sentence.
        settings: the test.
        language: the target language.
    """
    found: list[Comparison] = []
    baselines = list(dict.fromkeys(settings.baselines or [next(iter(translations))]))
    for place, baseline in enumerate(baselines):
        others = [name for name in translations if name not in baselines[: place + 1]]
        if others:
            found += _against(baseline, others, translations, references, settings, language)
    return found


def both_ways(comparisons: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields each comparison, and where its system is a baseline of others also the other way round.

    Args:
        comparisons: `system`, `baseline`, `difference` and what else there is.
    """
    comparisons = list(comparisons)
    baselines = {one["baseline"] for one in comparisons}
    for one in comparisons:
        yield one
        if one["system"] in baselines:
            swapped = {"system": one["baseline"], "baseline": one["system"], "difference": -one["difference"]}
            yield {**one, **swapped}


def group_p_value(comparisons: Sequence[Mapping[str, Any]]) -> float:
    """Returns the largest p-value of a group's seeds against one baseline; 1 if not all differ in one direction.

    A small one says that each of these seeds differs from the baseline by more than the choice of sentences explains;
    what another seed would give it does not say.

    Args:
        comparisons: of each seed, `difference` and `p_value`.
    """
    one_direction = len({one["difference"] > 0 for one in comparisons}) == 1
    return max(one["p_value"] for one in comparisons) if one_direction else 1.0


def _against(
    baseline: str,
    others: Sequence[str],
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    settings: SignificanceSettings,
    language: str | None,
) -> Iterator[Comparison]:
    test, default = TESTS[settings.test]
    for name in settings.metrics or METRICS[:1]:
        metric = build_metric(name, language)
        theirs = _statistics(metric, translations[baseline], references)

        def score(sums: np.ndarray, metric: Metric = metric) -> float:
            return float(metric._compute_score_from_stats(sums.tolist()).score)

        for system in others:
            mine = _statistics(metric, translations[system], references)
            p_value, samples = test(mine, theirs, score, settings.samples or default)
            difference = score(mine.sum(axis=0)) - score(theirs.sum(axis=0))
            yield Comparison(system, baseline, name, difference, p_value, settings.test, samples)


def _statistics(metric: Metric, translations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns what sacrebleu counts in each sentence, (N, S)."""
    return np.array(metric._extract_corpus_statistics(list(translations), [list(references)]), dtype=float)
