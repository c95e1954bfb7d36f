"""Prepares the text of a training, if `model.preproc_out_dir` is set: trains its tokenizers and writes tarred data.

The keys are NeMo's. The results have the names that NeMo gives them, and NeMo reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.commands.prepare import SIDES as TEXT_SIDES
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.nemo_files.tokenizer_files import tokenizer_library
from nemo_distill.nemo_files.translation_archive import SIDES
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.batches import BatchSettings, dropped_in_words
from nemo_distill.text.files import as_list, text_paths
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.tarred_data import TarredData, earlier_work, tar_files, write_tarred_data
from nemo_distill.text.token_ids import TokenIds
from nemo_distill.text.tokenizer_training import TokenizerFile, TokenizerJob, TokenizerTraining, train_missing

TRAINABLE = ("sentencepiece", "yttm")
READING = LinePolicy()
# What one tokenizer of both languages has only once.
ONCE = ("library", "vocab_size", "coverage", "training_sample_size", "special_tokens")


def _given(section_class: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of NeMo's keys that a typed section has, and that have a value."""
    return {key: values[key] for key in section_class.__pydantic_fields__ if values.get(key) is not None}


@dataclass(frozen=True)
class TrainingText:
    """The text of a training and what is made of it.

    Args:
        model: the model's config, resolved.
    """

    model: Mapping[str, Any]
    devices: int = 1

    @property
    def train(self) -> Mapping[str, Any]:
        return self.model.get("train_ds") or {}

    @property
    def folder(self) -> Path:
        return user_path(self.model["preproc_out_dir"])

    @property
    def overwrite(self) -> bool:
        return bool(self.model.get("preproc_overwrite"))

    def files(self) -> tuple[list[Path], list[Path]]:
        """Returns the source files and the target files."""
        return text_paths(self.train)

    def trained(self) -> list[str]:
        """Returns the sides whose tokenizer is trained."""
        sections = {side: self.model[f"{side}_tokenizer"] for side in SIDES}
        return [
            side
            for side, section in sections.items()
            if section.get("tokenizer_model") is None and section.get("library", "sentencepiece") in TRAINABLE
        ]

    def problems(self) -> list[str]:
        """Returns a sentence for each problem of the keys of what will be made."""
        if self.folder.exists() and not self.folder.is_dir():
            return [f"model.preproc_out_dir={self.folder}: this is a file; give a folder."]
        if self.model.get("distillation") is not None:  # tokenizers come from the teacher
            return self._data_problems()
        return (self._tokenizer_problems() or self._sharing_problems()) + self._data_problems()

    def _tokenizer_problems(self) -> list[str]:
        problems = []
        for side in self.trained():
            where = f"model.{side}_tokenizer"
            given = _given(TokenizerTraining, self.model[f"{side}_tokenizer"])
            problems += read_section(TokenizerTraining, given, where)[1]
            if "vocab_size" not in given:
                problems.append(f"{where}.vocab_size has no value, which model.preproc_out_dir needs.")
        return problems

    def _sharing_problems(self) -> list[str]:
        if not self.trained() or not self.model.get("shared_tokenizer"):
            return []
        if len(self.trained()) == 1:
            (side,) = self.trained()
            (other,) = set(SIDES) - {side}
            return [
                f"model.{other}_tokenizer.tokenizer_model is given and model.{side}_tokenizer.tokenizer_model is not, "
                "but model.shared_tokenizer=true needs one for both; give both or none."
            ]
        values = [[self.model[f"{side}_tokenizer"].get(key) for side in SIDES] for key in ONCE]
        return [
            f"model.encoder_tokenizer.{key}={encoder} and model.decoder_tokenizer.{key}={decoder}: "
            "model.shared_tokenizer=true trains one tokenizer for both; make them equal, or set it to false."
            for key, (encoder, decoder) in zip(ONCE, values)
            if encoder != decoder
        ]

    def _data_problems(self) -> list[str]:
        if not self._makes_data():
            return []
        problems = read_section(BatchSettings, _given(BatchSettings, self.train), "model.train_ds")[1]
        return problems + [
            f"model.{side}_tokenizer.bpe_dropout={dropout}: tarred data would hold one random split of each word for "
            "all epochs; leave it null."
            for side in SIDES
            if (dropout := self.model[f"{side}_tokenizer"].get("bpe_dropout"))
        ]

    def _makes_data(self) -> bool:
        given = self.train.get("metadata_file") or self.train.get("tar_files")
        return bool(self.train.get("use_tarred_dataset") and not given)

    def conflicts(self) -> list[str]:
        """Returns a sentence for each tokenizer or data in the folder that was made from something else."""
        if self.overwrite:
            return []
        files = list(self.tokenizers().values())
        return earlier_work("model.preproc_out_dir", files, self.data, "model.preproc_overwrite")

    def check_conflicts(self) -> None:
        """Raises a ConfigurationError if there are conflicts."""
        if conflicts := self.conflicts():
            raise ConfigurationError(conflicts)

    def tokenizers(self) -> dict[str, TokenizerFile]:
        """Returns the tokenizer of each side that needs no NeMo."""
        sources, targets = self.files()
        shared, found = self.model.get("shared_tokenizer"), {}
        for side, own in zip(SIDES, (sources, targets)):
            section = self.model[f"{side}_tokenizer"]
            library, r2l = section.get("library", "sentencepiece"), bool(section.get("r2l"))
            if section.get("tokenizer_model") is not None:
                path = user_path(section["tokenizer_model"])
                if library in TRAINABLE and not section.get("sentencepiece_legacy"):
                    found[side] = TokenizerFile(path, tokenizer_library(path), r2l)
            elif library in TRAINABLE:
                name = "shared_tokenizer" if shared else f"tokenizer.{side}"
                model = self.folder / f"{name}.{section['vocab_size']}.BPE.model"
                texts = sources + targets if shared else own
                training = TokenizerTraining(**_given(TokenizerTraining, section))
                job = TokenizerJob(model, texts, training, READING, self._languages())
                found[side] = TokenizerFile(model, library, r2l, job)
        return found

    def _languages(self) -> list[str]:
        """Returns the language tags of a multilingual model, which stand in front of its sources."""
        if not self.model.get("multilingual"):
            return []
        named = [self.model.get(key) for key in ("src_language", "tgt_language")]
        return [f"<{language}>" for languages in named if isinstance(languages, list) for language in languages]

    def data(self) -> list[TarredData]:
        """Returns the tarred data to write, one for each pair of files. The tokenizers must exist."""
        if not self._makes_data():
            return []
        settings = BatchSettings(**_given(BatchSettings, self.train))
        identities = {name: self._identity(side) for name, side in zip(TEXT_SIDES, SIDES)}
        prefix = self.train.get("tar_file_prefix") or "parallel"
        pairs = list(zip(*self.files()))
        return [
            TarredData(self.folder / name, [source], [target], identities, settings, READING, self.devices, prefix)
            for name, (source, target) in zip(self._folder_names(len(pairs)), pairs)
        ]

    def _folder_names(self, count: int) -> list[str]:
        """Returns a folder name for each pair of files; for a multilingual model the languages, as in NeMo."""
        lists = [self.model.get(key) for key in ("src_language", "tgt_language")]
        languages = next((value for value in lists if isinstance(value, list)), [])
        if count == 1:
            return ["."]
        if len(languages) == count:
            return languages
        return [f"part{number}" for number in range(count)]

    def _identity(self, side: str) -> dict[str, Any]:
        if side in (files := self.tokenizers()):
            return files[side].identity()
        section = self.model[f"{side}_tokenizer"]
        paths = [section[key] for key in ("tokenizer_model", "vocab_file") if section.get(key)]
        return {
            "library": section.get("library"),
            "model_name": (self.model.get(side) or {}).get("model_name"),
            "files": [fingerprint(user_path(path))["sha256"][:16] for path in paths],
        }

    def load_tokenizers(self) -> tuple[TokenIds, TokenIds]:
        """Loads both tokenizers, with NeMo only if one of them needs it."""
        files = self.tokenizers()
        if len(files) == len(SIDES):
            return files["encoder"].load(), files["decoder"].load()
        from nemo_distill.nemo_files.nemo_tokenizers import NemoTokenIds, load_nemo_tokenizers  # slow: imports NeMo

        encoder, decoder = map(NemoTokenIds, load_nemo_tokenizers(self.model))
        return encoder, decoder

    def threads(self) -> int:
        """Returns the number of threads, from NeMo's key, where -1 is all processors and -2 all but one."""
        processors = cpu_count()
        jobs = self.train.get("n_preproc_jobs")
        if jobs is None:
            return processors
        return jobs if jobs > 0 else max(1, processors + 1 + jobs)


def training_text_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each problem of the keys of what will be made in `model.preproc_out_dir`."""
    return TrainingText(model).problems() if model.get("preproc_out_dir") else []


def earlier_text_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each tokenizer or data in `model.preproc_out_dir` that was made from something else.

    Of a distillation, whose tokenizers and mix are not there yet, none: `preprocess_data` finds them.

    Args:
        model: the model's config, resolved and without other problems.
    """
    is_found_later = not model.get("preproc_out_dir") or model.get("distillation") is not None
    return [] if is_found_later else TrainingText(model).conflicts()


def preprocess_data(model: DictConfig, devices: int = 1, shown: bool = True) -> None:
    """Trains tokenizers, writes tarred data and puts their paths in `model`, if `model.preproc_out_dir` is set.

    Args:
        shown: whether this process shows its progress.

    Raises:
        DataError: if there are tokenizers or data made from something else, or if no pair is left.
        ConfigurationError: if there are fewer tar files than devices.
    """
    if model.get("preproc_out_dir"):
        text = TrainingText(OmegaConf.to_container(model, resolve=True), devices)
        text.check_conflicts()
        files = text.tokenizers()
        train_missing(list(files.values()), text.overwrite)
        with open_dict(model):
            for side in text.trained():
                model[f"{side}_tokenizer"].tokenizer_model = str(files[side].path)
        text = TrainingText(OmegaConf.to_container(model, resolve=True), devices)
        text.check_conflicts()  # again, because data depends on the tokenizers
        metadata = [_written(data, text, shown) for data in text.data()]
        if metadata:
            with open_dict(model):
                model.train_ds.metadata_file = metadata[0] if len(metadata) == 1 else metadata
    _divide_tar_files(model, devices, shown)


def _written(data: TarredData, text: TrainingText, shown: bool) -> str:
    made = write_tarred_data(data, text.load_tokenizers, text.overwrite, text.threads(), shown)
    if shown:
        dropped = dropped_in_words(made["dropped"])
        console.info(
            f"Tarred data in {data.folder}: {made['pairs']:,} pairs in {made['num_batches']:,} batches and "
            f"{len(made['tar_files']):,} tar files; pairs left out: {dropped or 'none'}"
        )
    return str(data.metadata)


def _divide_tar_files(model: DictConfig, devices: int, shown: bool) -> None:
    """Checks that every device and every process that loads data gets tar files, and tells which ones are not read.

    NeMo waits forever for a process without any, if it samples from several data sets.
    """
    train = OmegaConf.to_container(model, resolve=True).get("train_ds") or {}
    if not train.get("use_tarred_dataset") or train.get("tar_files"):
        return
    replicated, paths = train.get("shard_strategy") == "replicate", as_list(train.get("metadata_file"))
    counts = {path: len(tar_files(user_path(path))) for path in paths}
    for path, count in counts.items() if not replicated else ():
        again = "model.preproc_overwrite=true makes it" if model.get("preproc_out_dir") else "prepare it"
        remedy = f"{again} for devices={devices}, or set model.train_ds.shard_strategy=replicate"
        if count < devices:
            raise ConfigurationError(
                [f"model.train_ds.metadata_file: '{path}' has {count} tar files for {devices} devices; {remedy}."]
            )
        if count % devices and shown:
            console.warning(
                f"Warning: model.train_ds.metadata_file: '{path}' has {count} tar files, which do not divide evenly "
                f"over {devices} devices, so that NeMo does not read {count % devices} of them; {remedy}."
            )
    least = min(counts.values(), default=0) // (1 if replicated else devices)
    if len(counts) > 1 and 0 < least < (workers := train.get("num_workers") or 0):
        with open_dict(model):
            model.train_ds.num_workers = least
        if shown:
            console.info(f"model.train_ds.num_workers={workers}: for so few tar files, {least} is used.")
