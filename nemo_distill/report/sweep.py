"""The results of a sweep: the scores of its trainings by the swept keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.runs import LOWER_IS_BETTER, Run
from nemo_distill.storage.run_record import FINISHED


@dataclass(frozen=True)
class Sweep:
    """Trainings whose commands set the same keys, with different values for some of them.

    Args:
        runs: the trainings that have a score.
        scores: scores by run name. They may include other runs.
        score_name: name of the score.
        lower_is_better: True if the best score is the lowest.
        key: the swept numeric key that is shown in the columns; None if there is none.
    """

    runs: Sequence[Run]
    scores: Mapping[str, float]
    score_name: str
    lower_is_better: bool
    key: str | None = None

    @cached_property
    def keys(self) -> list[str]:
        """The swept keys, except the seed."""
        return [key for key in self.runs[0].overrides if key != "seed" and len(self._values(key)) > 1]

    @property
    def numeric_keys(self) -> list[str]:
        """The keys with only numeric values, the key with the most values first."""
        numeric = [key for key in self.keys if all(map(_is_number, self._values(key)))]
        return sorted(numeric, key=lambda key: -len(self._values(key)))

    def along(self, key: str | None) -> "Sweep":
        """Returns the same sweep with another key in the columns."""
        return replace(self, key=key)

    @cached_property
    def values(self) -> list[str]:
        """The values of the key in numeric order; a single empty value without a key."""
        return sorted(self._values(self.key), key=float) if self.key else [""]

    @cached_property
    def methods(self) -> dict[str, dict[str, list[float]]]:
        """The scores of all seeds, by method and by value of the key."""
        methods: dict[str, dict[str, list[float]]] = {}
        for run in self.runs:
            value = run.overrides[self.key] if self.key else ""
            methods.setdefault(self.method(run), {}).setdefault(value, []).append(self.scores[run.name])
        return methods

    def method(self, run: Run) -> str:
        """Returns how a run differs from the others, apart from the key and the seed."""
        others = [key for key in self.keys if key != self.key]
        return ", ".join(f"{self.short(key)}={run.overrides[key]}" for key in others) or "all"

    def short(self, key: str) -> str:
        """Returns the shortest ending of a key's name that distinguishes it from the other keys."""
        parts = key.split(".")
        endings = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        tells = (ending for ending in endings if sum(f".{one}".endswith(f".{ending}") for one in self.keys) <= 1)
        return next(tells, key)  # the whole name may be the ending of another one

    def _values(self, key: str) -> set[str]:
        return {run.overrides[key] for run in self.runs}


def find_sweeps(runs: Sequence[Run], tag: str, evaluation: Evaluation | None, metric: str) -> list[Sweep]:
    """Returns the sweeps among some trainings, each with its first numeric key in the columns.

    Args:
        runs: the trainings. Those without a score, or not finished, are ignored.
        tag: the scalar whose best value is the score of a training. It is used unless `evaluation` has all models.
        evaluation: if it has all models, the score is the mean of `metric` over its test sets.
        metric: see `evaluation`.
    """
    runs = [run for run in runs if run.record.get("status") == FINISHED]
    logged = {run.name: best for run in runs if (best := run.best(tag)) is not None}
    evaluated = evaluation_scores(runs, evaluation, metric) if evaluation else {}
    if evaluated and evaluated.keys() >= logged.keys():
        scores, name = evaluated, f"{metric}, mean over the test sets"
        lower = evaluation is not None and evaluation.is_lower_better(metric)
    else:
        scores, name, lower = logged, f"best {tag}", bool(LOWER_IS_BETTER.search(tag))
    commands: dict[frozenset[str], list[Run]] = {}
    for run in runs:
        if run.name in scores:
            commands.setdefault(frozenset(run.overrides), []).append(run)
    sweeps = [Sweep(of_command, scores, name, lower) for of_command in commands.values() if len(of_command) > 1]
    return [sweep.along(next(iter(sweep.numeric_keys), None)) for sweep in sweeps if sweep.keys]


def evaluation_scores(runs: Sequence[Run], evaluation: Evaluation, metric: str) -> dict[str, float]:
    """Returns the mean score of each run whose model was evaluated. Models are identified by their SHA-256.

    If several systems use the same model, for example with different engines, the first one counts.
    """
    systems: dict[str, str] = {}
    for name, system in evaluation.systems.items():
        systems.setdefault(system["sha256"], name)
    found = {}
    for run in runs:
        names = (systems[model["sha256"]] for model in run.record.get("models") or () if model["sha256"] in systems)
        if (first := next(names, None)) and (score := evaluation.average(first, metric)) is not None:
            found[run.name] = score
    return found


def _is_number(value: str) -> bool:
    try:
        return float(value) == float(value)  # False for NaN
    except ValueError:
        return False
