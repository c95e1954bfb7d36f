"""The config section for a mix of corpora."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from nemo_distill.config.section import Allowed, section
from nemo_distill.text.files import InputFiles, NumberFiles, input_files
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.mixing import Corpus, Mix


@section
class CorpusSection:
    """A parallel corpus in a mix."""

    share: float = Field(gt=0)
    """Share of the lines in the mix, relative to the other corpora."""
    source: InputFiles | None = None
    """A file or a list of files, plain or packed. `part.*` stands for all such files in numeric order."""
    target: InputFiles | None = None
    """The target files, parallel to the source files."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the corpus to use; the seed selects the pairs."""
    weights: NumberFiles | None = None
    """For each source file a file with a number per line, such as `pseudo.weights`; see `weighting`. null: equal
    weights."""
    tag: Annotated[Annotated[str, Field(pattern=r"^\S+$")] | None, Allowed("null, or a word without spaces")] = None
    """A word in front of each source line, such as `<BT>` for back-translations (Caswell et al. 2019)."""

    def problems(self) -> list[str]:
        """Returns a sentence if the numbers of source, target and weight files differ."""
        sources, targets, weights = (len(input_files(files)) for files in (self.source, self.target, self.weights))
        problems = []
        if self.source and self.target and sources != targets:
            problems.append(f"source names {sources} files and target {targets}; the numbers must be equal.")
        if self.source and self.weights and sources != weights:
            problems.append(f"source names {sources} files and weights {weights}; the numbers must be equal.")
        return problems


@section
class MixSection:
    """A mix of corpora."""

    corpora: dict[str, CorpusSection] = Field(default_factory=dict)
    """The corpora by name. In a training's mix, the corpus `real` uses the files of `train_ds` if it has none."""
    seed: int = 0
    """Random seed for the selection of pairs."""
    lines: int | None = Field(default=None, ge=1)
    """Number of lines in the mix; null: enough to contain every pair of `base` once."""
    base: str | None = None
    """A corpus name; null: the corpus that is repeated least, so that the mix contains every pair of each corpus."""
    weighting: Literal["pairs", "loss"] = "pairs"
    """What the `weights` of corpora do. `pairs`: pairs occur in proportion to them. `loss`: pairs occur equally often,
    and the losses of a pair's tokens are multiplied by its weight, divided by the mean weight of the corpus."""
    reading: LinePolicy = Field(default_factory=LinePolicy)
    """How to treat invalid lines. A pair is dropped and counted if one of its lines is dropped."""
    made: dict[str, Any] | None = None
    """The record of the mix, filled in by the training that writes it."""

    def problems(self) -> list[str]:
        """Returns a sentence for each invalid combination of keys."""
        problems = []
        if self.corpora and self.base is not None and self.base not in self.corpora:
            problems.append(f"base={self.base}: must be null or one of {', '.join(map(str, self.corpora))}.")
        if self.base is not None and self.lines is not None:
            problems.append(f"base={self.base} and lines={self.lines} both set the length of the mix; use only one.")
        if self.weighting == "loss" and not any(corpus.weights for corpus in self.corpora.values()):
            problems.append("weighting=loss has no effect, because none of the corpora has weights.")
        return problems

    def missing(self) -> list[str]:
        """Returns a sentence for each required value that is missing."""
        if not self.corpora:
            return ["corpora is empty; add at least one corpus."]
        return [
            f"corpora.{name}.{key} has no value; give it."
            for name, corpus in self.corpora.items()
            for key in ("source", "target")
            if not getattr(corpus, key)
        ]

    def build(self, output: Path) -> Mix:
        """Returns the mix."""
        corpora = {
            name: Corpus(
                input_files(corpus.source),
                input_files(corpus.target),
                corpus.share,
                corpus.fraction,
                input_files(corpus.weights),
                corpus.tag or "",
            )
            for name, corpus in self.corpora.items()
        }
        return Mix(corpora, output, self.reading, self.seed, self.lines, self.base, self.weighting)
