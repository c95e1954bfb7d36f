"""Selects a hypothesis for a translated line and applies the filters for single pairs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import Literal, NamedTuple

from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.decoding.processors import load_processors, tokenized
from nemo_distill.pseudo_labels.filters import FilterSettings, Pair, first_reason
from nemo_distill.pseudo_labels.select import nearest_to, sentence_similarity
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


@section
class Selection:
    """How labels are selected and filtered."""

    selection: Literal["one_best", "interpolation"] = "one_best"
    """`one_best`, or `interpolation`: of the hypotheses the one nearest to the reference."""
    metric: Literal["bleu", "chrf"] = "bleu"
    """What is near: sacrebleu's smoothed sentence BLEU, or chrF. Of no effect on the one-best."""
    metric_language: str | None = None
    """The target's, for BLEU's tokenization, such as `zh` or `ja`; null: the teacher's."""
    filters: FilterSettings | None = Field(default_factory=FilterSettings)
    """Which pairs are dropped; null: none."""


@dataclass(frozen=True)
class Criteria:
    """How labels are selected, filtered and written, with nothing left to find out.

    Args:
        selection: as in `Selection`.
        metric: likewise.
        metric_language: likewise, but None is no language.
        filters: which pairs are dropped. Filters see raw text.
        moses: languages of source and target, whose Moses tokenization the pairs are written in, as text must be that
            a model of these languages is trained on; None for raw text.
    """

    selection: str
    metric: str
    metric_language: str | None
    filters: FilterSettings
    moses: Sequence[str | None] = (None, None)


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
    source, target = map(tokenized, (source, target), load_processors(*criteria.moses))
    return Outcome(row.line, source, target, hypothesis.score, reverse_score, reason)


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
