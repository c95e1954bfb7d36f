"""Whether a difference of two systems' scores would be there on other sentences too: sacrebleu's paired tests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.significance import PairedTest

from nemo_distill.metrics.scores import METRICS, build_metric

TESTS = {"bootstrap": "bs", "approximate_randomization": "ar"}


@dataclass(frozen=True)
class SignificanceSettings:
    """How systems are compared.

    Args:
        test: `approximate_randomization` (Riezler & Maxwell 2005), or `bootstrap`, paired bootstrap resampling (Koehn
            2004). sacrebleu's bootstrap centres absolute differences, so that its p is never far above 0.4, and among
            equals it is below 0.05 more often than one time in ten: the other one keeps to its level.
        samples: trials or resamples; None for sacrebleu's 10,000 or 1,000.
        metrics: of `METRICS`; TER takes long; None for the first that the systems are scored by.
        baselines: names of the systems that each of the others is compared with; None for the first.
    """

    test: str = "approximate_randomization"
    samples: int | None = None
    metrics: list | None = None
    baselines: list | None = None

    def problems(self) -> list[str]:
        """Returns a sentence for each value that is not allowed."""
        problems = []
        if self.test not in TESTS:
            problems.append(f"test={self.test}: must be one of {', '.join(TESTS)}.")
        if self.samples is not None and self.samples < 1:
            problems.append(f"samples={self.samples}: must be null or at least 1.")
        if unknown := [name for name in self.metrics or () if name not in METRICS]:
            problems.append(f"metrics={unknown}: must be of {', '.join(METRICS)}.")
        return problems


@dataclass(frozen=True)
class Comparison:
    """A system beside a baseline.

    Args:
        system: its name.
        baseline: the other's.
        metric: one of `METRICS`.
        difference: the system's corpus score, less the baseline's.
        p_value: how often a difference as large comes of the choice of sentences alone; see `test`.
        test: one of `TESTS`.
        samples: resamples or trials.
    """

    system: str
    baseline: str
    metric: str
    difference: float
    p_value: float
    test: str
    samples: int


def compare(
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    settings: SignificanceSettings,
    language: str | None = None,
) -> list[Comparison]:
    """Compares every system with each baseline, no pair twice.

    Args:
        translations: of each system, one a sentence.
        references: one a sentence.
        settings: the test.
        language: the target language.
    """
    found = []
    for place, baseline in enumerate(baselines := settings.baselines or [next(iter(translations))]):
        others = [name for name in translations if name not in baselines[: place + 1]]
        if others:
            found += _against(baseline, others, translations, references, settings, language)
    return found


def both_ways(comparisons: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yields each comparison, and where its system is a baseline of others also the other way round.

    Args:
        comparisons: `system`, `baseline`, `difference` and what else there is.
    """
    comparisons = list(comparisons)
    baselines = {one["baseline"] for one in comparisons}
    for one in comparisons:
        yield one
        if one["system"] in baselines:
            swapped = {"system": one["baseline"], "baseline": one["system"], "difference": -one["difference"]}
            yield {**one, **swapped}


def group_p_value(comparisons: Sequence[Mapping[str, Any]]) -> float:
    """Returns the largest p-value of a group's seeds against one baseline; 1 if not all differ in one direction.

    A small one says that each of these seeds differs from the baseline by more than the choice of sentences explains;
    what another seed would give it does not say.

    Args:
        comparisons: of each seed, `difference` and `p_value`.
    """
    one_direction = len({one["difference"] > 0 for one in comparisons}) == 1
    return max(one["p_value"] for one in comparisons) if one_direction else 1.0


def _against(
    baseline: str,
    others: Sequence[str],
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    settings: SignificanceSettings,
    language: str | None,
) -> Iterator[Comparison]:
    names = settings.metrics or METRICS[:1]
    test = PairedTest(
        [(name, translations[name]) for name in (baseline, *others)],
        {name: build_metric(name, language) for name in names},
        [references],
        TESTS[settings.test],
        settings.samples or 0,
    )
    _, columns = test()
    for name, column in zip(names, [column for key, column in columns.items() if key != "System"]):
        for system, result in zip(others, column[1:]):
            difference = float(result.score - column[0].score)
            # sacrebleu counts only what is larger than the difference, so that equals would differ for certain.
            p_value = float(result.p_value) if difference else 1.0
            yield Comparison(system, baseline, name, difference, p_value, settings.test, test.n_samples)
