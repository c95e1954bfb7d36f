"""One source line: selects its labels and applies the filters for single pairs. Lines are shared among processes."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context
from typing import NamedTuple

from nemo_distill.nemo_files.processors import load_processors, tokenized
from nemo_distill.pseudo_labels.filters import Pair, first_reason
from nemo_distill.pseudo_labels.selection import Candidate, Criteria, best, consensus, weights
from nemo_distill.text.lines import chunks, clean_text, map_ahead

CHUNK = 500  # lines per task of a worker


class Outcome(NamedTuple):
    """A selected pair.

    `rank` counts the labels of a line from 0, and `weight` is this label's part among them. The scores are None where
    nothing gives them. `dropped` is the filter that dropped the pair, or why there is no translation; None if kept.
    """

    line: int
    source: str
    target: str
    score: float
    reverse_score: float | None
    dropped: str | None
    rank: int = 0
    weight: float = 1.0
    quality: float | None = None
    consensus: float | None = None


def judge(candidate: Candidate, criteria: Criteria) -> list[Outcome]:
    """Selects the labels of a line and applies the filters for single pairs. Returns at least one outcome."""
    hypotheses = candidate.hypotheses
    if not hypotheses or not candidate.source:  # other labels may be of a line that this job's `reading` leaves out
        return [Outcome(candidate.line, candidate.source, "", 0.0, None, candidate.rows[0].untranslated)]
    chosen = best(candidate, criteria)
    mean_similarities = None
    if criteria.filters.consensus_quantile and len(hypotheses) > 1:
        mean_similarities = consensus(candidate, criteria)
    reverse_scores, sources_cut = candidate.reverse_scores, candidate.sources_cut
    outcomes = []
    for rank, (index, weight) in enumerate(zip(chosen, weights(candidate, chosen, criteria.label_weights))):
        hypothesis = hypotheses[index]
        target = clean_text(hypothesis.text)
        pair = Pair(candidate.source, target, hypothesis.finished, sources_cut[index])
        source, written = map(tokenized, (candidate.source, target), load_processors(*criteria.moses))
        outcome = Outcome(
            candidate.line,
            source,
            written,
            hypothesis.score,
            reverse_scores[index],
            first_reason(pair, criteria.filters),
            rank,
            weight,
            None if candidate.qualities is None else candidate.qualities[index],
            None if mean_similarities is None else float(mean_similarities[index]),
        )
        outcomes.append(outcome)
    return outcomes


def judge_all(candidates: Iterable[Candidate], criteria: Criteria, workers: int = 1) -> Iterator[list[Outcome]]:
    """Yields the outcomes of each line, in order.

    Args:
        candidates: any number of candidates; only a few chunks are in memory at a time.
        workers: number of processes; 1 uses only this process.
    """
    judge_chunk, parts = partial(_judge_chunk, criteria=criteria), chunks(candidates, CHUNK)
    if workers == 1:
        yield from chain.from_iterable(map(judge_chunk, parts))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from chain.from_iterable(map_ahead(pool, judge_chunk, parts, 2 * workers))


def _judge_chunk(candidates: Sequence[Candidate], criteria: Criteria) -> list[list[Outcome]]:
    return [judge(candidate, criteria) for candidate in candidates]
