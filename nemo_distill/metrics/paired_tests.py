"""Paired significance tests of two systems' corpus scores, from the statistics of each sentence.

sacrebleu has both tests, but they reject too often. It counts only trials whose difference is larger than the observed
one, not equal ones, so systems that differ in few lines always seem to differ significantly. Its bootstrap centers the
absolute differences. Here, ties count, and the differences are centered before taking absolute values.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

SEED = 12345  # the same as sacrebleu's
TIE = 1e-9  # differences closer than this, in score points, are equal
CHUNK = 250  # number of trials computed together; limits the memory

Score = Callable[[np.ndarray], float]  # computes the score of a corpus from its statistics (S,)


def approximate_randomization(mine: np.ndarray, theirs: np.ndarray, score: Score, trials: int) -> tuple[float, int]:
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


def paired_bootstrap(mine: np.ndarray, theirs: np.ndarray, score: Score, samples: int) -> tuple[float, int]:
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
    statistics: Sequence[np.ndarray], score: Score, samples: int, seed: int = SEED
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


def _scores(sums: np.ndarray, score: Score) -> np.ndarray:
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
