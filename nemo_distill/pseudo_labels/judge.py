"""Selects a hypothesis for a translated line and applies the filters for single pairs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import NamedTuple

from nemo_distill.decoding.processors import load_processors, tokenized
from nemo_distill.pseudo_labels.filters import FilterSettings, Pair, first_reason
from nemo_distill.pseudo_labels.select import METRICS, SELECTIONS, nearest_to, sentence_similarity
from nemo_distill.pseudo_labels.shards import Row
from nemo_distill.text.lines import clean_text

CHUNK = 500  # lines per task of a worker
_similarity = cache(sentence_similarity)


class Candidate(NamedTuple):
    """A source line as it was translated, its row in the shard, and its reference, if there is one."""

    source: str
    row: Row
    reference: str | None


class Outcome(NamedTuple):
    """A selected pair. `dropped` is the filter that dropped it, or why the source was not translated; None if kept."""

    line: int
    source: str
    target: str
    score: float
    reverse_score: float | None
    dropped: str | None


@dataclass(frozen=True)
class Criteria:
    """How labels are selected and filtered.

    Args:
        selection: `one_best`, or `interpolation`: the hypothesis most similar to the reference.
        metric: the similarity for `interpolation`, `bleu` or `chrf`.
        metric_language: the target language, which determines BLEU's tokenization.
        filters: the filter settings.
        moses: source and target language for Moses tokenization of the output; models with these languages need
            tokenized training text. None: raw text. Filters always see raw text.
    """

    selection: str = "one_best"
    metric: str = "bleu"
    metric_language: str | None = None
    filters: FilterSettings = field(default_factory=FilterSettings)
    moses: list = field(default_factory=lambda: [None, None])

    def problems(self) -> list[str]:
        """Returns a sentence for each value that is not allowed."""
        found = []
        for key, allowed in (("selection", SELECTIONS), ("metric", METRICS)):
            if getattr(self, key) not in allowed:
                found.append(f"{key}={getattr(self, key)}: must be one of {', '.join(allowed)}.")
        return found


def judge(candidate: Candidate, criteria: Criteria) -> Outcome:
    """Selects a hypothesis and applies the filters for single pairs."""
    source, row, reference = candidate
    if not row.hypotheses:
        return Outcome(row.line, source, "", 0.0, None, f"source_{row.oddity}")
    index = 0
    if criteria.selection == "interpolation" and reference:
        index = nearest_to(row.hypotheses, reference, _similarity(criteria.metric, criteria.metric_language))
    hypothesis = row.hypotheses[index]
    target = clean_text(hypothesis.text)
    pair = Pair(source, target, hypothesis.finished, row.source_cut)
    reverse_score = row.reverse_scores[index] if row.reverse_scores else None
    reason = first_reason(pair, criteria.filters)
    texts = map(tokenized, (source, target), load_processors(*criteria.moses))
    return Outcome(row.line, *texts, hypothesis.score, reverse_score, reason)


def judge_all(candidates: Iterable[Candidate], criteria: Criteria, workers: int = 1) -> Iterator[Outcome]:
    """Yields the outcomes in order.

    Args:
        candidates: any number of candidates; only a few chunks are in memory at a time.
        criteria: how to select and filter.
        workers: number of processes; 1 uses only this process.
    """
    judge_chunk = partial(_judge_chunk, criteria=criteria)
    for outcomes in _map_in_order(judge_chunk, _chunks(candidates), workers):
        yield from outcomes


def _judge_chunk(candidates: Sequence[Candidate], criteria: Criteria) -> list[Outcome]:
    return [judge(candidate, criteria) for candidate in candidates]


def _chunks(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    candidates = iter(candidates)
    while chunk := list(islice(candidates, CHUNK)):
        yield chunk


def _map_in_order(function: Callable, items: Iterator, workers: int) -> Iterator:
    """Like `map`, with `workers` processes. At most two items per process are read in advance."""
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = deque(pool.submit(function, item) for item in islice(items, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
