"""The mix of corpora that a distillation trains on, described in its config's section `distillation.mix`.

It is written as text before NeMo reads any, so that NeMo's loaders, and its preprocessing of tarred data, see one
corpus whose every stretch has the proportions.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.text.files import as_list
from nemo_distill.text.mix_section import MixSection
from nemo_distill.text.mixing import Corpus, Mix, write_mix

REAL = "real"  # the corpus that takes its files from train_ds
MISSING = "???"


def training_mix_problems(model: Mapping[str, Any], mix: MixSection) -> list[str]:
    """Returns what is wrong with `distillation.mix`, a sentence each; missing values are told elsewhere.

    Args:
        model: the model's config, resolved.
        mix: its section `distillation.mix`.
    """
    train = model.get("train_ds")
    if not mix.corpora or not train or MISSING in str(_section(model)):
        return []
    if train.get("metadata_file"):
        return [
            "model.distillation.mix mixes text, but model.train_ds.metadata_file names tarred data: name text, of "
            "which model.preproc_out_dir makes tarred data once it is mixed, or sample from several tarred sets by "
            "model.train_ds.concat_sampling_probabilities."
        ]
    return [f"model.distillation.mix.{problem}" for problem in with_real_files(mix, train).missing()]


def mixed_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the files that `distillation.mix` is made of; none where nothing is mixed."""
    return [path for corpus in _mixed_corpora(model) for path in (*corpus.sources, *corpus.targets)]


def mixed_how(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what decides which pairs of its files `distillation.mix` holds; None where nothing is mixed."""
    if (mix := _mix(model, Path("mixed"))) is None:
        return None
    corpora = {name: {"share": corpus.share, "fraction": corpus.fraction} for name, corpus in mix.corpora.items()}
    return {**mix.settings(), "corpora": corpora}


def training_pairs(model: Mapping[str, Any]) -> list[tuple[Path, Path]]:
    """Returns the files of sources and of targets that are trained on, a mix's or else `train_ds`'; no tarred ones.

    Args:
        model: the model's config, resolved.
    """
    if corpora := _mixed_corpora(model):
        return [pair for corpus in corpora for pair in zip(corpus.sources, corpus.targets)]
    train_ds = model.get("train_ds") or {}
    if train_ds.get("use_tarred_dataset"):
        return []
    return [
        (Path(source).expanduser(), Path(target).expanduser())
        for source, target in zip(as_list(train_ds.get("src_file_name")), as_list(train_ds.get("tgt_file_name")))
    ]


def _mixed_corpora(model: Mapping[str, Any]) -> Collection[Corpus]:
    mix = _mix(model, Path("mixed"))
    return mix.corpora.values() if mix else ()


def mix_training_data(model: DictConfig, folder: str | Path) -> None:
    """Writes the mix of `model.distillation.mix`, if it names corpora, into `folder`, and has `train_ds` read it.

    Raises:
        DataError: if files are not parallel, or a corpus has no usable pair.
    """
    plain = OmegaConf.to_container(model, resolve=True)
    if (mix := _mix(plain, Path(folder) / "mixed")) is None:
        return
    record = write_mix(mix)
    files = {"source": plain["train_ds"]["src_file_name"], "target": plain["train_ds"]["tgt_file_name"]}
    with open_dict(model):
        model.distillation.mix.made = record  # the student's .nemo keeps it
        if REAL in model.distillation.mix.corpora:
            model.distillation.mix.corpora[REAL] = {**files, **plain["distillation"]["mix"]["corpora"][REAL]}
        model.train_ds.src_file_name, model.train_ds.tgt_file_name = (str(mix.path(side)) for side in ("src", "tgt"))
    counts = ", ".join(f"{part['lines']:,} of {name}" for name, part in record["corpora"].items())
    console.info(f"Training on a mix of {record['lines']:,} pairs: {counts}")


def with_real_files(mix: MixSection, train: Mapping[str, Any]) -> MixSection:
    """Returns the mix with `train_ds`'s files in the corpus called `real`, if it names none itself."""
    real = mix.corpora.get(REAL)
    if real is None:
        return mix
    source, target = real.source or train.get("src_file_name"), real.target or train.get("tgt_file_name")
    return replace(mix, corpora={**mix.corpora, REAL: replace(real, source=source, target=target)})


def _section(model: Mapping[str, Any]) -> Any:
    return (model.get("distillation") or {}).get("mix") or {}


def _mix(model: Mapping[str, Any], output: Path) -> Mix | None:
    """The mix of a checked config; None where nothing is mixed."""
    section, _ = read_section(MixSection, _section(model))
    return with_real_files(section, model["train_ds"]).build(output) if section and section.corpora else None
