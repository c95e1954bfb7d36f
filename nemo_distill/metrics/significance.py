"""Significance of score differences between two systems, by paired tests."""

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
REVISION = 2  # increase it when p-values change, so that stored ones are computed again


@section
class SignificanceSettings:
    """Settings of the significance test."""

    test: Literal["approximate_randomization", "bootstrap"] = "approximate_randomization"
    """`approximate_randomization` (Riezler & Maxwell 2005) or `bootstrap`, paired bootstrap resampling (Koehn 2004).
    For equal systems, the p-value of the first is below any level at most as often as the level says, even if few
    lines differ. For the second, this is only approximately true."""
    samples: int | None = Field(default=None, ge=1)
    """Maximum number of trials or resamples; null: 10,000 trials or 1,000 resamples, as in sacrebleu."""
    metrics: list[Literal["BLEU", "chrF", "TER"]] | None = None
    """The metrics to test, from `METRICS`; TER is slow; null: the first metric of the evaluation."""
    baselines: list[str] | None = None
    """Names of the systems to compare all others with; null: the first system."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of a system with a baseline.

    Args:
        system: the name of the system.
        baseline: the name of the baseline.
        metric: one of `METRICS`.
        difference: the system's corpus score minus the baseline's.
        p_value: probability of a difference at least this large if the systems are equal; see `test`.
        test: one of `TESTS`.
        samples: number of resamples or trials. It is lower than configured if fewer trials are possible.
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
    """Compares every system with each baseline, each pair once.

    Args:
        translations: the translations of each system, one per sentence.
        references: one per sentence.
        settings: the test settings.
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
    """Yields each comparison. If its system is also a baseline, yields the reversed comparison too.

    Args:
        comparisons: each with `system`, `baseline`, `difference` and other fields.
    """
    comparisons = list(comparisons)
    baselines = {one["baseline"] for one in comparisons}
    for one in comparisons:
        yield one
        if one["system"] in baselines:
            swapped = {"system": one["baseline"], "baseline": one["system"], "difference": -one["difference"]}
            yield {**one, **swapped}


def group_p_value(comparisons: Sequence[Mapping[str, Any]]) -> float:
    """Returns the largest p-value over seeds against one baseline; 1 if the differences have different signs.

    A small value means that each of these seeds differs significantly from the baseline on these sentences. It says
    nothing about other seeds.

    Args:
        comparisons: `difference` and `p_value` of each seed.
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
    """Returns sacrebleu's statistics of each sentence (N, S)."""
    return np.array(metric._extract_corpus_statistics(list(translations), [list(references)]), dtype=float)
