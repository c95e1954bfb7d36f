"""What becomes of one translated line: which hypothesis is taken, and whether a filter of single pairs drops it."""

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

CHUNK = 500  # lines that go to a worker at a time
_similarity = cache(sentence_similarity)


class Candidate(NamedTuple):
    """A source line as it was translated, what its shard holds of it, and its reference, where there is one."""

    source: str
    row: Row
    reference: str | None


class Outcome(NamedTuple):
    """A pair; `dropped` says which filter dropped it, or what kept its source from being translated."""

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
        selection: `one_best`, or `interpolation`: the hypothesis nearest to the reference.
        metric: what near means: `bleu` or `chrf`. Of no effect on the one-best.
        metric_language: the target's; decides BLEU's tokenization.
        filters: which pairs are dropped.
        moses: languages of source and target, whose Moses tokenization the pairs are written in, as text must be that
            a model of these languages is trained on; None for raw text. Filters see raw text.
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
    """Selects a hypothesis and asks the filters of single pairs about it."""
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
    source, target = map(tokenized, (source, target), load_processors(*criteria.moses))
    return Outcome(row.line, source, target, hypothesis.score, reverse_score, reason)


def judge_all(candidates: Iterable[Candidate], criteria: Criteria, workers: int = 1) -> Iterator[Outcome]:
    """Yields the outcomes in order.

    Args:
        candidates: any number; a few chunks are held at a time.
        criteria: how to judge them.
        workers: processes that do it; 1 does it in this one.
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
    """As `map`, by `workers` processes that are never further ahead than two items each."""
    if workers == 1:
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = deque(pool.submit(function, item) for item in islice(items, 2 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
