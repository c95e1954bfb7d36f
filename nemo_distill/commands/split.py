"""Splits parallel text into training, validation and test sets that share no sentence."""

import re

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import check_output, checked, plain_errors, warn
from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_config, section
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.storage.files import UserPath
from nemo_distill.text.files import InputFiles, PairFiles, as_list, copies, input_files, not_parallel
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.pair_files import field_problems
from nemo_distill.text.splitting import TRAIN, Split, write_split

NAME = r"^[\w-]+$"


@section
class SplittingConfig:
    """The configuration of `split`."""

    source: InputFiles | None = None
    """The source text: a file or a list of files, plain or packed. `part.*` stands for all such files."""
    target: InputFiles | None = None
    """The target files, parallel to the source files."""
    pairs: PairFiles | None = None
    """In the place of source and target: files that hold both. These are TMX, zip archives of OPUS (Moses format),
    Parquet, JSON lines, or tables separated by tabs or, if their names have `.csv`, by commas."""
    fields: list[str | int] | None = None
    """Where source and target are in `pairs`: languages of a TMX, endings of the files in an archive, keys of JSON or
    Parquet such as `translation.de`, numbers of columns from 1, or names of columns in the first row."""
    output: UserPath = Field(kw_only=True)
    """The folder, which gets `train.src`, `train.tgt`, two such files for each held-out set, and `split.json`."""
    source_ending: str = Field(default="src", pattern=NAME)
    """The ending of the source files' names."""
    target_ending: str = Field(default="tgt", pattern=NAME)
    """The ending of the target files' names."""
    overwrite: bool = False
    """Replace a split with other settings."""
    seed: int = 0
    """Random seed for the selection of the held-out pairs."""
    held_out: dict[str, int] = Field(default_factory=lambda: {"val": 2000, "test": 2000})
    """The number of pairs in each held-out set, by its name."""
    unseen: InputFiles | None = None
    """Files in either language, such as public test sets. No pair has one of their lines."""
    max_words: int | None = Field(default=None, ge=1)
    """Words on each side; null: any number. In text without spaces, two characters count as a word."""
    duplicates: bool = True
    """Leave out pairs that repeat an earlier one."""
    reading: LinePolicy = Field(default_factory=LinePolicy)
    """How to treat invalid lines. A pair is left out and counted if one of its lines is dropped."""

    def problems(self) -> list[str]:
        """Returns a sentence for each invalid combination of keys."""
        if self.output.is_file():
            return [f"output={self.output}: this is a file; give a folder."]
        problems = [
            f"held_out.{name}={count}: must be a whole number above 0, and the name a word other than '{TRAIN}'."
            for name, count in self.held_out.items()
            if count < 1 or not re.match(NAME, name) or name == TRAIN
        ]
        if self.source_ending == self.target_ending:
            problems.append(f"source_ending={self.source_ending}: the target has the same; give two.")
        read = input_files([*as_list(self.source), *as_list(self.target), *as_list(self.pairs), *as_list(self.unseen)])
        split = self.split()
        try:
            replaced = {path.resolve() for path in split.replaced()}
        except DataError as error:
            return [*problems, f"output: {error}."]
        written = {path.resolve() for path in split.texts}
        problems += [
            f"output={self.output} would {'overwrite' if path.resolve() in written else 'delete'} '{path}'."
            for path in read
            if path.resolve() in written | replaced
        ]
        return [*problems, *self._text_problems()]

    def _text_problems(self) -> list[str]:
        if self.pairs is None:
            problems = [
                f"{key} has no value; give it, or pairs." for key in ("source", "target") if not getattr(self, key)
            ]
            if self.fields is not None:
                problems.append(f"fields={self.fields}: is only for pairs; source and target have no fields.")
            return problems or not_parallel(input_files(self.source), input_files(self.target))
        if self.source or self.target:
            return ["pairs holds both sides; leave out source and target, or pairs."]
        if len(fields := self._fields()) != 2:
            return [f"fields={self.fields}: must be two, of source and target, such as [de,en] or [1,2]."]
        if fields[0] == fields[1]:
            return [f"fields={self.fields}: source and target are the same, so a model would learn to copy; give two."]
        return [f"pairs {problem}." for path in input_files(self.pairs) for problem in field_problems(path, fields)]

    def _fields(self) -> list[str]:
        return list(map(str, self.fields or []))

    def split(self) -> Split:
        """Returns the split."""
        return Split(
            input_files(self.pairs or self.source),
            input_files(self.target),
            self.output,
            (self.source_ending, self.target_ending),
            self.held_out,
            self.reading,
            input_files(self.unseen),
            self.max_words,
            self.duplicates,
            self.seed,
            self._fields(),
        )


def check_split(cfg: DictConfig) -> Split:
    """Returns the split of a configuration, after checking that its folder has no other files of its names.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(SplittingConfig, cfg)
    split = config.split()
    check_output(split.work, split.texts, config.overwrite, "split", "folder")
    return split


def split_corpus(split: Split, overwrite: bool) -> None:
    """Writes a split and prints its counts."""
    with shown_progress("splitting", 1.0) as on_progress:
        record = write_split(split, overwrite, lambda line, lines: on_progress(line / lines, 1))
    pairs = {" and ".join(path.name for path in split.paths(name)): count for name, count in record["pairs"].items()}
    left_out = {f"left out: {reason}": count for reason, count in record["left_out"].items()}
    print_counts(str(split.output), pairs | left_out, sum([*pairs.values(), *left_out.values()]))


def main(cfg: DictConfig) -> None:
    split = checked(cfg, check_split)
    warn(copies("source", split.sources, split.targets))
    with plain_errors():
        split_corpus(split, cfg.overwrite)
