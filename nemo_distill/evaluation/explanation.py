"""Why a student is worse than its teacher: the difference of their scores in parts, each with an interval.

Five parts add up to the difference: shortlist, quantization, search, capacity and generalisation. Each step from the
student as it is served to the teacher is a system of its own, and each part is the difference of two neighbours:

    served, int8, float32, wide beam, teacher

The last step, from the student with a wide beam to the teacher, is divided by training labels. The share of the gap
that is already there on text that the student was trained on is capacity, or too few steps. The rest is
generalisation.

Other parts tell in which sentences the gap is: by how much it is larger than without those that are far from the
training text, long, or have rare words. They overlap, so they do not add up.

All systems are scored on the same resamples of the sentences (paired bootstrap, Koehn 2004). An array of scores holds
the score of all sentences first, then those of the resamples (1 + R,). Intervals are percentiles of the latter.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.training_view import TrainingView, target_words
from nemo_distill.failures.profile import TranslatedSet, wilson
from nemo_distill.failures.segment import units
from nemo_distill.metrics.scores import bleu
from nemo_distill.metrics.significance import (
    RESAMPLES,
    SEED,
    TAILS,
    resampled_scores,
    seed_margin,
    sentence_statistics,
)

TEACHER, STUDENT, WIDE, EXPORT, SERVED = "teacher", "student", "student_wide", "student_export", "student_served"
CHAIN = {SERVED: "shortlist", EXPORT: "quantization", STUDENT: "search", WIDE: "model"}  # what each system loses
CAPACITY, GENERALISATION = "capacity", "generalisation"
LEAST_SENTENCES = 30  # of a group; a score of fewer says little
TEACHERS_LABELS = 75.0  # BLEU of the teacher against labels that must be its own; people's references are far below
SAME = 1e-3  # nats by which another translation must be more probable


class Scores:
    """The scores of systems on the same resamples of the sentences.

    Args:
        texts: sentences and translations.
        metric: a metric of sacrebleu.
        language: the target language.
        seed: of the resamples.
    """

    def __init__(self, texts: TranslatedSet, metric: str, language: str | None, seed: int = SEED):
        self.seed = seed
        self.score, self.statistics = sentence_statistics(
            texts.translations, texts.references, metric, language, texts.more_references
        )

    def of(self, system: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """Returns a system's scores (1 + R,) on all sentences, or on those that are `chosen` (N,)."""
        statistics = self.statistics[system]
        return resampled(statistics if chosen is None else statistics * chosen[:, None], self.score, self.seed)

    def gap(self, system: str, chosen: np.ndarray | None = None) -> np.ndarray:
        """Returns a system's scores minus the teacher's."""
        return self.of(system, chosen) - self.of(TEACHER, chosen)


def resampled(statistics: np.ndarray, score: Callable[[np.ndarray], float], seed: int = SEED) -> np.ndarray:
    """Returns the score of all sentences, then those of resamples (1 + R,), from statistics (N, S)."""
    (scores,) = resampled_scores([statistics], score, RESAMPLES, seed)
    return np.concatenate(([score(statistics.sum(axis=0))], scores))


def estimate(scores: np.ndarray) -> dict[str, float]:
    """Returns the `value` of scores (1 + R,), and `low` and `high`, percentiles of the resamples."""
    low, high = np.nanpercentile(scores[1:], TAILS)
    return {"value": float(scores[0]), "low": float(low), "high": float(high)}


@dataclass(frozen=True)
class Explanation:
    """Measures the parts.

    Args:
        test: the test set, with translations by TEACHER, STUDENT, WIDE, and where there are such, EXPORT and SERVED.
        sample: a sample of the training text, with its labels as references, and translations by TEACHER and STUDENT.
        view: what is known of the training text.
        rare: words that the training targets have less often are rare.
        metric: a metric of sacrebleu.
        language: the target language.
        labels_of: `teacher` if the labels are its translations, otherwise `text`; None: found out.
    """

    test: TranslatedSet
    sample: TranslatedSet
    view: TrainingView
    rare: int
    metric: str
    language: str | None
    labels_of: Literal["teacher", "text"] | None = None

    @cached_property
    def scores(self) -> Scores:
        """The scores on the test set."""
        return Scores(self.test, self.metric, self.language)

    @property
    def explained(self) -> str:
        """The student as it is served, as far as that is given."""
        return next(name for name in CHAIN if name in self.test.translations)

    @cached_property
    def teachers_labels(self) -> bool:
        """Whether the labels are the teacher's translations."""
        if self.labels_of is not None:
            return self.labels_of == "teacher"
        return bleu(self.sample.translations[TEACHER], self.sample.references, self.language).value >= TEACHERS_LABELS

    def record(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        sample = self._sample_gaps()
        return {
            "explained": self.explained,
            "scores": {name: estimate(self.scores.of(name)) for name in self.test.translations},
            "gap": estimate(self.scores.gap(self.explained)),
            "parts": {name: estimate(scores) for name, scores in self._parts(*sample).items()},
            "sample": {
                "labels_of": "teacher" if self.teachers_labels else "text",
                "sentences": len(self.sample.references),
                "pairs": self.view.pairs,
                "gap": estimate(sample[0]),
                "test_gap": estimate(sample[1]),
            },
            "places": {name: self._place(groups) for name, groups in self._groups().items()},
            "recall": list(self._recall()),
        }

    def _parts(self, sample_gap: np.ndarray, test_gap: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the parts of the gap, which add up to it."""
        systems = [name for name in CHAIN if name in self.test.translations]
        parts = {
            CHAIN[name]: self.scores.of(name) - self.scores.of(better)
            for name, better in zip(systems, [*systems[1:], TEACHER])
        }
        model = parts.pop(CHAIN[WIDE])
        with np.errstate(divide="ignore", invalid="ignore"):
            # A teacher that was trained on the same text knows it by heart, so its gap there may be the larger one.
            there = np.nan_to_num(np.clip(sample_gap / test_gap, 0, 1))
        return parts | {CAPACITY: model * there, GENERALISATION: model * (1 - there)}

    def _sample_gaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the gap on the training sample and on the test set, both against labels of the same kind."""
        sample, test = self.sample, self.test
        if self.teachers_labels:  # against human references of the test set, the teacher would not have 100
            sample, test = (
                TranslatedSet(one.sources, one.translations[TEACHER], one.translations) for one in (sample, test)
            )
        on_sample = Scores(sample, self.metric, self.language, SEED + 1)
        return on_sample.gap(STUDENT), Scores(test, self.metric, self.language).gap(STUDENT)

    def _groups(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns sets of sentences (N,); in each place, the gap is expected to be larger in the second group."""
        nearness = np.array([self.view.nearness(source) for source in self.test.sources])
        lengths = np.array([len(units(source)) for source in self.test.sources])
        rare = np.array([any(count < self.rare for _, count in words) for words in self._reference_words])
        far, long = nearness < np.median(nearness), lengths > np.quantile(lengths, 2 / 3)
        if not far.any():  # more than half of the sentences are equally far
            far = nearness == nearness.min()
        short = lengths <= np.quantile(lengths, 1 / 3)
        return {
            "far": {"near to the training text": ~far, "far from the training text": far},
            "long": {
                "shorter sentences": ~long,
                "the longest third": long,
                "of the shorter, the shortest third": short,
            },
            "rare": {"without rare words": ~rare, "with rare words": rare},
        }

    def _place(self, groups: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Returns the gap in each group, and by how much it is larger than in the first group alone (`part`)."""
        sentences = {name: int(chosen.sum()) for name, chosen in groups.items()}
        found: dict[str, Any] = {"sentences": sentences}
        if min(sentences.values()) < LEAST_SENTENCES:
            return found
        gaps = {name: self.scores.gap(self.explained, chosen) for name, chosen in groups.items()}
        part = self.scores.gap(self.explained) - next(iter(gaps.values()))
        return found | {"gaps": {name: estimate(gap) for name, gap in gaps.items()}, "part": estimate(part)}

    @cached_property
    def _reference_words(self) -> list[list[tuple[str, int]]]:
        """The words of each reference, each with its number in the training targets."""
        return [[(word, self.view.counts.get(word, 0)) for word in target_words(one)] for one in self.test.references]

    def _recall(self) -> Iterator[dict[str, Any]]:
        """Yields which share of the references' words each system says, by their number in the training targets."""
        for low, high in [(0, 1), (1, self.rare), (self.rare, 10 * self.rare), (10 * self.rare, None)]:
            wanted = [
                Counter(word for word, count in words if low <= count < (high or math.inf))
                for words in self._reference_words
            ]
            if not (total := sum(counts.total() for counts in wanted)):
                continue
            shares = {name: self._share(wanted, name) for name in (self.explained, TEACHER)}
            yield {
                "from": low,
                "below": high,
                "words": total,
                **{name: float(share[0]) for name, share in shares.items()},
                "difference": estimate(shares[self.explained] - shares[TEACHER]),
            }

    def _share(self, wanted: Sequence[Counter[str]], system: str) -> np.ndarray:
        said = (Counter(target_words(line)) for line in self.test.translations[system])
        statistics = [[(one & other).total(), one.total()] for one, other in zip(wanted, said)]
        return resampled(
            np.array(statistics, dtype=float), lambda sums: 100 * sums[0] / sums[1] if sums[1] else math.nan
        )


def forced_record(
    own: np.ndarray,
    teachers: np.ndarray,
    losses: Mapping[str, Mapping[str, np.ndarray]],
    settings: SearchSettings,
) -> dict[str, Any]:
    """Returns how often the search missed a better translation, and the losses, in nats per token.

    A search error is certain if the student itself finds the teacher's translation more probable than its own, by the
    score that the search ranks by (Stahlberg & Byrne 2019, who search for such translations exactly).

    All arrays are scores that models give to fixed translations: log-probability and number of tokens (N, 2).

    Args:
        own: the student's scores of its own translations.
        teachers: the student's scores of the teacher's translations.
        losses: each system's scores of the training sample's `labels`; and of the `test`'s references, or of the
            teacher's translations if the labels are such.
        settings: how the student searched.
    """
    mine, theirs = (scores[:, 0] / settings.penalty(scores[:, 1]) for scores in (own, teachers))
    missed = theirs > mine + SAME
    lines = (np.flatnonzero(missed) + 1).tolist()
    rate = asdict(wilson(len(lines), len(missed)))
    return {
        "search_errors": {"lines": lines, "sentences": len(missed), "rate": rate},
        "losses": {"labels": _losses(losses["labels"], SEED + 1), "test": _losses(losses["test"], SEED)},
    }


def _losses(scores: Mapping[str, np.ndarray], seed: int) -> dict[str, dict[str, float]]:
    """Returns each system's loss, and the difference of student and teacher."""
    found = {
        name: resampled(of_system * [-1, 1], lambda sums: sums[0] / sums[1], seed)
        for name, of_system in scores.items()
    }
    if TEACHER in found:
        found["difference"] = found[STUDENT] - found[TEACHER]
    return {name: estimate(loss) for name, loss in found.items()}


def seeds_record(scores: Mapping[str, float], teacher: float) -> dict[str, Any]:
    """Returns how much students that differ only in their seed differ from each other.

    Args:
        scores: of each student.
        teacher: the teacher's.
    """
    values = list(scores.values())
    margin = seed_margin(values)
    mean = statistics.mean(values) - teacher
    return {
        "scores": dict(scores),
        "standard_deviation": statistics.stdev(values),
        "gap": {"value": mean, "low": mean - margin, "high": mean + margin},
    }
