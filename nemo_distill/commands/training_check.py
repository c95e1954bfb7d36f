"""Checks the configuration of translation trainings, before NeMo is imported.

The entry points are `check_training`, for a model trained without a teacher, and `check_distillation_job`. Both raise
a single `ConfigurationError` with all problems.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.prepare import tokenizer_problems
from nemo_distill.commands.training_data import earlier_text_problems, training_text_problems
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.known_keys import CONVERTING, check_trainer, unknown_keys, unread_keys, wrong_values
from nemo_distill.core.loss_terms import checked_loss_terms
from nemo_distill.models.cache_config import cache_problems
from nemo_distill.models.distillation_section import (
    TranslationDistillation,
    distillation_losses,
    read_distillation,
    registered_tensors,
)
from nemo_distill.models.exp_manager_options import exp_manager_problems
from nemo_distill.models.pairing import (
    DATA_SECTIONS,
    check_teachers,
    model_vocabulary,
    shared_embedding_problems,
    swapped_tokenizer_problems,
    teacher_file_problems,
    varying_ids_problems,
)
from nemo_distill.models.start_model import KEY, start_problems
from nemo_distill.models.student_config import missing_languages, teacher_archives
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES, kind_problems, language_file_problems, library_problems
from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.text.files import as_list, copied_text, data_problems, unread_files, untokenized_text
from nemo_distill.text.language_notes import language_notes
from nemo_distill.text.languages import moses_notes, validation_problems
from nemo_distill.text.training_mix import evaluation_pairs_in_training, training_mix_problems

SECTIONS = (*SIDES, *DATA_SECTIONS, *(f"{side}_tokenizer" for side in SIDES), "head", "optim", "distillation")
DIVIDING = "adagrad adam adamax adamw adan nadam radam rmsprop".split()  # optimizers that divide by sizes of gradients
EPSILON, LEAST_FLOAT16 = 1e-8, 2.0**-24  # what they add to these by default, and the smallest number above 0


def check_training(cfg: DictConfig) -> list[str]:
    """Checks the config of a training without a teacher, and returns warnings.

    Raises:
        ConfigurationError: with every problem found.
    """
    validate_training(cfg)
    return _oddities(_plain(cfg.model)) + _of_job(cfg)


def validate_training(cfg: DictConfig) -> None:
    """Checks the config of a training without a teacher. It does not read whole texts, as warnings need it.

    Raises:
        ConfigurationError: with every problem found.
    """
    _raise(replaced_sections(cfg))
    sections = _plain(cfg)
    model = sections["model"]
    problems = _job_problems(cfg, sections) + shared_embedding_problems(model) + swapped_tokenizer_problems(model)
    problems += kind_problems(model, "model.") or language_file_problems(model)
    if model.get("distillation") is not None:
        said = "has no effect on a training without a teacher; leave it out, or train with 'nemo-distill distill'"
        problems.append(f"model.distillation {said}.")
    if path := cfg.get(KEY):
        problems += start_problems(model, path)
    _raise(problems)
    _raise(earlier_text_problems(model))


def check_distillation_job(cfg: DictConfig) -> list[str]:
    """Checks the config of a distillation, including whether teacher and student fit, and returns warnings.

    Raises:
        ConfigurationError: with every problem found.
    """
    distillation = validate_distillation(cfg)
    model, teacher = _plain(cfg.model), teacher_archive(teacher_archives(distillation)[0])
    oddities = _oddities(model | missing_languages(teacher, model)) + _of_job(cfg)
    return oddities + _split_tags(model, distillation, teacher)


def validate_distillation(cfg: DictConfig) -> TranslationDistillation:
    """Returns the section of a distillation, after checking the config as `validate_training` does.

    Raises:
        ConfigurationError: with every problem found.
    """
    _raise(replaced_sections(cfg))
    sections = _plain(cfg)
    model = sections["model"]
    problems = _job_problems(cfg, sections, tokenizers_required=False)
    if not model.get("distillation"):
        _raise([*problems, "model.distillation is missing; model.distillation.model_path names the teacher."])
    distillation, section_problems = read_distillation(model, "model.distillation")
    if distillation is None:  # then of the teachers no more can be checked than their files
        paths = [path for path in as_list(model["distillation"].get("model_path")) if isinstance(path, str)]
        raise ConfigurationError(problems + section_problems + teacher_file_problems(paths))
    archives = teacher_archives(distillation)
    if not archives:
        _raise(
            [
                *problems,
                *section_problems,
                "model.distillation.model_path has no value; name a teacher or a teacher_cache.",
            ]
        )
    teacher_problems = cache_problems(model, distillation) if distillation.teacher_cache else []
    widths, registered = None, registered_tensors(model)
    if not teacher_problems:
        teacher_problems, widths = check_teachers(model, distillation, archives)
    if not teacher_problems:
        problems += swapped_tokenizer_problems(model, teacher_archive(archives[0]))
        registered = registered_tensors(model, *(teacher_archive(path).config for path in archives))
    losses = distillation_losses(distillation)
    _, found = checked_loss_terms(distillation, losses, registered, widths, "model.distillation")
    problems += section_problems + found
    problems += training_mix_problems(model, distillation.mix)
    if distillation.mix.weighting == "loss" and not teacher_problems:
        problems += varying_ids_problems(model, teacher_archive(archives[0]), "model.distillation.mix.weighting=loss")
    if path := cfg.get(KEY):
        problems += start_problems(model, path, archives[0])
    _raise(problems + teacher_problems)
    return distillation


def _split_tags(model: Mapping[str, Any], distillation: TranslationDistillation, teacher: NemoArchive) -> list[str]:
    """Returns a warning for each tag of a mixed corpus that is no piece of the tokenizer."""
    vocabulary = model_vocabulary("encoder", model, teacher)
    return [
        f"model.distillation.mix.corpora.{name}.tag={corpus.tag}: the tokenizer has no such piece and splits it; "
        "a tokenizer that is trained with it among its special_tokens does not."
        for name, corpus in distillation.mix.corpora.items()
        if corpus.tag and vocabulary and {corpus.tag, f"▁{corpus.tag}"}.isdisjoint(vocabulary.pieces)
    ]


def _raise(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def _plain(node: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=False)


def replaced_sections(cfg: DictConfig) -> list[str]:
    """Returns sections that are a single value, for example after the shell expanded braces."""
    if missing := [key for key in ("model", "trainer") if cfg.get(key) is None]:
        return [f"{key} is missing; it is a section of keys." for key in missing]
    sections = _plain(cfg)
    held = {key: sections.get(key) for key in ("model", "trainer", "exp_manager")}
    if isinstance(held["model"], dict):
        held |= {f"model.{key}": held["model"].get(key) for key in SECTIONS}
    return [
        f"{key}={value}: must be a section of keys; in a shell, braces want quotes: '{key}={{...}}'."
        for key, value in held.items()
        if value is not None and not isinstance(value, dict)
    ]


def _precision_problems(sections: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence for each setting that does not go with the precision to which a training converts weights."""
    precision, optim = str((sections.get("trainer") or {}).get("precision")), sections["model"]["optim"]
    if (ema := sections.get("ema")) and precision.endswith("16-true"):  # the steps of averages would be rounded away
        mixed = precision.replace("true", "mixed")
        yield f"ema={ema}: needs weights in float32; set trainer.precision={mixed}, not {precision}."
    name, eps = optim.get("name"), optim.get("eps", EPSILON)  # what an optimizer adds to divisors
    if precision == "16-true" and name in DIVIDING and isinstance(eps, float) and eps <= LEAST_FLOAT16 / 2:
        yield (
            f"trainer.precision=16-true: in float16, model.optim.eps={eps} of {name} is 0, so that weights become "
            "NaN; set trainer.precision=16-mixed or bf16-mixed."
        )
    given = (sections["model"].get("distillation") or {}).get("teacher_precision")
    if given and precision in CONVERTING:
        key = f"model.distillation.teacher_precision={given}"
        yield f"{key}: trainer.precision={precision} converts the teacher to {CONVERTING[precision]} too; set null."


def _schedule_problems(schedule: Mapping[str, Any], trainer: Mapping[str, Any]) -> Iterator[str]:
    """Yields what NeMo would tell by a stack trace, or would train without a learning rate for."""
    for part in ("warmup", "constant", "hold"):
        lengths = {key: schedule[key] for key in (f"{part}_steps", f"{part}_ratio") if schedule.get(key) is not None}
        if len(lengths) > 1:
            given = " and ".join(f"{key}={value}" for key, value in lengths.items())
            yield f"model.optim.sched has {given}; give one of them, and null to the other."
    epochs = trainer.get("max_epochs")
    is_endless = epochs == -1 or (epochs is None and trainer.get("max_time"))
    if schedule and is_endless and trainer.get("max_steps", -1) in (None, -1):
        yield (
            f"trainer.max_epochs={'null' if epochs is None else epochs}: the learning rate's schedule, "
            "model.optim.sched, needs a length; give +trainer.max_steps, before which early stopping, for instance, "
            "can end the training."
        )


def _job_problems(cfg: DictConfig, sections: dict[str, Any], tokenizers_required: bool = True) -> list[str]:
    model = sections["model"]
    wanted = (*SIDES, *(f"{side}_tokenizer" for side in SIDES), "optim")  # without these, nothing else can be checked
    _raise([f"model.{name} is missing." for name in wanted if model.get(name) is None])
    problems = check_missing(cfg) + unknown_keys(sections) + check_trainer(sections.get("trainer") or {})
    problems += wrong_values(sections) + validation_problems(model)
    validation = model.get("validation_ds") or {}
    problems += exp_manager_problems(sections.get("exp_manager") or {}, validation, sections.get("ema"))
    problems += _precision_problems(sections)
    problems += _schedule_problems(model["optim"].get("sched") or {}, sections.get("trainer") or {})
    for section in DATA_SECTIONS:
        problems += data_problems(f"model.{section}", model.get(section) or {})
    problems += tarred_problems(model)
    if cfg.get("do_training", True) and not model.get("train_ds"):
        problems.append("model.train_ds is missing, and do_training=true needs it.")
    if cfg.get("do_testing", False) and not model.get("test_ds"):
        problems.append("model.test_ds is missing, and do_testing=true needs it.")
    for side in SIDES:
        problems += tokenizer_section_problems(side, model, tokenizers_required and not model.get("preproc_out_dir"))
    problems = list(dict.fromkeys(problems + training_text_problems(model)))
    return problems + _size_problems(model) + _head_problems(model.get("head") or {})


def tarred_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if the config uses tarred data that does not exist and will not be written."""
    train = model.get("train_ds") or {}
    if not train.get("use_tarred_dataset") or train.get("metadata_file"):
        return []
    if model.get("preproc_out_dir") and not train.get("tar_files"):
        return []
    return [
        "model.train_ds.metadata_file has no value, and model.train_ds.use_tarred_dataset=true needs it; give it, or "
        "let model.preproc_out_dir make tarred data of text."
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
        act = model[side].get("hidden_act") or "relu"
        if act not in ("relu", "gelu") and (model[side].get("library") or "nemo") == "nemo":
            problems.append(f"model.{side}.hidden_act={act}: must be one of relu, gelu.")
    if len(set(map(str, sizes.values()))) > 1:
        problems.append(f"model.encoder and model.decoder differ in hidden_size: {sizes}; NeMo needs them equal.")
    return problems


def _head_problems(head: Mapping[str, Any]) -> list[str]:
    """Returns problems that NeMo ignores silently: wrong numbers of layers, and losses computed from logits."""
    problems = []
    if (layers := head.get("num_layers", 1)) != 1:
        problems.append(
            f"model.head.num_layers={layers}: NeMo's model has a head of 1 layer all the same; set it to 1."
        )
    if not head.get("log_softmax", True):
        problems.append("model.head.log_softmax=false: losses and searches need log-probabilities; it must be true.")
    return problems


def _oddities(model: Mapping[str, Any]) -> list[str]:
    """Returns warnings about settings that are allowed but reduce quality, or do nothing."""
    smoothing, oddities = model.get("label_smoothing") or 0.0, []
    distillation = model.get("distillation")
    if smoothing and distillation is not None and distillation.get("distillation_loss_weight") != 0:
        oddities.append(
            f"model.label_smoothing={smoothing} together with distillation: a teacher's distribution smooths the "
            "labels already, and smoothing more erases what it tells (Mueller et al. 2019); set it to 0."
        )
    cosine = ((distillation or {}).get("loss") or {}).get("cosine") or {}
    if distillation and distillation.get("distill_encoder") and cosine.get("weight") == 0:
        oddities.append(
            "model.distillation.distill_encoder=true has no effect, because loss.cosine, which it applies to the "
            "encoders too, has the weight 0; set model.distillation.cosine_loss_weight."
        )
    of_files = copied_text(model) + unread_files(model) + untokenized_text(model)
    return oddities + of_files + moses_notes(model) + language_notes(model) + evaluation_pairs_in_training(model)


def _of_job(cfg: DictConfig) -> list[str]:
    """Returns warnings about keys that nothing reads, and about steps that are not validated."""
    return unread_keys(_plain(cfg), OmegaConf.to_yaml(cfg)) + _unvalidated_end(cfg.trainer)


def _unvalidated_end(trainer: DictConfig) -> list[str]:
    """Returns a warning if the last steps are not validated, and so never reach the `.nemo` of the best checkpoint."""
    steps, every = trainer.get("max_steps", -1), trainer.get("val_check_interval")
    # Fractions, and intervals within an epoch, depend on the data.
    if not isinstance(every, int) or steps < 1 or trainer.get("check_val_every_n_epoch") is not None:
        return []
    accumulated = trainer.get("accumulate_grad_batches") or 1
    batches = steps * accumulated
    if not (rest := steps - (batches - batches % every) // accumulated):
        return []
    return [
        f"trainer.max_steps={steps} with trainer.val_check_interval={every}: the last {rest} steps are "
        "not validated, so the best checkpoint is of an earlier step; choose an interval that divides the training."
    ]


def tokenizer_section_problems(side: str, model: Mapping[str, Any], required: bool) -> list[str]:
    """Returns the problems of the tokenizer of a side.

    Args:
        side: `encoder` or `decoder`.
        model: the model's config.
        required: True if the config must name a file.
    """
    where = f"model.{side}_tokenizer"
    tokenizer = model.get(f"{side}_tokenizer") or {}
    path, library = tokenizer.get("tokenizer_model"), tokenizer.get("library") or "sentencepiece"
    if problems := library_problems(f"{where}.library", tokenizer):
        return problems
    if path is None and model.get("distillation") is not None and not required:  # the teacher's, see `check_teachers`
        return []
    legacy = bool(tokenizer.get("sentencepiece_legacy"))
    problems = tokenizer_problems(path, library, bool(tokenizer.get("r2l")), legacy)
    if library == "sentencepiece" and (dropout := tokenizer.get("bpe_dropout")):
        problems.append(f"bpe_dropout={dropout}: NeMo does this only with youtokentome; leave it null.")
    if path is None and required:
        problems.append("tokenizer_model has no value; give it, or let model.preproc_out_dir train one.")
    return [f"{where}.{problem}" for problem in problems]
