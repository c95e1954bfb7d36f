"""What a study found, as Markdown and plots: a table an experiment, and the verdicts on what it was to show."""

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from contrasts import OPEN, POWER, Contrast, joint_verdict, seeds_needed
from experiments import Experiment, Grid

from nemo_distill.console import markdown_table
from nemo_distill.evaluation.findings import digits_of, seen_notes
from nemo_distill.evaluation.gains import Gain, Scores, gain_over, gain_over_size, scores_by_group
from nemo_distill.evaluation.likeness import marked
from nemo_distill.metrics.significance import CONFIDENCE
from nemo_distill.report.plots import Plot, line_plot
from nemo_distill.storage.made_with import short_revision

Lines = dict[str, list[tuple[str, float]]]  # by their names, columns and scores
Over = Mapping[str, str | None]  # of models, what their gains are over in an experiment's table; None for no gain
METRIC = "BLEU"
EFFECT = 0.5  # the excess over a limit that is worth finding, in points
COLUMNS = ("seeds", "over its baseline", "relative", "parameters", "compression")
MINUS = "\N{MINUS SIGN}"
EXPLANATION = f"""\
A claim holds if each of its differences is significantly above its limit ({CONFIDENCE:.0%}, one-sided, each tested by
itself). It does not hold if one of them is significantly below. Otherwise it is open. Differences are taken seed by
seed, because models of one seed and size start with the same weights. ± is half of a 90 % confidence interval by
Student's t, which matches this one-sided test; a 95 % interval is half as wide again over three seeds. An open
difference is followed by the number of seeds that would find a true difference {EFFECT} above the limit with a
probability of {POWER:.0%}. It is computed from the spread of the seeds here, which so few tell only roughly. In the
tables of models, ± is the standard deviation over seeds."""
IN_OUR_RUN = "*In the run that we published:*"  # a study's text is typed, and does not change with the tables
UNKNOWN = "\N{EN DASH}"  # the score of a model that has not been trained, or the size of one


def study_markdown(
    experiments: Mapping[str, Experiment], evaluation: Mapping[str, Any], introduction: str, title: str
) -> str:
    """Returns a page: how it was made, the verdicts on all claims, and a section with a table for each experiment.

    Args:
        experiments: of the study's config.
        evaluation: of the models that have been trained, the teacher first; as in `evaluation.json`. Of
            several test sets, the mean of a model's scores counts.
        introduction: what was done, as Markdown.
        title: of the page.
    """
    table = _StudyTable(evaluation)
    begun = {key: one for key, one in experiments.items() if table.has_some_of(one.methods or one.models)}
    waiting = [one.title for key, one in experiments.items() if key not in begun]
    plotted = _plotted(begun, table)
    sections = [f"# {title}", introduction.strip(), _provenance(evaluation), *seen_notes(evaluation)]
    sections += [f"Not trained yet: {'; '.join(waiting)}."] if waiting else []
    sections += ["## Verdicts", EXPLANATION, _verdicts(begun, table.scores)]
    sections += _by_set(begun, table.by_set) if len(table.by_set) > 1 else []
    sections += ["## All models", table.teacher_sentence]
    for key, experiment in begun.items():
        sections += [f"### {experiment.title}", *filter(None, [experiment.text])]
        grid, over = experiment.grid, experiment.over
        sections.append(table.of_grid(grid, over) if grid else table.of_rows(experiment.models, over))
        if key in plotted:
            sections.append(f"![{experiment.title}]({_plot_name(key)}.png)")
        sections += [f"{IN_OUR_RUN} {experiment.found}"] if experiment.found else []
    signatures = ", ".join(f"`{signature}`" for signature in table.signatures)
    return "\n\n".join(sections) + f"\n\nsacrebleu's signature: {signatures}\n"


def study_plots(experiments: Mapping[str, Experiment], evaluation: Mapping[str, Any]) -> list[Plot]:
    """Returns a plot of each experiment whose grid says what its columns are (`x`): a line a row, of mean scores.

    Baselines of the models in it are level lines.

    Args:
        experiments: of the study's config.
        evaluation: of the models that have been trained, as for `study_markdown`.
    """
    return [
        line_plot(_plot_name(key), experiments[key].title, (x, METRIC), lines, marker="o")
        for key, (x, lines) in _plotted(experiments, _StudyTable(evaluation)).items()
    ]


def _plotted(experiments: Mapping[str, Experiment], table: "_StudyTable") -> dict[str, tuple[str, Lines]]:
    """Returns what the columns are, and the lines, of each experiment that has a plot, by the experiment's key."""
    grids = {key: grid for key, one in experiments.items() if (grid := one.grid)}
    return {key: (grid.x, lines) for key, grid in grids.items() if grid.x and (lines := table.lines(grid))}


def _plot_name(experiment: str) -> str:
    return f"study_{experiment}"


class _StudyTable:
    """Makes the tables of a study.

    Their gains are over the baseline of a model's size, or over what an experiment's `over` names for the model.
    """

    def __init__(self, evaluation: Mapping[str, Any]):
        self.systems, sets = evaluation["systems"], evaluation["test_sets"]
        first, *_ = sets.values()
        by_metric = {
            metric: {name: scores_by_group(evaluation, name, metric) for name in sets}
            for metric in dict.fromkeys([METRIC, *next(iter(first["scores"].values()))])
        }
        self.by_set = by_metric[METRIC]
        self.scores_by = {metric: _means_over_sets([*by_set.values()]) for metric, by_set in by_metric.items()}
        self.scores = self.scores_by[METRIC]
        self.sizes = {system["group"]: system["parameters"] for system in self.systems.values()}
        self.teacher, *_ = self.scores
        of_teacher = [found["scores"][self.teacher][metric] for found in sets.values() for metric in self.scores_by]
        self.signatures = list(dict.fromkeys(score["signature"] for score in of_teacher))

    def has_some_of(self, groups: Iterable[str]) -> bool:
        """True if a model of one of the groups has been trained."""
        return not self.scores.keys().isdisjoint(groups)

    @property
    def teacher_sentence(self) -> str:
        """What the teacher scores, and its size."""
        return (
            f"Teacher: {_mean(self.scores[self.teacher].values())} BLEU, {_size(self.sizes[self.teacher])} parameters."
        )

    def of_rows(self, groups: Sequence[str], over: Over) -> str:
        return markdown_table(["model", *self.scores_by, *COLUMNS], [self._row(group, over) for group in groups])

    def of_grid(self, grid: Grid, over: Over) -> str:
        gains = {group: self._gain(group, over) for groups in grid.rows.values() for group in groups}
        rows = [[row, *(self._cell(group, gains[group]) for group in groups)] for row, groups in grid.rows.items()]
        baselines = dict.fromkeys(gain.baseline for gain in gains.values() if gain)
        named = f" (over {', '.join(baselines)})" if baselines else ""
        return markdown_table([f"BLEU{named}", *grid.columns], rows)

    def lines(self, grid: Grid) -> Lines:
        """Returns the columns and mean scores of the baselines and of each row, of what has been trained."""
        named = {group for groups in grid.rows.values() for group in groups if group in self.scores}
        alone = {gain.baseline for group in named if (gain := self._gain(group, {}))} - named
        # Baselines first: they have all columns, which a plot takes in the order in which it meets them.
        rows = {f"{group}, no teacher": [group] * len(grid.columns) for group in sorted(alone)} | grid.rows
        points = {
            row: [
                (column, statistics.mean(self.scores[group].values()))
                for column, group in zip(grid.columns, groups)
                if group in self.scores
            ]
            for row, groups in rows.items()
        }
        return {row: line for row, line in points.items() if line}

    def _row(self, group: str, over: Over) -> list[str]:
        if group not in self.scores:
            return [group, UNKNOWN, *[""] * (len(self.scores_by) - 1 + len(COLUMNS))]
        size, gain = self.sizes[group], self._gain(group, over)
        shown = [
            marked(_mean(scores[group].values(), digits_of(metric)), self.systems, metric, group)
            for metric, scores in self.scores_by.items()
        ]
        gained = f"{_signed(gain.mean)} over {gain.baseline}" if gain else ""
        relative = f"{_signed(100 * gain.relative, 1)} %" if gain and gain.relative is not None else ""
        of_teacher = self.sizes[self.teacher]
        ratio = f"{of_teacher / size:.1f}x" if size and of_teacher else UNKNOWN
        return [group, *shown, str(len(self.scores[group])), gained, relative, _size(size), ratio]

    def _cell(self, group: str, gain: Gain | None) -> str:
        if group not in self.scores:
            return UNKNOWN
        return _mean(self.scores[group].values()) + (f" ({_signed(gain.mean)})" if gain else "")

    def _gain(self, group: str, over: Over) -> Gain | None:
        if group not in self.scores:
            return None
        if group in over:
            baseline = over[group]
            return gain_over(group, [baseline] if baseline else [], self.scores)
        return gain_over_size(group, self.systems, self.scores)


def _provenance(evaluation: Mapping[str, Any]) -> str:
    systems, record = evaluation["systems"], evaluation["made_with"]
    trained = [system for system in systems.values() if system.get("training") and not system.get("same_model_as")]
    hours = sum(system["training"]["seconds"] or 0.0 for system in trained) / 3600
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    devices, revisions = (
        sorted({value for system in trained if (value := system["training"].get(key))})
        for key in ("device", "git_revision")
    )
    where = f" on {', '.join(devices)}" if devices else ""
    where += f" by revisions {', '.join(map(short_revision, revisions))}" if revisions else ""
    return (
        f"{len(systems)} models, {hours:.1f} hours of training{where}. "
        f"Evaluated on {record['device']}, threads each: {record['threads']}. "
        f"Written {record['date'][:10]} by revision {short_revision(record['git_revision'])}; {versions}."
    )


def _verdicts(experiments: Mapping[str, Experiment], scores: Scores) -> str:
    rows = []
    for experiment in experiments.values():
        for claim, contrasts in experiment.contrasts():
            verdict = joint_verdict([contrast.verdict(scores) for contrast in contrasts])
            rows.append([claim, f"**{verdict}**", "<br>".join(_evidence(contrast, scores) for contrast in contrasts)])
    return markdown_table(["claim", "verdict", "evidence (BLEU)"], rows)


def _by_set(experiments: Mapping[str, Experiment], by_set: Mapping[str, Scores]) -> list[str]:
    contrasts = [
        one for experiment in experiments.values() for _, several in experiment.contrasts() for one in several
    ]
    cells = {_difference(one): [_estimate(one, scores) for scores in by_set.values()] for one in contrasts}
    rows = [[difference, *estimates] for difference, estimates in cells.items() if all(estimates)]
    return ["The same differences by test set:", markdown_table(["difference (BLEU)", *by_set], rows)] if rows else []


def _evidence(contrast: Contrast, scores: Scores) -> str:
    said = _difference(contrast)
    if not (estimate := _estimate(contrast, scores)):
        return f"{said}: not trained yet"
    limit, verdict = f"{contrast.above:g}".replace("-", MINUS), contrast.verdict(scores)
    needed = seeds_needed(contrast.by_seed(scores), EFFECT) if verdict == OPEN else None
    of_seeds = f" ({needed} seeds)" if needed else ""
    return f"{said} = {estimate}, claimed above {limit}: {verdict}{of_seeds}"


def _difference(contrast: Contrast) -> str:
    sides = (" + ".join(groups) for groups in (contrast.plus, contrast.minus))
    return f" {MINUS} ".join(f"({side})" if " " in side else side for side in sides)


def _estimate(contrast: Contrast, scores: Scores) -> str:
    """Returns the difference and its margin; nothing if no seed has all of its models."""
    if not (by_seed := contrast.by_seed(scores)):
        return ""
    margin = f" ± {contrast.margin(scores):.2f}" if len(by_seed) > 1 else ""
    return f"{_signed(contrast.estimate(scores))}{margin}"


def _means_over_sets(by_set: Sequence[Scores]) -> Scores:
    """Returns each model's scores by seed, averaged over the test sets."""
    first, *_ = by_set
    return {
        group: {seed: statistics.mean(scores[group][seed] for scores in by_set) for seed in first[group]}
        for group in first
    }


def _mean(scores: Collection[float], digits: int = 2) -> str:
    deviation = f" ± {statistics.stdev(scores):.{digits}f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.{digits}f}{deviation}"


def _size(parameters: int | None) -> str:
    return UNKNOWN if parameters is None else f"{parameters:,}"


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", MINUS)
