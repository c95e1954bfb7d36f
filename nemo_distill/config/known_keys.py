"""The keys of NeMo and Lightning by section, and their values, to report mistakes before the slow imports.

A test compares the lists of keys with the libraries.
"""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from nemo_distill.config.checks import MISSING, suggestion
from nemo_distill.config.section import Allowed, argument_problem

# Keys of older Lightning versions, which NeMo's first translation scripts used.
RENAMED_TRAINER_KEYS = {
    "gpus": "devices",
    "checkpoint_callback": "enable_checkpointing",
    "amp_level": "precision",
    "distributed_backend": "strategy",
    "resume_from_checkpoint": "exp_manager.resume_if_exists",
}
JOB = "name seed do_training do_testing ema init_from_nemo_model model trainer exp_manager".split()
TRAINER = """
accelerator strategy devices num_nodes precision logger fast_dev_run max_epochs min_epochs max_steps min_steps max_time
limit_train_batches limit_val_batches limit_test_batches limit_predict_batches overfit_batches val_check_interval
check_val_every_n_epoch num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar
enable_model_summary accumulate_grad_batches gradient_clip_val gradient_clip_algorithm deterministic benchmark
inference_mode use_distributed_sampler profiler detect_anomaly barebones plugins sync_batchnorm
reload_dataloaders_every_n_epochs default_root_dir
""".split()
EXP_MANAGER = """
explicit_log_dir exp_dir name version use_datetime_version resume_if_exists resume_past_end resume_ignore_no_checkpoint
resume_from_checkpoint create_tensorboard_logger summary_writer_kwargs create_wandb_logger wandb_logger_kwargs
create_mlflow_logger mlflow_logger_kwargs create_dllogger_logger dllogger_logger_kwargs create_clearml_logger
clearml_logger_kwargs create_neptune_logger neptune_logger_kwargs create_checkpoint_callback checkpoint_callback_params
create_early_stopping_callback early_stopping_callback_params create_preemption_callback files_to_copy log_step_timing
log_delta_step_timing step_timing_kwargs log_local_rank_0_only log_global_rank_0_only disable_validation_on_resume ema
max_time_per_run seconds_to_sleep create_straggler_detection_callback straggler_detection_params
create_fault_tolerance_callback fault_tolerance log_tflops_per_sec_per_gpu
""".split()
CHECKPOINT = """
filepath dirpath filename monitor verbose save_last save_top_k save_weights_only mode auto_insert_metric_name
every_n_epochs every_n_train_steps train_time_interval prefix postfix save_best_model always_save_nemo
save_nemo_on_train_end model_parallel_size save_on_train_epoch_end async_save save_last_n_optim_states
""".split()
EARLY_STOPPING = """
monitor mode min_delta patience verbose strict check_finite stopping_threshold divergence_threshold
check_on_train_epoch_end log_rank_zero_only
""".split()
MODEL = """
train_ds validation_ds test_ds optim encoder_tokenizer decoder_tokenizer encoder decoder head num_val_examples
num_test_examples max_generation_delta label_smoothing beam_size len_pen src_language tgt_language
find_unused_parameters shared_tokenizer multilingual preproc_out_dir validate_input_ids shared_embeddings
""".split()
OUR_MODEL = ["search", "bleu_tokenizer", "distillation", "preproc_overwrite"]
OUR_DATA = ["names", "max_seq_length_diff", "max_seq_length_ratio"]
DATA = """
src_file_name tgt_file_name use_tarred_dataset tar_files metadata_file lines_per_dataset_fragment
num_batches_per_tarfile shard_strategy tokens_in_batch clean max_seq_length min_seq_length cache_ids
cache_data_per_node use_cache shuffle num_samples drop_last pin_memory num_workers reverse_lang_direction
load_from_tarred_dataset metadata_path tar_shuffle_n n_preproc_jobs tar_file_prefix concat_sampling_technique
concat_sampling_temperature concat_sampling_probabilities
""".split()
TRANSFORMER = """
hidden_size num_layers inner_size num_attention_heads max_sequence_length num_token_types embedding_dropout
learn_positional_encodings ffn_dropout attn_score_dropout attn_layer_dropout hidden_act pre_ln pre_ln_final_layer_norm
library model_name pretrained mask_future
""".split()
TOKENIZER = """
library tokenizer_model vocab_size vocab_file special_tokens bpe_dropout coverage training_sample_size r2l
sentencepiece_legacy
""".split()
HEAD = ["num_layers", "activation", "log_softmax", "dropout", "use_transformer_init"]

# Sections in which unknown keys are errors: NeMo and Lightning reject them too, but late and with a stack trace.
STRICT = {
    "trainer": TRAINER,
    "exp_manager": EXP_MANAGER,
    "exp_manager.checkpoint_callback_params": CHECKPOINT,
    "exp_manager.early_stopping_callback_params": EARLY_STOPPING,
}
# Sections in which NeMo silently ignores unknown keys. Keys similar to a known key are errors. Others may be meant for
# the user's own code, and are warned of.
LENIENT = {
    "model": [*MODEL, *OUR_MODEL],
    **{f"model.{section}": [*DATA, *OUR_DATA] for section in ("train_ds", "validation_ds", "test_ds")},
    **{f"model.{section}": TRANSFORMER for section in ("encoder", "decoder")},
    **{f"model.{section}_tokenizer": TOKENIZER for section in ("encoder", "decoder")},
    "model.head": HEAD,
}

OF_SECTIONS = STRICT | LENIENT

Count = Annotated[int, Field(ge=1)]
FromZero = Annotated[int, Field(ge=0)]
FromZeroOrNone = FromZero | None
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Flag = bool | None  # any text would count as true
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]


def _are_devices(devices: int | str | list[int]) -> int | str | list[int]:
    numbers: Any = devices if isinstance(devices, list) else [devices]
    if isinstance(devices, str):
        numbers = [int(part) if part.strip().lstrip("-").isdigit() else part for part in devices.split(",")]
    fits = devices == "auto" or all(isinstance(number, int) for number in numbers)
    if fits and numbers not in ([], [0]) and (len(numbers) > 1 or numbers[0] == "auto" or numbers[0] >= -1):
        return devices
    raise PydanticCustomError("devices", "these are no devices")


Devices = Annotated[
    int | str | list[int],
    AfterValidator(_are_devices),
    Allowed("a number of at least 1, -1 or auto for all, or a list of the devices' numbers"),
]
OPTIMIZERS = """
adadelta adafactor adagrad adam adamax adamw adan asgd distributed_fused_adam fused_adam lion mcore_distributed_optim
nadam novograd radam rmsprop rprop sgd
""".split()
SCHEDULES = """
CosineAnnealing CosineAnnealingExp CyclicLR ExponentialLR InverseSquareRootAnnealing NoamAnnealing NoamHoldAnnealing
PolynomialDecayAnnealing PolynomialHoldDecayAnnealing ReduceLROnPlateau SquareAnnealing SquareRootAnnealing
SquareRootConstantPolicy StepLR T5InverseSquareRootAnnealing WarmupAnnealing WarmupHoldPolicy WarmupPolicy
""".split()
PRECISIONS = (
    *(64, 32, 16, "64", "32", "16", "bf16", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    *("transformer-engine", "transformer-engine-float16", "auto", None),  # auto: ours
)
# Those that convert all weights, and to what.
CONVERTING = {"bf16-true": "bfloat16", "16-true": "float16", "64-true": "float64", "64": "float64"}
Better = Literal["min", "max"]  # of a score that is monitored
DATA_VALUES = {
    **dict.fromkeys(("tokens_in_batch", "max_seq_length"), Count),
    **dict.fromkeys(("num_workers", "min_seq_length", "max_seq_length_diff"), FromZero),
    "max_seq_length_ratio": Annotated[float, Field(ge=1)],
    "clean": bool,
    **dict.fromkeys(
        ("shuffle", "use_tarred_dataset", "reverse_lang_direction", "drop_last", "pin_memory", "use_cache"), Flag
    ),
    **dict.fromkeys(("cache_ids", "cache_data_per_node", "load_from_tarred_dataset"), Flag),
    "shard_strategy": Literal["scatter", "replicate"],
    "concat_sampling_technique": Literal["temperature", "random", "round-robin"],
}
TRANSFORMER_VALUES = {
    **dict.fromkeys(("hidden_size", "inner_size", "num_layers", "num_attention_heads", "max_sequence_length"), Count),
    **dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), Share),
    **dict.fromkeys(("learn_positional_encodings", "pre_ln", "pre_ln_final_layer_norm", "mask_future"), Flag),
}
VALUES: dict[str, Mapping[str, Any]] = {  # types by section and key
    "": {
        "seed": FromZero,
        "ema": Annotated[float, Field(gt=0, lt=1)] | None,
        **dict.fromkeys(("do_training", "do_testing"), Flag),
    },
    "model": {
        "beam_size": Count,
        "len_pen": NotNegative,
        "label_smoothing": Share,
        "search": Literal["nemo_distill", "nemo"],  # ours: what validation translates with
        "preproc_out_dir": str | None,
        "preproc_overwrite": bool,  # ours
        "max_generation_delta": int,
        **dict.fromkeys(("shared_embeddings", "shared_tokenizer", "multilingual", "validate_input_ids"), Flag),
    },
    **{f"model.{section}": DATA_VALUES for section in ("train_ds", "validation_ds", "test_ds")},
    **{f"model.{side}": TRANSFORMER_VALUES for side in ("encoder", "decoder")},
    **{
        f"model.{side}_tokenizer": {"vocab_size": Count | None, "r2l": Flag, "sentencepiece_legacy": Flag}
        for side in ("encoder", "decoder")
    },
    "model.optim": {"lr": Positive, "weight_decay": NotNegative, "name": Literal[tuple(OPTIMIZERS)]},
    "model.optim.sched": {
        "name": Literal[tuple(SCHEDULES)],
        "warmup_steps": FromZeroOrNone,
        "warmup_ratio": Share | None,
    },
    "trainer": {  # Lightning tells other wrong values itself
        "accelerator": Accelerator,
        "precision": Literal[PRECISIONS],
        "max_steps": Annotated[int, Field(ge=-1)],  # -1: no limit
        "max_epochs": Annotated[int, Field(ge=-1)] | None,
        "min_steps": FromZeroOrNone,
        "min_epochs": FromZeroOrNone,
        "num_nodes": Count,
        "accumulate_grad_batches": Count,
        "check_val_every_n_epoch": Count | None,
        "val_check_interval": Positive | None,
        "limit_train_batches": Positive | None,
        # Lightning would replace the sampler that resumes.
        "overfit_batches": Annotated[Literal[0], Allowed("0; train on a small text instead")],
        "gradient_clip_val": NotNegative | None,
        "deterministic": bool | Literal["warn"] | None,
        "devices": Devices,
    },
    "exp_manager": {
        **dict.fromkeys(("explicit_log_dir", "exp_dir"), str | None),
        **dict.fromkeys(("resume_if_exists", "resume_past_end", "resume_ignore_no_checkpoint"), Flag),
        **dict.fromkeys(("create_checkpoint_callback", "create_early_stopping_callback"), Flag),
        **dict.fromkeys(("create_tensorboard_logger", "create_wandb_logger", "use_datetime_version"), Flag),
    },
    "exp_manager.checkpoint_callback_params": {
        "save_top_k": Annotated[int, Field(ge=-1)],  # -1: all
        "every_n_epochs": FromZeroOrNone,
        "every_n_train_steps": FromZeroOrNone,
        "mode": Better,
        "dirpath": str | None,
    },
    "exp_manager.early_stopping_callback_params": {"mode": Better, "patience": FromZero, "min_delta": float},
}


def unknown_keys(cfg: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each key of a job's config that is unknown or seems misspelled."""
    return [
        f"{section} has the unknown key '{key}'{suggestion(key, known)}."
        for section, known in OF_SECTIONS.items()
        for key in _section_at(cfg, section)
        if key not in known and (section in STRICT or get_close_matches(str(key), known, n=1, cutoff=0.85))
        if section != "trainer" or key not in RENAMED_TRAINER_KEYS  # `check_trainer` tells their new names
    ]


def unread_keys(cfg: Mapping[str, Any], text: str) -> list[str]:
    """Returns a warning for each key of a job's config that nothing reads, and to which no other value refers.

    Args:
        cfg: the config, resolved.
        text: the config as YAML, with its references.
    """
    unknown = {
        f"{section}.{key}".removeprefix("."): key
        for section, known in ({"": JOB} | LENIENT).items()
        for key in _section_at(cfg, section)
        if key not in known
    }
    return [
        f"{name}: neither NeMo nor nemo_distill reads this key, so it has no effect."
        for name, key in unknown.items()
        if not re.search(rf"\$\{{[.\w]*\b{re.escape(str(key))}\b", text)
    ]


def check_trainer(trainer: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each trainer key that Lightning has renamed since NeMo 1.x."""
    return [
        f"trainer.{old} is called {new if '.' in new else f'trainer.{new}'} now."
        for old, new in RENAMED_TRAINER_KEYS.items()
        if old in trainer
    ]


def wrong_values(cfg: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each value of a job's config, resolved, that its key cannot have."""
    found = (
        argument_problem(f"{section}.{key}".removeprefix("."), value, types[key])
        for section, types in VALUES.items()
        for key, value in _section_at(cfg, section).items()
        if key in types and value != MISSING
    )
    return [problem for problem in found if problem]


def _section_at(cfg: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Returns the section with a dotted name; an empty one if there is none, or if a value stands in its place."""
    for name in filter(None, where.split(".")):
        cfg = cfg.get(name) or {}
        if not isinstance(cfg, Mapping):
            return {}
    return cfg
