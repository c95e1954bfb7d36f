"""How similar sentences are, by sacrebleu's chrF and sentence BLEU, for all pairs of a line's hypotheses at once.

Selection by minimum Bayes risk compares each hypothesis with every other one. Libraries do this pair by pair. Here,
n-grams are counted once per sentence, and matrix products find the matches of all pairs: each pair of sentences shares
min(a, b) of an n-gram, which is the number of levels k with a >= k and b >= k. `benchmarks/mbr.py` measures the speed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Literal

import numpy as np
from sacrebleu.metrics import BLEU

from nemo_distill.text.languages import bleu_tokenization

CHRF_ORDER, CHRF_BETA = 6, 2
BLEU_ORDER = 4
MetricName = Literal["bleu", "chrf"]
NAMES = {"bleu": "BLEU", "chrf": "chrF"}  # of the metrics, as an evaluation names them
COLUMNS = 1 << 16  # different n-grams that are counted at a time; bounds the memory for very long lines
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # any large odd number: n-grams are told apart by 64-bit hashes
DIGITS = 9  # of a similarity. Values that differ by rounding only must be equal, so that the first one counts.


def similarities(
    hypotheses: Sequence[str],
    references: Sequence[str],
    weights: Mapping[MetricName, float],
    language: str | None = None,
) -> np.ndarray:
    """Returns the similarity of each hypothesis to each reference, (n, m), from 0 to 100.

    Args:
        hypotheses: n sentences.
        references: m sentences.
        weights: the weight of each metric: `bleu` (exponential smoothing, only n-gram orders that fit into the
            sentence) and `chrf`, both as sacrebleu's `sentence_score` with default settings.
        language: the target language, which determines BLEU's tokenization.
    """
    places = {text: index for index, text in enumerate(dict.fromkeys([*hypotheses, *references]))}
    texts = list(places)
    total = sum(weights.values())
    values = sum(weight / total * METRICS[name](texts, language) for name, weight in weights.items())
    rows, columns = ([places[text] for text in side] for side in (hypotheses, references))
    return np.round(np.asarray(values)[np.ix_(rows, columns)], DIGITS)


def _chrf(texts: Sequence[str], language: str | None) -> np.ndarray:
    """Returns chrF2 (Popović 2015) of all pairs. Orders that do not occur in both sentences do not count."""
    letters = ["".join(text.split()) for text in texts]
    ids = [np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32) for text in letters]
    precision = recall = orders = np.zeros((len(texts), len(texts)))
    for matches, totals in _ngram_matches(ids, CHRF_ORDER):
        both = (totals[:, None] > 0) & (totals > 0)
        precision = precision + np.divide(matches, totals[:, None], out=np.zeros_like(matches), where=both)
        recall = recall + np.divide(matches, totals, out=np.zeros_like(matches), where=both)
        orders = orders + both
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    below = CHRF_BETA**2 * precision + recall
    above = 100 * (1 + CHRF_BETA**2) * precision * recall
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _bleu(texts: Sequence[str], language: str | None) -> np.ndarray:
    """Returns sentence BLEU of all pairs (Papineni 2002; smoothing: Chen & Cherry 2014, method 3)."""
    tokenize = _tokenizer(bleu_tokenization(language))
    tokens = [tokenize(text.rstrip()).split() for text in texts]
    known = {token: index for index, token in enumerate(dict.fromkeys(token for line in tokens for token in line))}
    ids = [np.array([known[token] for token in line], np.uint32) for line in tokens]
    lengths = np.array([len(line) for line in tokens], float)
    logs = orders = any_match = np.zeros((len(texts), len(texts)))
    smoothing = np.ones_like(logs)
    for matches, totals in _ngram_matches(ids, BLEU_ORDER):
        fits = np.broadcast_to(totals[:, None] > 0, matches.shape)
        smoothing = np.where(fits & (matches == 0), 2 * smoothing, smoothing)
        counted = np.where(matches > 0, matches, 1 / smoothing)
        precision = np.divide(100 * counted, totals[:, None], out=np.ones_like(matches), where=fits)
        logs, orders, any_match = logs + np.log(precision), orders + fits, any_match + matches
    shorter = np.divide(lengths, lengths[:, None], out=np.ones_like(logs), where=lengths[:, None] > 0)
    brevity = np.exp(np.minimum(0, 1 - shorter))
    return np.where(any_match > 0, brevity * np.exp(logs / np.maximum(orders, 1)), 0.0)


METRICS: dict[str, Callable[[Sequence[str], str | None], np.ndarray]] = {"bleu": _bleu, "chrf": _chrf}


@cache
def _tokenizer(name: str) -> Callable[[str], str]:
    return BLEU(tokenize=name).tokenizer


def _ngram_matches(ids: Sequence[np.ndarray], highest: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields for each order up to `highest` the matches (n, n) of all pairs and the numbers of n-grams (n,)."""
    lengths = np.array([len(line) for line in ids])
    rows = np.repeat(np.arange(len(ids)), lengths)
    left = np.concatenate([np.arange(length, 0, -1) for length in lengths] or [[]])  # units to the end of the line
    units = np.concatenate([*ids, []]).astype(np.uint64) + np.uint64(1)
    hashes = np.zeros_like(units)
    for order in range(1, highest + 1):
        hashes = hashes * MULTIPLIER + np.roll(units, 1 - order)
        inside = left >= order
        totals = np.maximum(lengths - order + 1, 0).astype(float)
        yield _matches(hashes[inside], rows[inside], len(ids)), totals


def _matches(hashes: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Returns how many n-grams each pair of `count` sentences shares, given the n-grams and their sentences."""
    _, columns = np.unique(hashes, return_inverse=True)
    matches = np.zeros((count, count))
    for begin in range(0, int(columns.max(initial=-1)) + 1, COLUMNS):
        here = (columns >= begin) & (columns < begin + COLUMNS)
        width = int(columns[here].max()) - begin + 1
        counts = np.bincount(rows[here] * width + columns[here] - begin, minlength=count * width)
        counts, level = counts.reshape(count, width), 1
        while counts.shape[1]:
            there = (counts >= level).astype(np.float32)  # sums of ones are exact
            matches += there @ there.T
            counts = counts[:, (counts > level).any(axis=0)]
            level += 1
    return matches
