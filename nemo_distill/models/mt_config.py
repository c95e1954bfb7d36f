"""What a translation job's configuration must satisfy, told before NeMo is imported.

The entry points are `check_training`, for a model trained on its own, and `check_distillation_job`. Both raise one
`ConfigurationError` with everything that they found.
"""

import itertools
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.core.config import (
    ConfigurationError,
    LossTerm,
    build_loss_terms,
    check_distillation,
    check_missing,
    check_trainer,
)
from nemo_distill.core.nemo_archive import ARTIFACT_PREFIX, NemoArchive
from nemo_distill.models.known_keys import unknown_keys
from nemo_distill.models.tokenizer_files import Vocabulary, read_vocabulary, tokenizer_library, vocabulary_differences

REGISTERED_TENSORS = ("log_probs", "encoder_hidden_states", "decoder_hidden_states")
# Of the study's config; the rest of a `distillation` section is the core's.
STUDY_KEYS = ("distillation_loss_weight", "cosine_loss_weight", "distill_encoder", "distilbert_initialization")
SIDES = ("encoder", "decoder")
DATA_SECTIONS = ("train_ds", "validation_ds", "test_ds")
MT_TARGET = "MTEncDecModel"
# Larger files are not read through just to compare line counts.
LINE_COUNT_LIMIT = 1 << 30
SAMPLED_LINES = 1000
ATTACHED_STOP = re.compile(r"\w[.!?]$")


def distillation_losses(distillation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The loss nodes of the study's config: with `distill_encoder`, `cosine` also compares the encoders' states."""
    nodes = dict(distillation.get("loss") or {})
    if distillation.get("distill_encoder") and "cosine" in nodes:
        nodes["cosine_encoder"] = {**nodes["cosine"], "hidden_states": "encoder_hidden_states"}
    return nodes


def pairing_problems(student: Mapping[str, Vocabulary], teacher: Mapping[str, Vocabulary]) -> list[str]:
    """What keeps a student from learning from a teacher token by token; vocabularies are keyed by side."""
    return [problem for side in SIDES for problem in vocabulary_differences(side, student[side], teacher[side])]


def width_problems(terms: Sequence[LossTerm], student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str]:
    """Refuses losses that compare hidden states of different widths; student and teacher are model configs."""
    problems = []
    for term in terms:
        for name in term.loss.consumes.values():
            side = name.partition("_")[0]
            if side not in SIDES or not getattr(term.loss, "needs_equal_widths", False):
                continue
            widths = student[side]["hidden_size"], teacher[side]["hidden_size"]
            if widths[0] != widths[1]:
                problems.append(
                    f"distillation.loss.{term.name} compares hidden states of the {side}, which has hidden_size="
                    f"{widths[0]} in the student and {widths[1]} in the teacher; use equal widths, or weight 0."
                )
    return problems


def check_training(cfg: DictConfig) -> list[str]:
    """Checks the config of a model that is trained on its own, and returns what may be meant but is odd.

    Raises:
        ConfigurationError: with every problem found.
    """
    _raise(_job_problems(cfg))
    return _oddities(_plain(cfg.model))


def check_distillation_job(cfg: DictConfig) -> list[str]:
    """Checks the config of a distillation, including that its teacher and student can be paired, and returns oddities.

    Raises:
        ConfigurationError: with every problem found.
    """
    model = _plain(cfg.model)
    distillation = model.get("distillation") or {}
    problems = _job_problems(cfg, tokenizers_required=False)
    if not isinstance(distillation, dict) or not distillation:
        _raise([*problems, "model.distillation is missing; model.distillation.model_path names the teacher's .nemo."])
    nodes = {**distillation, "loss": distillation_losses(distillation)}
    problems += [f"model.{problem}" for problem in check_distillation(nodes, REGISTERED_TENSORS, STUDY_KEYS)]
    if distillation.get("distilbert_initialization"):
        problems.append("model.distillation.distilbert_initialization=true is not available yet; only false is.")
    if distillation.get("model_path", "???") != "???":
        problems += _teacher_problems(model, nodes)
    _raise(problems)
    return _oddities(model)


def take_tokenizers_from_teacher(model: DictConfig, folder: str | Path) -> None:
    """Fills in the tokenizers that a student's config leaves open, by copies of the teacher's files in `folder`."""
    archive = NemoArchive(model.distillation.model_path)
    for side in SIDES:
        tokenizer = model[f"{side}_tokenizer"]
        if tokenizer.get("tokenizer_model"):
            continue
        taken = OmegaConf.to_container(archive.config[f"{side}_tokenizer"])
        if taken.get("tokenizer_model"):
            path = archive.extract_artifact(taken["tokenizer_model"], folder)
            taken |= {"tokenizer_model": str(path), "library": tokenizer_library(path)}
        with open_dict(model):
            model[f"{side}_tokenizer"] = taken


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(problems)


def _plain(node: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=False)


def _job_problems(cfg: DictConfig, tokenizers_required: bool = True) -> list[str]:
    model = _plain(cfg.model)
    sections = _plain(cfg)
    problems = check_missing(cfg) + unknown_keys(sections) + check_trainer(sections.get("trainer") or {})
    for section in DATA_SECTIONS:
        problems += _data_problems(f"model.{section}", model.get(section) or {})
    if cfg.get("do_training", True) and not model.get("train_ds"):
        problems.append("model.train_ds is missing, and do_training=true needs it.")
    if cfg.get("do_testing", False) and not model.get("test_ds"):
        problems.append("model.test_ds is missing, and do_testing=true needs it.")
    for side in SIDES:
        problems += _tokenizer_problems(side, model, tokenizers_required and not model.get("preproc_out_dir"))
    return problems + _size_problems(model)


def _size_problems(model: Mapping[str, Any]) -> list[str]:
    problems = []
    sizes = {side: model[side].get("hidden_size") for side in SIDES if isinstance(model.get(side), dict)}
    for side, hidden_size in sizes.items():
        heads = model[side].get("num_attention_heads")
        if hidden_size and heads and hidden_size % heads:
            problems.append(
                f"model.{side}.hidden_size={hidden_size} is not a multiple of num_attention_heads={heads}."
            )
    if len(set(sizes.values())) > 1:
        problems.append(f"model.encoder and model.decoder differ in hidden_size: {sizes}; NeMo needs them equal.")
    return problems


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _data_problems(where: str, section: Mapping[str, Any]) -> list[str]:
    """Problems of one data section's files; values still missing are told elsewhere."""
    if section.get("use_tarred_dataset"):
        files = [path for path in _as_list(section.get("metadata_file")) if path != "???"]
        return [f"{where}.metadata_file names '{path}', which does not exist." for path in files if not _exists(path)]
    sources, targets = _as_list(section.get("src_file_name")), _as_list(section.get("tgt_file_name"))
    if "???" in sources + targets:
        return []
    problems = []
    if section and not sources:
        problems.append(f"{where}.src_file_name has no value; give it, or leave the section out with '~{where}'.")
    if len(sources) != len(targets):
        problems.append(f"{where} has {len(sources)} source files and {len(targets)} target files; they go in pairs.")
    names = section.get("names")
    if names and (len(names) != len(sources) or len(set(names)) != len(names)):
        problems.append(f"{where}.names has {names}; {len(sources)} different names are needed, one a file.")
    for key, paths in (("src_file_name", sources), ("tgt_file_name", targets)):
        problems += [f"{where}.{key} names '{path}', which does not exist." for path in paths if not _exists(path)]
    for source, target in zip(sources, targets):
        problems += _line_count_problems(where, source, target)
    return problems


def _oddities(model: Mapping[str, Any]) -> list[str]:
    """Text that NeMo's processors would have changed: translation changes it, so that training must have seen that."""
    oddities = []
    section = model.get("train_ds") or {}
    for side, language in (("src", "src_language"), ("tgt", "tgt_language")):
        files = _as_list(section.get(f"{side}_file_name"))
        if model.get(language) == "ignore" or section.get("use_tarred_dataset") or not files:
            continue
        with Path(files[0]).expanduser().open(encoding="utf-8", errors="replace") as stream:
            ends = [line.rstrip() for line in itertools.islice(stream, SAMPLED_LINES)]
        attached = sum(bool(ATTACHED_STOP.search(line)) for line in ends)
        if attached > len(ends) / 2:
            oddities.append(
                f"model.train_ds.{side}_file_name: '{files[0]}' seems to be raw text, but with model.{language}="
                f"{model[language]} translation splits off punctuation, which the model would then see for the first "
                f"time. Set model.{language}=ignore, or tokenize the text with Moses before training."
            )
    return oddities


def _exists(path: str) -> bool:
    return Path(path).expanduser().is_file()


def _line_count_problems(where: str, source: str, target: str) -> list[str]:
    paths = [Path(source).expanduser(), Path(target).expanduser()]
    if not all(path.is_file() and path.stat().st_size < LINE_COUNT_LIMIT for path in paths):
        return []
    counts = [sum(1 for _ in path.open("rb")) for path in paths]
    if counts[0] != counts[1]:
        return [f"{where}: '{source}' has {counts[0]} lines and '{target}' has {counts[1]}; they must be parallel."]
    return [f"{where}: '{source}' is empty."] if counts[0] == 0 else []


def _tokenizer_problems(side: str, model: Mapping[str, Any], required: bool) -> list[str]:
    where = f"model.{side}_tokenizer.tokenizer_model"
    tokenizer = model.get(f"{side}_tokenizer") or {}
    path = tokenizer.get("tokenizer_model")
    if tokenizer.get("library") not in ("sentencepiece", "yttm", None):
        return []
    if path is None:
        remedy = "give it, or let model.preproc_out_dir train one"
        return [f"{where} has no value; {remedy}."] if required else []
    return [] if _exists(path) else [f"{where} names '{path}', which does not exist."]


def _teacher_problems(model: Mapping[str, Any], distillation: Mapping[str, Any]) -> list[str]:
    try:
        archive = NemoArchive(distillation["model_path"])
        target = str(archive.config.get("target", ""))
        if target.rpartition(".")[2] != MT_TARGET:
            raise ValueError(f"'{archive.path}' holds a '{target}'; only {MT_TARGET} can be distilled here")
        vocabularies = list(_given_vocabularies(model, archive))
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."]
    problems = [problem for pair in vocabularies for problem in vocabulary_differences(*pair)]
    terms, _ = build_loss_terms(distillation["loss"], distillation.get("allowed_targets") or ())
    return problems + [f"model.{problem}" for problem in width_problems(terms, model, archive.config)]


def _given_vocabularies(
    model: Mapping[str, Any], archive: NemoArchive
) -> Iterator[tuple[str, Vocabulary, Vocabulary]]:
    """Yields side, student's and teacher's vocabulary for each tokenizer that the student's config names itself."""
    for side in SIDES:
        path = (model.get(f"{side}_tokenizer") or {}).get("tokenizer_model")
        teacher_artifact = (archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model")
        if not path or not _exists(path) or not str(teacher_artifact or "").startswith(ARTIFACT_PREFIX):
            continue
        with tempfile.TemporaryDirectory() as folder:
            teacher = read_vocabulary(archive.extract_artifact(teacher_artifact, folder))
        yield side, read_vocabulary(Path(path).expanduser()), teacher
