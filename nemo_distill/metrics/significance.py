"""Significance of score differences between two systems, by paired tests."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NotRequired

import numpy as np
from pydantic import Field, with_config
from sacrebleu.metrics.base import Metric
from typing_extensions import TypedDict

from nemo_distill.config.section import section
from nemo_distill.metrics.paired_tests import approximate_randomization, paired_bootstrap, resampled_scores
from nemo_distill.metrics.scores import METRICS, MetricName, all_references, build_metric
from nemo_distill.storage.records import OPEN

TESTS = {"bootstrap": (paired_bootstrap, 1_000), "approximate_randomization": (approximate_randomization, 10_000)}
REVISION = 3  # increase it when stored results change, so that they are computed again
RESAMPLES = 1_000  # of the margins over sentences
CHANCE = 0.05  # differences with a smaller p-value are significant
Pair = tuple[str, str]  # a system, and the baseline that it is compared with


@section
class SignificanceSettings:
    """Settings of the significance test."""

    test: Literal["approximate_randomization", "bootstrap"] = "approximate_randomization"
    """`approximate_randomization` (Riezler & Maxwell 2005) or `bootstrap`, paired bootstrap resampling (Koehn 2004).
    For equal systems, the p-value of the first is below any level at most as often as the level says, even if few
    lines differ. For the second, this is only approximately true."""
    samples: int | None = Field(default=None, ge=1)
    """Maximum number of trials or resamples; null: 10,000 trials or 1,000 resamples, as in sacrebleu."""
    metrics: list[MetricName] | None = None
    """The metrics to test, from `METRICS`; TER is slow; null: the first metric of the evaluation."""
    baselines: list[str] | None = None
    """Names of the systems to compare all others with; null: the first system."""


@with_config(OPEN)
class Comparison(TypedDict):
    """The comparison of a system with a baseline, as in `evaluation.json`.

    Attributes:
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
    samples: NotRequired[int]


def pairs_with(baselines: Sequence[str], names: Sequence[str]) -> list[Pair]:
    """Returns every system with each baseline, each pair once."""
    baselines = list(dict.fromkeys(baselines))
    return [
        (name, baseline)
        for place, baseline in enumerate(baselines)
        for name in names
        if name not in baselines[: place + 1]
    ]


def compare(
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    settings: SignificanceSettings,
    pairs: Sequence[Pair],
    language: str | None = None,
    more: Sequence[Sequence[str]] = (),
) -> Iterator[Comparison]:
    """Yields the comparison of each pair of systems, metric by metric.

    Args:
        translations: the translations of each system, one per sentence.
        references: one per sentence.
        settings: the test settings.
        pairs: each a system and a baseline.
        language: the target language.
        more: further references, as of `corpus_score`.
    """
    test, default = TESTS[settings.test]
    for name in settings.metrics or METRICS[:1]:
        metric = build_metric(name, language)
        score = scored_by(metric)
        statistics = {
            system: sentence_statistics(metric, lines, references, more) for system, lines in translations.items()
        }
        for system, baseline in pairs:
            mine, theirs = statistics[system], statistics[baseline]
            p_value, samples = test(mine, theirs, score, settings.samples or default)
            yield {
                "system": system,
                "baseline": baseline,
                "metric": name,
                "difference": score(mine.sum(axis=0)) - score(theirs.sum(axis=0)),
                "p_value": p_value,
                "test": settings.test,
                "samples": samples,
            }


def resample(
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    metric: str,
    language: str | None = None,
    more: Sequence[Sequence[str]] = (),
) -> dict[str, list[float]]:
    """Returns each system's scores on `RESAMPLES` resamples of the sentences, which are the same for all systems.

    Args:
        translations: the translations of each system, one per sentence.
        references: one per sentence.
        metric: one of `METRICS`.
        language: the target language.
        more: further references, as of `corpus_score`.
    """
    built = build_metric(metric, language)
    statistics = [sentence_statistics(built, lines, references, more) for lines in translations.values()]
    scores = resampled_scores(statistics, scored_by(built), RESAMPLES)
    return {system: values.tolist() for system, values in zip(translations, scores)}


def both_ways(comparisons: Iterable[Mapping[str, Any]], every: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yields each comparison. If its system is also a baseline, yields the reversed comparison too.

    Args:
        comparisons: each with `system`, `baseline`, `difference` and other fields.
        every: reverse the other comparisons as well.
    """
    comparisons = list(comparisons)
    baselines = {one["baseline"] for one in comparisons}
    for one in comparisons:
        yield one
        if every or one["system"] in baselines:
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


def scored_by(metric: Metric) -> Callable[[np.ndarray], float]:
    """Returns the function from the sums of sacrebleu's statistics (S,) to the corpus score."""

    def score(sums: np.ndarray) -> float:
        return float(metric._compute_score_from_stats(sums.tolist()).score)

    return score


def sentence_statistics(
    metric: Metric, translations: Sequence[str], references: Sequence[str], more: Sequence[Sequence[str]] = ()
) -> np.ndarray:
    """Returns sacrebleu's statistics of each sentence (N, S)."""
    return np.array(
        metric._extract_corpus_statistics(list(translations), all_references(references, more)), dtype=float
    )
