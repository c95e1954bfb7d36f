"""Paired tests of two systems' corpus scores, from the statistics of each sentence that the scores are made of.

sacrebleu has both tests, and neither keeps to its level: it counts trials whose difference is larger than the observed
one, not those whose difference is as large, so that systems with few differing lines are always told apart; and its
bootstrap centres absolute differences. Here ties count, and differences are centred before their sign is taken off.
"""

from collections.abc import Callable, Iterator

import numpy as np

SEED = 12345  # sacrebleu's
TIE = 1e-9  # points of a score below which two differences are the same one
CHUNK = 250  # trials that are computed together, to bound the memory

Score = Callable[[np.ndarray], float]  # from a corpus's statistics, (S,), to its score


def approximate_randomization(
    mine: np.ndarray, theirs: np.ndarray, score: Score, trials: int, seed: int = SEED
) -> tuple[float, int]:
    """Returns how often swapping sentences at random gives a difference as large as the observed one, and of how many.

    Approximate randomization (Riezler & Maxwell 2005, section 4). Among equal systems p is below any level at most as
    often as the level says. Where the systems differ on so few lines that all ways to swap them are no more than
    `trials`, each way is counted once, and p is exact.

    Args:
        mine: (N, S) statistics of each sentence of one system.
        theirs: (N, S) the other's.
        score: makes a corpus score of the sums of statistics.
        trials: the most random trials.
        seed: of the trials.

    Returns:
        The two-sided p-value, and the number of trials that it is of.
    """
    changes = (theirs - mine)[(theirs != mine).any(axis=1)]  # (K, S): all others stay as they are when swapped
    sums = mine.sum(axis=0), theirs.sum(axis=0)  # (S,) each
    observed = abs(score(sums[0]) - score(sums[1])) - TIE
    exact = 2 ** len(changes) <= trials
    swaps = _all_swaps(len(changes)) if exact else _random_swaps(len(changes), trials, seed)
    hits = total = 0
    for chunk in swaps:
        moved = chunk @ changes  # (C, S)
        differences = np.abs(_scores(sums[0] + moved, score) - _scores(sums[1] - moved, score))
        hits, total = hits + int((differences >= observed).sum()), total + len(chunk)
    return (hits / total, total) if exact else ((hits + 1) / (total + 1), total)


def paired_bootstrap(
    mine: np.ndarray, theirs: np.ndarray, score: Score, samples: int, seed: int = SEED
) -> tuple[float, int]:
    """Returns how often resampled sentences move the difference by as much as the observed one, and of how many.

    Paired bootstrap resampling (Koehn 2004), two-sided: resampled differences are shifted to a mean of zero, as if the
    systems were equal (Riezler & Maxwell 2005, section 4). Only approximate where few lines differ; p is never below
    that of the least likely of all ways to swap K differing lines, 2 / 2^K.

    Args:
        mine: (N, S) statistics of each sentence of one system.
        theirs: (N, S) the other's.
        score: makes a corpus score of the sums of statistics.
        samples: the number of resamples.
        seed: of the resamples.

    Returns:
        The two-sided p-value, and the number of resamples.
    """
    generator, lines = np.random.default_rng(seed), len(mine)
    observed = abs(score(mine.sum(axis=0)) - score(theirs.sum(axis=0))) - TIE
    differences = []
    for size in _chunk_sizes(samples):
        counts = generator.multinomial(lines, np.full(lines, 1 / lines), size).astype(float)  # (C, N)
        differences.append(_scores(counts @ mine, score) - _scores(counts @ theirs, score))
    shifted = np.concatenate(differences)
    shifted -= shifted.mean()
    p_value = (int((np.abs(shifted) >= observed).sum()) + 1) / (samples + 1)
    differing = int((theirs != mine).any(axis=1).sum())
    return max(p_value, min(1.0, 2.0 ** (1 - differing))), samples


def _scores(sums: np.ndarray, score: Score) -> np.ndarray:
    return np.array([score(row) for row in sums])


def _all_swaps(lines: int) -> Iterator[np.ndarray]:
    """Yields (C, K) of zeros and ones: each way to swap some of the lines."""
    for start in range(0, 2**lines, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, 2**lines))
        yield (numbers[:, None] >> np.arange(lines) & 1).astype(float)


def _random_swaps(lines: int, trials: int, seed: int) -> Iterator[np.ndarray]:
    """Yields (C, K) of zeros and ones, each as likely."""
    generator = np.random.default_rng(seed)
    for size in _chunk_sizes(trials):
        yield generator.integers(2, size=(size, lines)).astype(float)


def _chunk_sizes(total: int) -> Iterator[int]:
    for start in range(0, total, CHUNK):
        yield min(CHUNK, total - start)
