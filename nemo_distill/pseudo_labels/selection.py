"""Which of a line's hypotheses become its labels: the settings, and the value of each hypothesis.

A selection is a function that gives each hypothesis a value. The hypotheses with the highest values become labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nemo_distill.config.section import Allowed, section
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.pseudo_labels.filters import NO_FILTERS, FilterSettings
from nemo_distill.pseudo_labels.shards import Row
from nemo_distill.pseudo_labels.similarity import NAMES, MetricName, similarities
from nemo_distill.text.lines import normalized

MetricWeights = dict[MetricName, Annotated[float, Field(gt=0)]]


@section
class Selection:
    """How labels are selected and filtered."""

    selection: Literal["one_best", "interpolation", "mbr", "quality"] = "one_best"
    """`one_best`: the teacher's best hypothesis. `interpolation`: the one nearest to the reference (Kim & Rush 2016).
    `mbr`: the one nearest to all others, by minimum Bayes risk (Eikema & Aziz 2020; for distillation, Finkelstein &
    Freitag 2024). `quality`: the one with the highest score that `quality` gives."""
    metric: Annotated[
        MetricName | Annotated[MetricWeights, Field(min_length=1)],
        Allowed("one of bleu, chrf, or the weight of each, as {bleu: 0.5, chrf: 0.5}"),
    ] = "bleu"
    """How similarity is measured: by sacrebleu's smoothed sentence BLEU, by chrF, or by a weighted sum of both such as
    `{bleu: 0.5, chrf: 0.5}`."""
    metric_language: str | None = None
    """The target language, for BLEU's tokenization, such as `zh` or `ja`; null: the teacher's."""
    labels_per_source: int = Field(default=1, ge=1)
    """Number of labels per source line: the best ones by the selection. Labels that differ only in case, spaces or
    punctuation count as equal."""
    label_weights: Literal["probability", "rank"] | None = None
    """Write `pseudo.weights`, for a mix: the weights of a line's labels that no filter drops, which sum to 1.
    `probability`: the softmax of the teacher's scores; `rank`: 1, 1/2, 1/3, ... in proportion. null: no weights."""
    filters: FilterSettings | None = Field(default_factory=FilterSettings)
    """Which pairs are dropped; null: none."""

    @property
    def metric_weights(self) -> dict[MetricName, float]:
        """The weight of each metric."""
        return {self.metric: 1.0} if isinstance(self.metric, str) else self.metric

    @property
    def compared_by(self) -> list[str]:
        """The metrics that hypotheses are compared by, with one another or with a reference; none if they are not."""
        by_consensus = self.filters is not None and self.filters.consensus_quantile
        return [*self.metric_weights] if self.selection in ("interpolation", "mbr") or by_consensus else []


@section
class Criteria(Selection):
    """How labels are selected, filtered and written, with nothing left to find out.

    A `metric_language` of None is no language, and not the teacher's.
    """

    filters: FilterSettings = NO_FILTERS
    """Which pairs are dropped. Filters see raw text."""
    moses: Sequence[str | None] = (None, None)
    """Languages of source and target, whose Moses tokenization the pairs are written in, as text must be that a model
    of these languages is trained on; null for raw text."""
    quality: str | None = None
    """The name of the metric that `quality` gives scores of, if any."""

    @property
    def selected_by(self) -> list[str]:
        """The metrics that have a say in which pairs are kept. A student must not be judged by them alone."""
        by_quality = self.selection == "quality" or self.filters.quality_quantile
        names = [NAMES[name] for name in self.compared_by]
        return sorted({*names, *([self.quality] if by_quality and self.quality else [])})


@dataclass(frozen=True)
class Candidate:
    """A source line, as it was translated, and all its translations.

    Args:
        source: the line.
        rows: its row in the labels' shards, and after it its rows in other labels. The first row's first hypothesis is
            the teacher's best.
        qualities: the quality of each hypothesis of all rows, if it is known.
    """

    source: str
    rows: Sequence[Row]
    reference: str | None = None
    qualities: Sequence[float] | None = None

    @property
    def line(self) -> int:
        """The line number."""
        return self.rows[0].line

    @cached_property
    def hypotheses(self) -> list[Hypothesis]:
        """The hypotheses of all rows."""
        return [hypothesis for row in self.rows for hypothesis in row.hypotheses]

    @property
    def texts(self) -> list[str]:
        """The texts of the hypotheses."""
        return [hypothesis.text for hypothesis in self.hypotheses]

    @property
    def reverse_scores(self) -> list[float | None]:
        """For each hypothesis its score by the reverse model, if there is one."""
        return [score for row in self.rows for score in row.reverse_scores or [None] * len(row.hypotheses)]

    @property
    def sources_cut(self) -> list[bool]:
        """For each hypothesis whether only the beginning of the line was translated."""
        return [row.source_cut for row in self.rows for _ in row.hypotheses]


def best(candidate: Candidate, criteria: Criteria) -> list[int]:
    """Returns the indices of the hypotheses that become labels, best first. Of equal values, the first counts."""
    values = VALUES[criteria.selection](candidate, criteria)  # (n,)
    order = np.argsort(-values, kind="stable").tolist()
    if criteria.labels_per_source == 1:
        return order[:1]
    texts = candidate.texts
    different = {normalized(texts[index]): index for index in reversed(order)}
    return sorted(different.values(), key=order.index)[: criteria.labels_per_source]


def consensus(candidate: Candidate, criteria: Criteria) -> np.ndarray:
    """Returns for each hypothesis (n,) its mean similarity to all others; 0 if there are no others.

    This is the expected utility under the hypotheses' distribution, except for a constant: the similarity of a
    hypothesis to itself. A text that occurs several times counts as often.
    """
    texts = candidate.texts
    if len(texts) == 1:
        return np.zeros(1)
    matrix = similarities(texts, texts, criteria.metric_weights, criteria.metric_language)
    return np.round((matrix.sum(axis=1) - matrix.diagonal()) / (len(texts) - 1), 9)


def weights(candidate: Candidate, chosen: Sequence[int], by: str | None) -> list[float]:
    """Returns the weights of the chosen hypotheses, which sum to 1.

    Args:
        by: as `Selection.label_weights`; None: equal weights.
    """
    if by == "probability":
        scores = np.array([candidate.hypotheses[index].score for index in chosen])
        found = np.exp(scores - scores.max())
    elif by == "rank":
        found = 1 / np.arange(1, len(chosen) + 1)
    else:
        found = np.ones(len(chosen))
    return (found / found.sum()).tolist()


def _one_best(candidate: Candidate, criteria: Criteria) -> np.ndarray:
    return -np.arange(len(candidate.hypotheses))


def _interpolation(candidate: Candidate, criteria: Criteria) -> np.ndarray:
    """The similarity to the reference (Kim & Rush 2016, section 3.3). Without a reference, the one-best counts."""
    if not candidate.reference:
        return _one_best(candidate, criteria)
    reference, language = [candidate.reference], criteria.metric_language
    return similarities(candidate.texts, reference, criteria.metric_weights, language)[:, 0]


def _quality(candidate: Candidate, criteria: Criteria) -> np.ndarray:
    if candidate.qualities is None:
        return np.array([hypothesis.score for hypothesis in candidate.hypotheses])
    return np.array(candidate.qualities)


VALUES: dict[str, Callable[[Candidate, Criteria], np.ndarray]] = {
    "one_best": _one_best,
    "interpolation": _interpolation,
    "mbr": consensus,
    "quality": _quality,
}
