"""The mix of corpora that a distillation trains on, described in its config's section `distillation.mix`.

It is written as text before NeMo reads any, so that NeMo's loaders, and its preprocessing of tarred data, see one
corpus whose every stretch has the proportions.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.checks import suggestion
from nemo_distill.console import console
from nemo_distill.text.files import as_list
from nemo_distill.text.mix_section import MIX_KEYS, build_mix
from nemo_distill.text.mixing import Corpus, Mix, write_mix

REAL = "real"  # the corpus that takes its files from train_ds
MISSING = "???"


def training_mix_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with `distillation.mix`, a sentence each; missing values are told elsewhere.

    Args:
        model: the model's config, resolved.
    """
    section, train = _section(model), model.get("train_ds")
    if not isinstance(section, Mapping):
        return [f"model.distillation.mix={section}: must be a section with {', '.join(MIX_KEYS)}."]
    corpora = section.get("corpora") or {}
    if not isinstance(corpora, Mapping):
        return [f"model.distillation.mix.corpora={corpora}: must be a section of corpora by name."]
    if not corpora or not train or MISSING in str(corpora):
        return []
    if train.get("metadata_file"):
        return [
            "model.distillation.mix mixes text, but model.train_ds.metadata_file names tarred data: name text, of "
            "which model.preproc_out_dir makes tarred data once it is mixed, or sample from several tarred sets by "
            "model.train_ds.concat_sampling_probabilities."
        ]
    unknown = [key for key in section if key not in MIX_KEYS]
    problems = [f"model.distillation.mix has the unknown key '{key}'{suggestion(key, MIX_KEYS)}." for key in unknown]
    problems += [f"model.distillation.mix.{key} has no value; give it." for key in MIX_KEYS if key not in section]
    return problems or [f"model.distillation.mix.{problem}" for problem in _build(model, Path("mixed"))[1]]


def mixed_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the files that `distillation.mix` is made of; none where nothing is mixed."""
    return [path for corpus in _mixed_corpora(model) for path in (*corpus.sources, *corpus.targets)]


def mixed_how(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns what decides which pairs of its files `distillation.mix` holds; None where nothing is mixed."""
    if not _corpora(model):
        return None
    mix, _ = _build(model, Path("mixed"))
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
    return _build(model, Path("mixed"))[0].corpora.values() if _corpora(model) else ()


def mix_training_data(model: DictConfig, folder: str | Path) -> None:
    """Writes the mix of `model.distillation.mix`, if it names corpora, into `folder`, and has `train_ds` read it.

    Raises:
        DataError: if files are not parallel, or a corpus has no usable pair.
    """
    plain = OmegaConf.to_container(model, resolve=True)
    if not _corpora(plain):
        return
    mix, _ = _build(plain, Path(folder) / "mixed")
    record = write_mix(mix)
    files = {"source": plain["train_ds"]["src_file_name"], "target": plain["train_ds"]["tgt_file_name"]}
    with open_dict(model):
        model.distillation.mix.made = record  # the student's .nemo keeps it
        if REAL in model.distillation.mix.corpora:
            model.distillation.mix.corpora[REAL] = {**files, **plain["distillation"]["mix"]["corpora"][REAL]}
        model.train_ds.src_file_name, model.train_ds.tgt_file_name = (str(mix.path(side)) for side in ("src", "tgt"))
    counts = ", ".join(f"{part['lines']:,} of {name}" for name, part in record["corpora"].items())
    console.info(f"Training on a mix of {record['lines']:,} pairs: {counts}")


def _section(model: Mapping[str, Any]) -> Any:
    return (model.get("distillation") or {}).get("mix") or {}


def _corpora(model: Mapping[str, Any]) -> Mapping[str, Any]:
    return _section(model).get("corpora") or {}


def _build(model: Mapping[str, Any], output: Path) -> tuple[Mix, list[str]]:
    section, train = model["distillation"]["mix"], model["train_ds"]
    files = {"source": train.get("src_file_name"), "target": train.get("tgt_file_name")}
    corpora = {
        name: {**files, **corpus} if name == REAL and isinstance(corpus, Mapping) else corpus
        for name, corpus in section["corpora"].items()
    }
    return build_mix({**section, "corpora": corpora}, output)
