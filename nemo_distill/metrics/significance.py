"""Significance of score differences between two systems, by paired tests on the statistics of each sentence.

sacrebleu has both tests, but they reject too often. It counts only trials whose difference is larger than the observed
one, not equal ones, so systems that differ in few lines always seem to differ significantly. Its bootstrap centers the
absolute differences. Here, ties count, and the differences are centered before taking absolute values.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from nemo_distill.config.section import section
from nemo_distill.metrics.scores import METRICS, MetricName, all_references, build_metric

REVISION = 3  # increase it when stored results change, so that they are computed again
RESAMPLES = 1_000  # of the margins over sentences
CHANCE = 0.05  # differences with a smaller p-value are significant
CONFIDENCE = 0.95  # probability that an interval holds the true value
TAILS = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))  # percentiles of resamples that bound an interval
LEAST_P = 0.0001  # smaller p-values are printed as "p < 0.0001"
SEED = 12345  # the same as sacrebleu's
TIE = 1e-9  # differences closer than this, in score points, are equal
CHUNK = 250  # number of trials computed together; limits the memory
CorpusScore = Callable[[np.ndarray], float]  # computes the score from the sums of all sentences' statistics (S,)
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


class Comparison(TypedDict):
    """The comparison of a system with a baseline, as in `evaluation.json`.

    Attributes:
        system: the name of the system.
        baseline: the name of the baseline.
        metric: one of `METRICS`.
        difference: the system's corpus score minus the baseline's.
        p_value: probability of a difference at least this large if the systems are equal; see `test`.
        test: `approximate_randomization` or `bootstrap`.
        samples: number of resamples or trials. It is lower than configured if fewer trials are possible.
    """

    system: str
    baseline: str
    metric: str
    difference: float
    p_value: float
    test: str
    samples: int


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
    bootstraps = settings.test == "bootstrap"
    test, default = (paired_bootstrap, 1_000) if bootstraps else (approximate_randomization, 10_000)
    for name in settings.metrics or METRICS[:1]:
        score, by_system = sentence_statistics(translations, references, name, language, more)
        for system, baseline in pairs:
            mine, theirs = by_system[system], by_system[baseline]
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
    score, by_system = sentence_statistics(translations, references, metric, language, more)
    scores = resampled_scores(list(by_system.values()), score, RESAMPLES)
    return {system: values.tolist() for system, values in zip(by_system, scores)}


def both_ways(comparisons: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields each comparison, and then the reversed one.

    Args:
        comparisons: each with `system`, `baseline`, `difference` and other fields.
    """
    for one in comparisons:
        yield one
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


def shown_p_value(p_value: float) -> str:
    """Returns a p-value with its name, such as `p = 0.0440`, or `p < 0.0001` for very small values."""
    return f"p = {p_value:.4f}" if p_value >= LEAST_P else f"p < {LEAST_P}"


def seed_margin(values: Sequence[float], two_sided: bool = True) -> float:
    """Returns the half-width of the confidence interval of a mean over seeds, by Student's t.

    It is infinite with fewer than two seeds. Models with the same seed and size start with the same weights. Much of a
    seed's effect is the same for them and cancels out in their difference, as in a paired t test.

    Args:
        values: one for each seed.
        two_sided: false for a one-sided interval, which suits a claim made in advance.
    """
    if len(values) < 2:
        return math.inf
    from scipy.stats import t  # takes a second to import, and checking a config does not need it

    error = (1 - CONFIDENCE) / (2 if two_sided else 1)
    return float(t.ppf(1 - error, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def sentence_statistics(
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    metric: str,
    language: str | None,
    more: Sequence[Sequence[str]],
) -> tuple[CorpusScore, dict[str, np.ndarray]]:
    """Returns what scores sums of sacrebleu's statistics, and each system's statistics of each sentence (N, S).

    The arguments are those of `resample`.
    """
    built, by_file = build_metric(metric, language), all_references(references, more)

    def score(sums: np.ndarray) -> float:
        return float(built._compute_score_from_stats(sums.tolist()).score)

    return score, {
        system: np.array(built._extract_corpus_statistics(list(lines), by_file), dtype=float)
        for system, lines in translations.items()
    }


def approximate_randomization(
    mine: np.ndarray, theirs: np.ndarray, score: CorpusScore, trials: int
) -> tuple[float, int]:
    """Tests a difference of scores by swapping sentences of the two systems at random.

    Approximate randomization (Riezler & Maxwell 2005, section 4). For equal systems, the p-value is below any level at
    most as often as the level says. If few lines differ, so that there are at most `trials` ways to swap them, each
    way is tried once and the p-value is exact.

    Args:
        mine: (N, S) statistics of each sentence of one system.
        theirs: (N, S) statistics of the other system.
        score: computes a corpus score from the sums of the statistics.
        trials: maximum number of trials.

    Returns:
        The two-sided p-value and the number of trials.
    """
    changes = (theirs - mine)[(theirs != mine).any(axis=1)]  # (K, S); swapping equal sentences changes nothing
    sums = mine.sum(axis=0), theirs.sum(axis=0)  # (S,) each
    observed = abs(score(sums[0]) - score(sums[1])) - TIE
    exact = 2 ** len(changes) <= trials
    swaps = _all_swaps(len(changes)) if exact else _random_swaps(len(changes), trials)
    hits = total = 0
    for chunk in swaps:
        moved = chunk @ changes  # (C, S)
        differences = np.abs(_scores(sums[0] + moved, score) - _scores(sums[1] - moved, score))
        hits, total = hits + int((differences >= observed).sum()), total + len(chunk)
    return (hits / total, total) if exact else ((hits + 1) / (total + 1), total)


def paired_bootstrap(mine: np.ndarray, theirs: np.ndarray, score: CorpusScore, samples: int) -> tuple[float, int]:
    """Tests a difference of scores by resampling the sentences.

    Paired bootstrap resampling (Koehn 2004), two-sided. The resampled differences are shifted to a mean of zero, as if
    the systems were equal (Riezler & Maxwell 2005, section 4). The test is only approximate if few lines differ. The
    p-value is at least 2 / 2^K, that of the most extreme of all ways to swap the K differing lines.

    Args:
        mine: (N, S) statistics of each sentence of one system.
        theirs: (N, S) statistics of the other system.
        score: computes a corpus score from the sums of the statistics.
        samples: number of resamples.

    Returns:
        The two-sided p-value and the number of resamples.
    """
    observed = abs(score(mine.sum(axis=0)) - score(theirs.sum(axis=0))) - TIE
    my_scores, their_scores = resampled_scores([mine, theirs], score, samples)
    shifted = my_scores - their_scores
    shifted -= shifted.mean()
    p_value = (int((np.abs(shifted) >= observed).sum()) + 1) / (samples + 1)
    differing = int((theirs != mine).any(axis=1).sum())
    return max(p_value, min(1.0, 2.0 ** (1 - differing))), samples


def resampled_scores(
    statistics: Sequence[np.ndarray], score: CorpusScore, samples: int, seed: int = SEED
) -> list[np.ndarray]:
    """Returns each system's scores on the same resamples of the sentences, drawn with replacement (Koehn 2004).

    Args:
        statistics: (N, S) statistics of each sentence, for each system.
        score: computes a corpus score from the sums of the statistics.
        samples: number of resamples.

    Returns:
        For each system, the scores (samples,).
    """
    generator, lines = np.random.default_rng(seed), len(statistics[0])
    found: list[list[np.ndarray]] = [[] for _ in statistics]
    for size in _chunk_sizes(samples):
        counts = generator.multinomial(lines, np.full(lines, 1 / lines), size).astype(float)  # (C, N)
        for scores, of_system in zip(found, statistics):
            scores.append(_scores(counts @ of_system, score))
    return [np.concatenate(scores) for scores in found]


def _scores(sums: np.ndarray, score: CorpusScore) -> np.ndarray:
    return np.array([score(row) for row in sums])


def _all_swaps(lines: int) -> Iterator[np.ndarray]:
    """Yields all ways to swap lines, as zeros and ones (C, K)."""
    for start in range(0, 2**lines, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, 2**lines))
        yield (numbers[:, None] >> np.arange(lines) & 1).astype(float)


def _random_swaps(lines: int, trials: int) -> Iterator[np.ndarray]:
    """Yields random ways to swap lines, as zeros and ones (C, K)."""
    generator = np.random.default_rng(SEED)
    for size in _chunk_sizes(trials):
        yield generator.integers(2, size=(size, lines)).astype(float)


def _chunk_sizes(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)
