"""Trains tokenizers and writes tarred data, before a training."""

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import checked, plain_errors, warn
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.overrides import typed
from nemo_distill.config.section import changed, read_config, section
from nemo_distill.config.wording import shown
from nemo_distill.console import print_table
from nemo_distill.nemo_files.tokenizer_files import tokenizer_file_problems, tokenizer_library
from nemo_distill.storage.files import UserPath, user_path
from nemo_distill.text.batches import BatchSettings, PairLimits
from nemo_distill.text.files import InputFiles, copies, input_files, not_parallel
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.tarred_data import TarredData, earlier_work, write_tarred_data
from nemo_distill.text.token_ids import MissingPackageError, import_youtokentome
from nemo_distill.text.tokenizer_training import TokenizerFile, TokenizerJob, TokenizerTraining, train_missing

SIDES = ("source", "target")


@section
class TokenizerConfig(TokenizerTraining):
    """A tokenizer, which is trained if `tokenizer_model` is null."""

    tokenizer_model: str | None = None
    """A tokenizer that exists already."""
    r2l: bool = False
    """Ids from right to left; only for youtokentome."""

    def problems(self) -> list[str]:
        """Returns a sentence for each invalid combination of keys."""
        keys = "vocab_size", "training_sample_size", "coverage", "special_tokens"
        unused = [
            f"{key}={value}: has no effect with tokenizer_model={self.tokenizer_model}, which is there."
            for key, value in (changed(self, *keys) if self.tokenizer_model else {}).items()
        ]
        return [*super().problems(), *tokenizer_problems(self.tokenizer_model, self.library, self.r2l), *unused]

    def file(self, beginning: Path, texts: Sequence[Path], policy: LinePolicy) -> TokenizerFile:
        """Returns the tokenizer that is there, or the one that is trained into a file whose path begins like this."""
        if self.tokenizer_model:
            path = user_path(self.tokenizer_model)
            return TokenizerFile(path, tokenizer_library(path), self.r2l)
        model = beginning.with_name(f"{beginning.name}.{self.vocab_size}.BPE.model")  # NeMo's name
        return TokenizerFile(model, self.library, self.r2l, TokenizerJob(model, texts, self, policy))


def tokenizer_problems(path: str | None, library: str, r2l: bool = False, legacy: bool = False) -> list[str]:
    """Returns sentences, beginning with a key of a tokenizer's section, about what does not go with its library.

    Args:
        r2l: whether it gives ids from right to left.
        legacy: whether NeMo adds special tokens that a sentencepiece model lacks.
    """
    problems = tokenizer_file_problems("tokenizer_model", path, legacy) if path else []
    if path and not problems:
        library = tokenizer_library(user_path(path))
    if library == "yttm" and not path:
        try:
            import_youtokentome("library=yttm")
        except MissingPackageError as error:
            problems.append(f"{error}.")
    if r2l and library != "yttm":
        problems.append("r2l=true: only youtokentome tokenizers can do this; set r2l=false or library=yttm.")
    return problems


@section
class PreparationConfig(BatchSettings):
    """The configuration of `prepare`."""

    source: InputFiles = Field(kw_only=True)
    """The source text: a file or a list of files, plain or packed. `part.*` stands for all such files."""
    target: InputFiles = Field(kw_only=True)
    """The target files, parallel to the source files."""
    output: UserPath = Field(kw_only=True)
    """The folder for tokenizers and data."""
    overwrite: bool = False
    """Replace tokenizers and data that were made from other text or with other settings."""
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    """The tokenizer of both languages, or of the source if the target has its own."""
    target_tokenizer: TokenizerConfig | None = None
    """The tokenizer of the target; null: one tokenizer for both languages."""
    tarred: bool = True
    """Write tarred data; false: only train tokenizers."""
    tar_file_prefix: str = Field(default="parallel", pattern=r"^[^/\s]+$")
    """The beginning of the tar files' names."""
    devices: int = Field(default=1, ge=1)
    """The number of tar files is a multiple of this, so that so many devices get the same number."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that turn text into ids; null: one for each processor."""
    reading: LinePolicy = Field(default_factory=LinePolicy)
    """How to treat invalid lines. A pair is dropped and counted if one of its lines is dropped."""

    def problems(self) -> list[str]:
        """Returns a sentence for each invalid combination of keys."""
        if self.output.is_file():
            return [f"output={self.output}: this is a file; give a folder."]
        problems = not_parallel(*self.texts())
        for key, tokenizer in (("tokenizer", self.tokenizer), ("target_tokenizer", self.target_tokenizer)):
            if tokenizer and not tokenizer.tokenizer_model and tokenizer.vocab_size is None:
                problems.append(f"{key}.vocab_size has no value; give it, or {key}.tokenizer_model.")
        return problems + self._unused()

    def _unused(self) -> list[str]:
        """Returns a sentence for each key of tarred data, or of limits, that has no effect."""
        if self.tarred and self.clean:
            return []
        cause = "clean=false" if self.tarred else "tarred=false"
        unused = {field.name for field in fields(PairLimits if self.tarred else BatchSettings)} - {"clean"}
        unused |= set() if self.tarred else {"clean", "devices", "threads", "tar_file_prefix"}
        return [
            f"{key}={shown(value)}: has no effect with {cause}; leave it out."
            for key, value in changed(self, *(field.name for field in fields(self) if field.name in unused)).items()
        ]

    def texts(self) -> tuple[list[Path], list[Path]]:
        """Returns the source files and the target files."""
        return input_files(self.source), input_files(self.target)

    def tokenizers(self) -> tuple[TokenizerFile, TokenizerFile]:
        """Returns the tokenizers of source and target."""
        sources, targets = self.texts()
        if self.target_tokenizer is None:
            shared = self.tokenizer.file(self.output / "shared_tokenizer", [*sources, *targets], self.reading)
            return shared, shared
        encoder = self.tokenizer.file(self.output / "tokenizer.encoder", sources, self.reading)
        return encoder, self.target_tokenizer.file(self.output / "tokenizer.decoder", targets, self.reading)

    def data(self) -> list[TarredData]:
        """Returns the data to write. The tokenizers must exist."""
        if not self.tarred:
            return []
        identities = {side: file.identity() for side, file in zip(SIDES, self.tokenizers())}
        settings = BatchSettings(**{field.name: getattr(self, field.name) for field in fields(BatchSettings)})
        return [
            TarredData(
                self.output, *self.texts(), identities, settings, self.reading, self.devices, self.tar_file_prefix
            )
        ]


def check_preparation(cfg: DictConfig) -> PreparationConfig:
    """Returns the configuration, after checking that its folder has no tokenizers or data with other settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(PreparationConfig, cfg)
    _check_earlier(config)
    return config


def _check_earlier(config: PreparationConfig) -> None:
    if not config.overwrite and (problems := earlier_work("output", config.tokenizers(), config.data, "overwrite")):
        raise ConfigurationError(problems)


def prepare(config: PreparationConfig) -> None:
    """Writes tokenizers and data, and prints what was written."""
    began = time.monotonic()
    source, target = config.tokenizers()
    records = train_missing((source, target), config.overwrite)
    _check_earlier(config)  # again, because the data could not be compared before the tokenizers were there
    rows = {f"tokenizer {path.name}": f"{record['pieces']:,} pieces" for path, record in records.items()}
    for data in config.data():
        made = write_tarred_data(data, lambda: (source.load(), target.load()), config.overwrite, config.threads)
        rows |= _data_rows(made)
    rows["seconds"] = f"{time.monotonic() - began:,.1f}"
    print(f"{config.output}:")
    print_table(("what", "how much"), list(rows.items()))
    for line in _training_keys(config):
        print(line)


def _data_rows(made: dict[str, Any]) -> dict[str, str]:
    """Returns the rows of a table about tarred data, from its metadata."""
    pairs, repeated = made["pairs"] + sum(made["dropped"].values()), made["repeated_batches"]
    return {
        "pairs read": f"{pairs:,}",
        **{f"dropped: {reason.replace('_', ' ')}": f"{count:,}" for reason, count in made["dropped"].items()},
        "pairs to train on": f"{made['pairs']:,}",
        "batches": f"{made['num_batches']:,}",
        **({"batches that are there twice": f"{repeated:,}"} if repeated else {}),
        "tokens": f"{made['tokens']:,}",
        "padding": f"{made['padding']:.1%}",
        "tar files": f"{len(made['tar_files']):,}",
    }


def _training_keys(config: PreparationConfig) -> list[str]:
    """Returns the keys by which a training uses what was written."""
    keys = [
        typed(f"model.{side}_tokenizer.tokenizer_model", file.path)
        for side, file in zip(("encoder", "decoder"), config.tokenizers())
    ]
    for data in config.data():
        keys += ["model.train_ds.use_tarred_dataset=true", typed("model.train_ds.metadata_file", data.metadata)]
    return ["To train on it:", *(f"  {key}" for key in keys)]


def main(cfg: DictConfig) -> None:
    config = checked(cfg, check_preparation)
    warn(copies("source", *config.texts()))
    with plain_errors(goes_on=True):
        prepare(config)
