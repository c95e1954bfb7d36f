"""The mix of corpora for a distillation, described in the config section `distillation.mix`.

It is written to text files before NeMo reads the data, so NeMo's loaders and its preprocessing for tarred data see a
single corpus with the right proportions everywhere.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.checks import MISSING
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.text.files import LINE_COUNT_LIMIT, mix_of, text_pairs
from nemo_distill.text.lines import TextFiles
from nemo_distill.text.mix_section import MixSection
from nemo_distill.text.mixing import Corpus, Mix, write_mix

REAL = "real"  # the corpus that uses the files of train_ds
EVALUATED = ("validation_ds", "test_ds")
Files = tuple[Path, Path]


def training_mix_problems(model: Mapping[str, Any], mix: MixSection) -> list[str]:
    """Returns the problems of `distillation.mix`, one sentence each. Other checks report missing values."""
    train = model.get("train_ds")
    if not mix.corpora or MISSING in str(mix_of(model)):
        return []
    if not train:
        return [
            "model.distillation.mix.corpora are read instead of model.train_ds alone, which is missing; leave them "
            "out with '~model.distillation.mix.corpora'."
        ]
    if train.get("metadata_file"):
        return [
            "model.distillation.mix needs text files, but model.train_ds.metadata_file names tarred data. Name text "
            "files, from which model.preproc_out_dir makes tarred data after mixing, or sample from several tarred "
            "data sets with model.train_ds.concat_sampling_probabilities."
        ]
    mixed, real = with_real_files(mix, train), mix.corpora.get(REAL)
    of_real = mixed.corpora[REAL].problems() if real and (real.source or real.target or real.weights) else []
    problems = _swapped_sides(mix) if train.get("reverse_lang_direction") else []
    problems = problems or mixed.missing() or [f"corpora.{REAL}.{problem}" for problem in of_real]
    return [f"model.distillation.mix.{problem}" for problem in problems]


def _swapped_sides(mix: MixSection) -> list[str]:
    """Returns a sentence for each key that means one side of the mix, and would get the other."""
    swaps = "model.train_ds.reverse_lang_direction=true swaps the sides of the mix"
    harms = {"weighting=loss": "whose weights are then not found"} if mix.weighting == "loss" else {}
    for name, corpus in mix.corpora.items():
        if corpus.tag:
            harms[f"corpora.{name}.tag={corpus.tag}"] = "so that the model would learn to write the tag"
    return [f"{key}: {swaps}, {harm}; swap the files instead." for key, harm in harms.items()]


def mixed_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the input files of `distillation.mix`, or an empty list if nothing is mixed."""
    return [path for corpus in _mixed_corpora(model) for path in (*corpus.sources, *corpus.targets, *corpus.weights)]


def mix_settings(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the settings that decide which pairs `distillation.mix` contains; None if nothing is mixed."""
    if (mix := _mix(model, Path("mixed"))) is None:
        return None
    return {**mix.settings(), "corpora": {name: corpus.settings() for name, corpus in mix.corpora.items()}}


def training_pairs(model: Mapping[str, Any]) -> list[Files]:
    """Returns the source and target files for training, of the mix or of `train_ds`; none of existing tarred data."""
    train_ds = model.get("train_ds") or {}
    if corpora := _mixed_corpora(model):
        pairs = [pair for corpus in corpora for pair in zip(corpus.sources, corpus.targets)]
        return [pair[::-1] for pair in pairs] if train_ds.get("reverse_lang_direction") else pairs
    if train_ds.get("use_tarred_dataset") and train_ds.get("metadata_file"):
        return []
    return text_pairs(train_ds)


def _mixed_corpora(model: Mapping[str, Any]) -> Collection[Corpus]:
    mix = _mix(model, Path("mixed"))
    return mix.corpora.values() if mix else ()


def mix_training_data(model: DictConfig, folder: str | Path) -> None:
    """Writes the mix of `model.distillation.mix` to `folder`, if it names corpora, and sets `train_ds` to its files.

    Raises:
        DataError: if files are not parallel, or a corpus has no usable pair.
    """
    plain = OmegaConf.to_container(model, resolve=True)
    if (mix := _mix(plain, Path(folder) / "mixed")) is None:
        return
    record = write_mix(mix)
    files = {"source": plain["train_ds"]["src_file_name"], "target": plain["train_ds"]["tgt_file_name"]}
    with open_dict(model):
        model.distillation.mix.made = record  # saved in the student's .nemo
        if REAL in model.distillation.mix.corpora:
            model.distillation.mix.corpora[REAL] = {**files, **plain["distillation"]["mix"]["corpora"][REAL]}
        model.train_ds.src_file_name, model.train_ds.tgt_file_name = (str(mix.path(side)) for side in ("src", "tgt"))
    counts = ", ".join(f"{part['lines']:,} of {name}" for name, part in record["corpora"].items())
    console.info(f"Training on a mix of {record['lines']:,} pairs: {counts}")


def with_real_files(mix: MixSection, train: Mapping[str, Any]) -> MixSection:
    """Returns the mix with the files of `train_ds` in the corpus `real`, unless it has its own."""
    real = mix.corpora.get(REAL)
    if real is None:
        return mix
    source, target = real.source or train.get("src_file_name"), real.target or train.get("tgt_file_name")
    return replace(mix, corpora={**mix.corpora, REAL: replace(real, source=source, target=target)})


def _mix(model: Mapping[str, Any], output: Path) -> Mix | None:
    """Returns the mix of a valid config; None if nothing is mixed."""
    section, _ = read_section(MixSection, mix_of(model))
    return with_real_files(section, model["train_ds"]).build(output) if section and section.corpora else None


def evaluation_pairs_in_training(model: Mapping[str, Any]) -> list[str]:
    """Returns warnings about evaluation sets that share pairs with the training data. Large files are not checked.

    Args:
        model: the model's config, resolved. Its files must exist and be parallel.
    """
    evaluated = {name: _read(model.get(name) or {}) for name in EVALUATED}
    wanted = {pair for pairs in evaluated.values() for pair in pairs}
    training = [files for files in training_pairs(model) if all(_is_small(path) for path in files)]
    found = _first_lines(training, wanted) if wanted else {}
    warnings = []
    for name, pairs in evaluated.items():
        if trained := [pair for pair in pairs if pair in found]:
            path, line = min((found[pair] for pair in trained), key=lambda place: place[1])
            warnings.append(
                f"model.{name}: {len(trained)} of its {len(pairs)} pairs are also in the training data, the first in "
                f"line {line} of '{path}'; scores on this set will be too optimistic."
            )
    return warnings


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < LINE_COUNT_LIMIT


def _read(section: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    small = [files for files in text_pairs(section) if all(map(_is_small, files))]
    return [pair for files in small for pair in _pairs(files) if all(pair)]


def _pairs(files: Files) -> zip:
    return zip(*(TextFiles([path]) for path in files))


def _first_lines(
    training: Sequence[Files], wanted: set[tuple[bytes, bytes]]
) -> dict[tuple[bytes, bytes], tuple[Path, int]]:
    found: dict[tuple[bytes, bytes], tuple[Path, int]] = {}
    for files in training:
        for line, pair in enumerate(_pairs(files), start=1):
            if pair in wanted:
                found.setdefault(pair, (files[0], line))
    return found
