"""The section of a configuration that describes a mix of corpora."""

from pathlib import Path
from typing import Any

from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.text.files import InputFiles, input_files
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.mixing import Corpus, Mix


@section
class CorpusSection:
    """Parallel text and its place in a mix."""

    share: float = Field(gt=0)
    """Of the mix's lines, relative to the other corpora's."""
    source: InputFiles | None = None
    """A file or several, plain or gzip; `part.*` stands for all such files in the order of their numbers."""
    target: InputFiles | None = None
    """As many files, parallel to the sources."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """How much of the corpus is used at all; the seed chooses the pairs."""

    def problems(self) -> list[str]:
        """Returns a sentence if sources and targets do not go in pairs."""
        sources, targets = (len(input_files(files)) for files in (self.source, self.target))
        if not (self.source and self.target) or sources == targets:
            return []
        return [f"source names {sources} files and target {targets}; they go in pairs."]


@section
class MixSection:
    """What is mixed, and how."""

    corpora: dict[str, CorpusSection] = Field(default_factory=dict)
    """The corpora by name. In a training's mix, the one called `real` is `train_ds` if it names no files."""
    seed: int = 0
    """Of every choice of pairs."""
    lines: int | None = Field(default=None, ge=1)
    """Lines of the mix; null: as many as hold every pair of `base` once."""
    base: str | None = None
    """A corpus; null: the one that the mix holds the fewest times, so that every pair of each is there."""
    reading: LinePolicy = Field(default_factory=LinePolicy)
    """What is done with odd lines. A pair with a line that is left out is left out, and counted."""
    made: dict[str, Any] | None = None
    """Filled in by a training: the record of the mix that it wrote."""

    def problems(self) -> list[str]:
        """Returns a sentence for each rule that several keys break."""
        problems = []
        if self.corpora and self.base is not None and self.base not in self.corpora:
            problems.append(f"base={self.base}: must be null or one of {', '.join(self.corpora)}.")
        if self.base is not None and self.lines is not None:
            problems.append(f"base={self.base} and lines={self.lines} both say how long the mix is; give one.")
        return problems

    def missing(self) -> list[str]:
        """Returns a sentence for each thing without which nothing can be mixed."""
        if not self.corpora:
            return ["corpora names no corpus; give at least one."]
        return [
            f"corpora.{name}.{key} has no value; give it."
            for name, corpus in self.corpora.items()
            for key in ("source", "target")
            if not getattr(corpus, key)
        ]

    def build(self, output: Path) -> Mix:
        """Returns the mix.

        Args:
            output: what the names of the mix's files begin with.
        """
        corpora = {
            name: Corpus(input_files(corpus.source), input_files(corpus.target), corpus.share, corpus.fraction)
            for name, corpus in self.corpora.items()
        }
        return Mix(corpora, output, self.reading, self.seed, self.lines, self.base)
