"""What a sweep found: the scores of its trainings by what was swept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.runs import Run
from nemo_distill.storage.run_record import FINISHED


@dataclass(frozen=True)
class Sweep:
    """Trainings whose commands set the same keys, some of them to different values.

    Args:
        runs: those that have a score.
        scores: of these runs and of all others, by their names.
        score_name: what the scores are.
        key: of the numbers that were swept, the one that is looked along; None if none was.
    """

    runs: Sequence[Run]
    scores: Mapping[str, float]
    score_name: str
    key: str | None = None

    @cached_property
    def keys(self) -> list[str]:
        """What was swept, apart from the seed."""
        return [key for key in self.runs[0].overrides if key != "seed" and len(self._values(key)) > 1]

    @property
    def numeric_keys(self) -> list[str]:
        """Those of the keys whose values are all numbers, the one with the most values first."""
        numeric = [key for key in self.keys if all(map(_is_number, self._values(key)))]
        return sorted(numeric, key=lambda key: -len(self._values(key)))

    def along(self, key: str | None) -> "Sweep":
        """Returns the same sweep, looked at along another key."""
        return replace(self, key=key)

    @cached_property
    def values(self) -> list[str]:
        """The key's values in the order of the numbers; one empty value without a key."""
        return sorted(self._values(self.key), key=float) if self.key else [""]

    @cached_property
    def methods(self) -> dict[str, dict[str, list[float]]]:
        """For each method and each value of the key, the scores of all seeds."""
        methods: dict[str, dict[str, list[float]]] = {}
        for run in self.runs:
            value = run.overrides[self.key] if self.key else ""
            methods.setdefault(self.method(run), {}).setdefault(value, []).append(self.scores[run.name])
        return methods

    def method(self, run: Run) -> str:
        """Says in what a run differs from the others, apart from the key and the seed."""
        others = [key for key in self.keys if key != self.key]
        return ", ".join(f"{self.short(key)}={run.overrides[key]}" for key in others) or "all"

    def short(self, key: str) -> str:
        """Returns the last parts of a key's name, as many as tell it from the other keys."""
        parts = key.split(".")
        endings = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        tells = (ending for ending in endings if sum(f".{one}".endswith(f".{ending}") for one in self.keys) <= 1)
        return next(tells, key)  # all of it may be the end of another

    def _values(self, key: str) -> set[str]:
        return {run.overrides[key] for run in self.runs}


def find_sweeps(runs: Sequence[Run], tag: str, evaluation: Evaluation | None, metric: str) -> list[Sweep]:
    """Returns the sweeps among trainings, each along its first numeric key.

    Args:
        runs: the trainings; those that have no score, or have not finished, are left out.
        tag: the scalar whose best value is a training's score ...
        evaluation: ... unless all their models are among its systems; then it is the mean over the test sets of
        metric: this metric.
    """
    runs = [run for run in runs if run.record.get("status") == FINISHED]
    logged = {run.name: best for run in runs if (best := run.best(tag)) is not None}
    evaluated = evaluation_scores(runs, evaluation, metric) if evaluation else {}
    if evaluated and evaluated.keys() >= logged.keys():
        scores, name = evaluated, f"{metric}, mean over the test sets"
    else:
        scores, name = logged, f"best {tag}"
    commands: dict[frozenset[str], list[Run]] = {}
    for run in runs:
        if run.name in scores:
            commands.setdefault(frozenset(run.overrides), []).append(run)
    sweeps = [Sweep(of_command, scores, name) for of_command in commands.values() if len(of_command) > 1]
    return [sweep.along(next(iter(sweep.numeric_keys), None)) for sweep in sweeps if sweep.keys]


def evaluation_scores(runs: Sequence[Run], evaluation: Evaluation, metric: str) -> dict[str, float]:
    """Returns for those runs whose model was evaluated the mean of its scores; models are known by their SHA-256.

    Of several systems of one model, such as other engines, it is the first.
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
        return float(value) == float(value)  # NaN is none
    except ValueError:
        return False
