"""The experiments of a study, as its configuration gives them: models, their tables, and claims about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from contrasts import Contrast
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.experiments.comparison_section import TEACHER, Overrides


@section
class Claim:
    """A difference of mean scores that should exceed a limit."""

    plus: str | list[str]
    """The models whose scores are added. The teacher counts with every seed."""
    minus: str | list[str]
    """The models whose scores are subtracted."""
    above: float
    """The limit in BLEU."""

    @property
    def contrast(self) -> Contrast:
        """What is tested."""
        plus, minus = ([names] if isinstance(names, str) else names for names in (self.plus, self.minus))
        return Contrast(plus, minus, self.above)


@section
class Grid:
    """A table of models with several in a row."""

    columns: list[str]
    """The columns' titles."""
    rows: dict[str, list[str]]
    """The rows' titles, and a model for each column."""
    x: str | None = None
    """The name of what the columns are; then the table is plotted too. null: it is not."""

    def problems(self) -> list[str]:
        """Returns a sentence for each row that does not fit the columns."""
        return [
            f"rows.{row} has {len(names)} models for {len(self.columns)} columns."
            for row, names in self.rows.items()
            if len(names) != len(self.columns)
        ]


@section
class Experiment:
    """A part of a study's page: a table of models, and the claims about them."""

    title: str
    """The heading."""
    text: str = ""
    """What was done, as Markdown."""
    methods: dict[str, Overrides] = Field(default_factory=dict)
    """The models that are trained for it: names, and overrides as of `methods` in a comparison."""
    rows: list[str] = Field(default_factory=list)
    """The models of the table, one in a row. Without `rows` and `grid`, they are those of `methods`."""
    grid: Grid | None = None
    """The table, if it has several models in a row."""
    over: dict[str, str | None] = Field(default_factory=dict)
    """What a model's gain is over in the table, instead of the baseline of its size; null: no gain."""
    claims: dict[str, list[Claim]] = Field(default_factory=dict)
    """Sentences, and the differences of which each must be there for the sentence to hold."""
    found: str = ""
    """What was found in the run that was published, as Markdown."""

    def problems(self) -> list[str]:
        """Returns a sentence if the table has no models, or two descriptions."""
        if self.grid and self.rows:
            return ["rows has no effect with grid; give one of them."]
        return [] if self.models else ["rows has no value; name the models of the table, in rows, grid or methods."]

    @property
    def models(self) -> list[str]:
        """The models of the table."""
        if self.grid:
            return [name for names in self.grid.rows.values() for name in names]
        return self.rows or list(self.methods)

    def contrasts(self) -> Iterator[tuple[str, list[Contrast]]]:
        """Yields each claim with what is tested for it."""
        for claim, differences in self.claims.items():
            yield claim, [one.contrast for one in differences]

    def claimed(self) -> set[str]:
        """Returns the models that some claim compares."""
        return {name for _, several in self.contrasts() for one in several for name in (*one.plus, *one.minus)}


def study_problems(experiments: Mapping[str, Experiment], baselines: Sequence[str]) -> list[str]:
    """Returns a sentence for each model that two experiments have, or that one names and that there is not.

    Args:
        experiments: of the study's config.
        baselines: names of the models without a teacher.
    """
    owners: dict[str, str] = {}
    problems = [
        f"experiments.{key}.methods.{name}: experiments.{owner} has a model of this name; take another."
        for key, experiment in experiments.items()
        for name in experiment.methods
        if (owner := owners.setdefault(name, key)) != key
    ]
    known = {TEACHER, *baselines, *owners}
    for key, experiment in experiments.items():
        over = (name for name in (*experiment.over, *experiment.over.values()) if name is not None)
        named = {*experiment.models, *experiment.claimed(), *over}
        problems += [f"experiments.{key} names the model '{name}', which there is not." for name in named - known]
    return problems


def study_models(experiments: Mapping[str, Experiment]) -> dict[str, list[str]]:
    """Returns the overrides of each model of the experiments, by its name."""
    return {name: own for experiment in experiments.values() for name, own in experiment.methods.items()}


def unclaimed_models(experiments: Mapping[str, Experiment], names: Iterable[str]) -> list[str]:
    """Returns those of the models that no claim compares."""
    claimed = {name for experiment in experiments.values() for name in experiment.claimed()}
    return [name for name in names if name not in claimed]
