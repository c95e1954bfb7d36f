"""What a translation job's configuration must satisfy, told before NeMo is imported.

The entry points are `check_training`, for a model trained on its own, and `check_distillation_job`. Both raise one
`ConfigurationError` with everything that they found.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.core.config import (
    ConfigurationError,
    Widths,
    check_distillation,
    check_missing,
    check_trainer,
)
from nemo_distill.core.nemo_archive import ARTIFACT_PREFIX, NemoArchive
from nemo_distill.core.teacher_ensemble import teacher_paths, teacher_weights
from nemo_distill.core.typed_section import build_section
from nemo_distill.data.overlap import evaluation_pairs_in_training
from nemo_distill.data.source_noise import SourceNoise
from nemo_distill.data.text_files import data_problems, is_file, untokenized_text
from nemo_distill.data.training_mix import training_mix_problems
from nemo_distill.models.cache_config import cache_problems
from nemo_distill.models.initialization import SAME_IN_A_STACK, initialization_problems
from nemo_distill.models.known_keys import unknown_keys
from nemo_distill.models.known_values import wrong_values
from nemo_distill.models.shared_encoder import shared_encoder_problems
from nemo_distill.models.tokenizer_files import Vocabulary, read_vocabulary, tokenizer_library, vocabulary_differences
from nemo_distill.teacher_cache.cache import cached_teacher_path

REGISTERED_TENSORS = (
    "log_probs",
    "projection",
    "nll",
    *(f"{side}_{what}" for side in ("encoder", "decoder") for what in ("hidden_states", "layers", "self_attention")),
    "decoder_cross_attention",
)
SOURCE_TENSORS = tuple(name for name in REGISTERED_TENSORS if name.startswith("encoder") or "cross" in name)
# Of the study's config; the rest of a `distillation` section is the core's.
STUDY_KEYS = (
    "distillation_loss_weight",
    "cosine_loss_weight",
    "distill_encoder",
    "distilbert_initialization",
    "initialization",
    "same_size_as_teacher",
    "share_encoder",
    "mix",
    "noise",
)
SEARCHES = ("nemo_distill", "nemo")  # that validation translates with
SIDES = ("encoder", "decoder")
DATA_SECTIONS = ("train_ds", "validation_ds", "test_ds")
SECTIONS = (*SIDES, *DATA_SECTIONS, *(f"{side}_tokenizer" for side in SIDES), "head", "optim")
MT_TARGET = "MTEncDecModel"


def distillation_losses(distillation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The loss nodes of the study's config: with `distill_encoder`, `cosine` also compares the encoders' states."""
    nodes = distillation.get("loss") or {}
    if not isinstance(nodes, Mapping):  # told by the core's check
        return nodes
    nodes = dict(nodes)
    if distillation.get("distill_encoder") and isinstance(nodes.get("cosine"), Mapping):
        states = nodes["cosine"].get("hidden_states", "decoder_hidden_states")
        nodes["cosine_encoder"] = {**nodes["cosine"], "hidden_states": states.replace("decoder", "encoder")}
    return nodes


def pairing_problems(student: Mapping[str, Vocabulary], teacher: Mapping[str, Vocabulary]) -> list[str]:
    """What keeps a student from learning from a teacher token by token; vocabularies are keyed by side."""
    return [problem for side in SIDES for problem in vocabulary_differences(side, student[side], teacher[side])]


def registered_widths(model: Mapping[str, Any]) -> Widths:
    """The widths of the hidden states and the heads of the attention maps that a model of this config registers."""
    widths: dict[str, list[int]] = {}
    for side in SIDES:
        sizes = [model[side].get(key) for key in ("hidden_size", "num_layers", "num_attention_heads")]
        if None in sizes:  # a pretrained encoder, which does not say
            return {}
        width, layers, heads = sizes
        widths |= {
            f"{side}_hidden_states": [width],
            f"{side}_layers": [width] * (layers + 1),
            f"{side}_self_attention": [heads] * layers,
        }
    return widths | {"decoder_cross_attention": widths["decoder_self_attention"]}


def check_training(cfg: DictConfig) -> list[str]:
    """Checks the config of a model that is trained on its own, and returns what may be meant but is odd.

    Raises:
        ConfigurationError: with every problem found.
    """
    _raise(_replaced_sections(cfg))
    _raise(_job_problems(cfg))
    return _oddities(_plain(cfg.model))


def check_distillation_job(cfg: DictConfig) -> list[str]:
    """Checks the config of a distillation, including that its teacher and student can be paired, and returns oddities.

    Raises:
        ConfigurationError: with every problem found.
    """
    _raise(_replaced_sections(cfg))
    model = _plain(cfg.model)
    distillation = model.get("distillation") or {}
    problems = _job_problems(cfg, tokenizers_required=False)
    if not isinstance(distillation, dict) or not distillation:
        _raise([*problems, "model.distillation is missing; model.distillation.model_path names the teacher's .nemo."])
    teacher_problems, widths = cache_problems(model) if distillation.get("teacher_cache") else [], None
    if not teacher_problems and (archives := _teacher_archives(distillation)):
        teacher_problems, widths = _check_teachers(model, distillation, archives)
    elif not distillation.get("teacher_cache"):
        given = distillation.get("model_path")
        said = "has no value" if given in (None, "???", []) else f"={given}: must be a path or a list of paths"
        problems.append(f"model.distillation.model_path {said}; it names the teacher's .nemo.".replace(" =", "="))
    nodes = {**distillation, "loss": distillation_losses(distillation)}
    problems += [f"model.{problem}" for problem in check_distillation(nodes, REGISTERED_TENSORS, STUDY_KEYS, widths)]
    problems += training_mix_problems(model) + _noise_problems(distillation)
    _raise(problems + teacher_problems)
    return _oddities(model | _languages_left_to(_teacher_archives(distillation)[0], model))


def complete_student(model: DictConfig, folder: str | Path) -> None:
    """Fills in what a student's config leaves to its teacher.

    These are its tokenizers, as copies of the teacher's files in `folder`, languages that are null, and with
    `same_size_as_teacher` its sizes.
    """
    archive = NemoArchive(_teacher_archives(model.distillation)[0])
    with open_dict(model):
        model.update(_languages_left_to(archive.path, model))
    if model.distillation.get("same_size_as_teacher"):
        with open_dict(model):
            model.update(_sizes_of(archive))
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


def _languages_left_to(teacher: str | Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's languages where the student's are null; how text is treated before and after depends on them."""
    config = NemoArchive(teacher).config
    return {key: config[key] for key in ("src_language", "tgt_language") if not model.get(key) and config.get(key)}


def _teacher_archives(distillation: Mapping[str, Any]) -> list[str | Path]:
    """The files that tell of the teachers: each one's `.nemo`, or what a teacher cache keeps of it."""
    if distillation.get("teacher_cache"):
        return [cached_teacher_path(distillation["teacher_cache"])]
    path = distillation.get("model_path")
    return teacher_paths(path) if isinstance(path, str | list) and path != "???" else []


def _sizes_of(archive: NemoArchive) -> dict[str, Any]:
    config = OmegaConf.to_container(archive.config)
    return {key: config[key] for key in ("encoder", "decoder", "head", "shared_embeddings") if key in config}


def _noise_problems(distillation: Mapping[str, Any]) -> list[str]:
    noise, problems = build_section(SourceNoise, distillation.get("noise") or {}, "model.distillation.noise")
    if problems or noise.is_none:
        return problems
    return [
        f"model.distillation.noise: the student reads other source tokens than its teacher, so that "
        f"distillation.loss.{name}, which compares their '{value}', has nothing to compare."
        for name, node in dict(distillation_losses(distillation)).items()
        for value in node.values()
        if node.get("weight", 1) != 0 and value in SOURCE_TENSORS
    ]


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(problems)


def _plain(node: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=False)


def _replaced_sections(cfg: DictConfig) -> list[str]:
    """Sections that hold a single value, such as what a shell makes of braces; of them nothing more can be said."""
    return [
        f"model.{key}={value}: must be a section of keys; in a shell, braces want quotes: 'model.{key}={{...}}'."
        for key, value in _plain(cfg.model).items()
        if key in SECTIONS and value is not None and not isinstance(value, dict)
    ]


def _job_problems(cfg: DictConfig, tokenizers_required: bool = True) -> list[str]:
    model = _plain(cfg.model)
    sections = _plain(cfg)
    _raise(_section_problems(model))  # without these, nothing else can be checked
    problems = check_missing(cfg) + unknown_keys(sections) + check_trainer(sections.get("trainer") or {})
    problems += wrong_values(sections)
    if (search := model.get("search", SEARCHES[0])) not in SEARCHES:
        problems.append(f"model.search={search}: must be one of {', '.join(SEARCHES)}.")
    for section in DATA_SECTIONS:
        problems += data_problems(f"model.{section}", model.get(section) or {})
    problems += tarred_problems(model)
    if cfg.get("do_training", True) and not model.get("train_ds"):
        problems.append("model.train_ds is missing, and do_training=true needs it.")
    if cfg.get("do_testing", False) and not model.get("test_ds"):
        problems.append("model.test_ds is missing, and do_testing=true needs it.")
    for side in SIDES:
        problems += _tokenizer_problems(side, model, tokenizers_required and not model.get("preproc_out_dir"))
    if path := cfg.get("init_from_nemo_model"):
        problems += _start_problems(model, path)
    return problems + _size_problems(model)


def tarred_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if tarred data is wanted that neither is there nor will be written."""
    train = model.get("train_ds") or {}
    if not train.get("use_tarred_dataset") or train.get("metadata_file") or model.get("preproc_out_dir"):
        return []
    return [
        "model.train_ds.metadata_file has no value, and model.train_ds.use_tarred_dataset=true needs it; give it, or "
        "let model.preproc_out_dir make tarred data of text."
    ]


def _section_problems(model: Mapping[str, Any]) -> list[str]:
    wanted = (*SIDES, *(f"{side}_tokenizer" for side in SIDES), "optim")
    problems = [f"model.{name} is missing." for name in wanted if model.get(name) is None]
    sections = (*wanted, "distillation", *DATA_SECTIONS)
    return problems + [
        f"model.{name}={model[name]}: must be a section of keys."
        for name in sections
        if model.get(name) is not None and not isinstance(model[name], dict)
    ]


def _start_problems(model: Mapping[str, Any], path: str) -> list[str]:
    """What keeps a model of this config from starting with the weights of a `.nemo`."""
    try:
        start = NemoArchive(path).config
    except ValueError as error:
        return [f"init_from_nemo_model: {error}."]
    problems = [
        f"init_from_nemo_model: '{path}' has {side}.{key}={start[side].get(key)}, "
        f"model.{side} has {model[side].get(key)}."
        for side in SIDES
        for key in ("num_layers", *SAME_IN_A_STACK)
        if (start[side].get(key) or False) != (model[side].get(key) or False)
    ]
    return problems + [
        f"init_from_nemo_model and distillation.{key} both set the first weights."
        for key in ("distilbert_initialization", "share_encoder")
        if (model.get("distillation") or {}).get(key)
    ]


def _size_problems(model: Mapping[str, Any]) -> list[str]:
    problems = []
    sizes = {side: model[side].get("hidden_size") for side in SIDES if isinstance(model.get(side), dict)}
    for side, hidden_size in sizes.items():
        heads = model[side].get("num_attention_heads")
        if isinstance(hidden_size, int) and isinstance(heads, int) and heads > 0 and hidden_size % heads:
            problems.append(
                f"model.{side}.hidden_size={hidden_size} is not a multiple of num_attention_heads={heads}."
            )
    if len(set(sizes.values())) > 1:
        problems.append(f"model.encoder and model.decoder differ in hidden_size: {sizes}; NeMo needs them equal.")
    return problems


def _oddities(model: Mapping[str, Any]) -> list[str]:
    """What may be meant but costs quality."""
    smoothing = model.get("label_smoothing") or 0.0
    if smoothing and "distillation" in model:
        return [
            f"model.label_smoothing={smoothing} together with distillation: a teacher's distribution smooths the "
            "labels already, and smoothing more erases what it tells (Mueller et al. 2019); set it to 0.",
            *_odd_data(model),
        ]
    return _odd_data(model)


def _odd_data(model: Mapping[str, Any]) -> list[str]:
    return untokenized_text(model) + evaluation_pairs_in_training(model)


def _tokenizer_problems(side: str, model: Mapping[str, Any], required: bool) -> list[str]:
    where = f"model.{side}_tokenizer.tokenizer_model"
    tokenizer = model.get(f"{side}_tokenizer") or {}
    path = tokenizer.get("tokenizer_model")
    if tokenizer.get("library") not in ("sentencepiece", "yttm", None):
        return []
    if tokenizer.get("library") == "yttm" and model.get("preproc_out_dir"):
        remedy = "train the tokenizer with 'yttm bpe' and leave preproc_out_dir null"
        return [f"model.{side}_tokenizer.library=yttm does not go with model.preproc_out_dir; {remedy}."]
    if path is None:
        remedy = "give it, or let model.preproc_out_dir train one"
        if model.get("preproc_out_dir") and tokenizer.get("vocab_size") is None and "distillation" not in model:
            return [f"model.{side}_tokenizer.vocab_size has no value, which model.preproc_out_dir needs."]
        return [f"{where} has no value; {remedy}."] if required else []
    return _file_problems(where, path)


def _file_problems(where: str, path: Any) -> list[str]:
    if not isinstance(path, str) or not is_file(path):
        return [f"{where} names '{path}', which does not exist."]
    try:
        read_vocabulary(Path(path).expanduser())
    except ValueError as error:
        return [f"{where}: {error}."]
    return []


def _check_teachers(
    model: Mapping[str, Any], distillation: Mapping[str, Any], paths: Sequence[str | Path]
) -> tuple[list[str], tuple[Widths, Widths] | None]:
    """Returns what keeps the student from learning from its teachers, and its and the first's widths if known."""
    try:
        teacher_weights(distillation.get("teacher_weights"), len(paths))
        archives = [translation_archive(path) for path in paths]
        pairs = [pair for archive in archives for pair in _vocabulary_pairs(model, archive, archives[0])]
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."], None
    first = archives[0].config
    problems = [problem for pair in pairs for problem in vocabulary_differences(*pair)]
    if distillation.get("same_size_as_teacher"):
        model = {**model, **_sizes_of(archives[0])}
    if distillation.get("distilbert_initialization"):
        initialization = distillation.get("initialization") or {}
        problems += [f"model.{problem}" for problem in initialization_problems(initialization, model, first)]
    if distillation.get("share_encoder"):
        losses = distillation_losses(distillation)
        problems += [f"model.{problem}" for problem in shared_encoder_problems(model, len(paths), first, losses)]
    return problems, (registered_widths(model), registered_widths(first))


def translation_archive(path: str | Path) -> NemoArchive:
    """Opens a `.nemo` of a translation model.

    Raises:
        ValueError: in one sentence, if it is none.
    """
    archive = NemoArchive(path)
    target = str(archive.config.get("target", ""))
    if target.rpartition(".")[2] != MT_TARGET:
        raise ValueError(f"'{archive.path}' holds a '{target}'; only {MT_TARGET} can be distilled here")
    archive.check_targets()
    return archive


def tokenizer_problems(model: Mapping[str, Any], archive: NemoArchive) -> list[str]:
    """Returns what makes a student's ids mean other things than its teacher's, a sentence each."""
    return [
        problem for pair in _vocabulary_pairs(model, archive, archive) for problem in vocabulary_differences(*pair)
    ]


def _vocabulary_pairs(
    model: Mapping[str, Any], archive: NemoArchive, first: NemoArchive
) -> Iterator[tuple[str, Vocabulary, Vocabulary]]:
    """Yields side, student's and teacher's vocabulary, for each side whose two tokenizers are different files.

    The student's is the one that its config names, or else the first teacher's.
    """
    for side in SIDES:
        path = (model.get(f"{side}_tokenizer") or {}).get("tokenizer_model")
        theirs = archived_vocabulary(archive, side)
        if path and _file_problems("", path):  # told by itself
            continue
        if path and is_file(path) and theirs:
            yield side, read_vocabulary(Path(path).expanduser()), theirs
        elif not path and archive is not first and theirs and (ours := archived_vocabulary(first, side)):
            yield side, ours, theirs


def archived_vocabulary(archive: NemoArchive, side: str) -> Vocabulary | None:
    """Reads the tokenizer of a side, `encoder` or `decoder`, out of a `.nemo`; None if the file holds none."""
    artifact = str((archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model") or "")
    if not artifact.startswith(ARTIFACT_PREFIX):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return read_vocabulary(archive.extract_artifact(artifact, folder))
