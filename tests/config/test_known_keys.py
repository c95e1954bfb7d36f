import dataclasses
import inspect

import lightning.pytorch as pl
import pytest
from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import TranslationDataConfig
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_config import AAYNBaseConfig
from nemo.collections.nlp.modules.common.token_classifier import TokenClassifierConfig
from nemo.collections.nlp.modules.common.tokenizer_utils import TokenizerConfig
from nemo.collections.nlp.modules.common.transformer.transformer import NeMoTransformerEncoderConfig
from nemo.utils.exp_manager import CallbackParams, EarlyStoppingParams, ExpManagerConfig
from omegaconf import OmegaConf

from nemo_distill.config import known_keys
from tests.conftest import composed


@pytest.mark.parametrize(
    ("known", "config_class"),
    [
        (known_keys.EXP_MANAGER, ExpManagerConfig),
        (known_keys.CHECKPOINT, CallbackParams),
        (known_keys.EARLY_STOPPING, EarlyStoppingParams),
        (known_keys.MODEL, AAYNBaseConfig),
        (known_keys.DATA, TranslationDataConfig),
        (known_keys.TRANSFORMER, NeMoTransformerEncoderConfig),
        (known_keys.TOKENIZER, TokenizerConfig),
        (known_keys.HEAD, TokenClassifierConfig),
    ],
)
def test_the_lists_are_nemos(known, config_class):
    assert set(known) == {field.name for field in dataclasses.fields(config_class)}


def test_the_trainers_list_is_lightnings_without_the_callbacks_that_we_pass():
    parameters = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self", "callbacks"}
    assert set(known_keys.TRAINER) == parameters


@pytest.mark.parametrize(
    ("cfg", "sentences"),
    [
        ({"trainer": {"max_step": 5}}, ["trainer has the unknown key 'max_step'; the closest known key is 'max_steps'"]),
        ({"trainer": {"gpus": 5}}, []),
        ({"exp_manager": {"gpus": 5}}, ["exp_manager has the unknown key 'gpus'"]),
        ({"exp_manager": {"checkpoint_callback_params": {"zzz": 1}}}, ["exp_manager.checkpoint_callback_params has the unknown key 'zzz'; known are"]),
        ({"model": {"encoder": {"num_layer": 3}}}, ["model.encoder has the unknown key 'num_layer'; the closest known key is 'num_layers'"]),
        ({"model": {"encoder": {"hidden_steps": 3}, "mine": {"a": 1}}}, []),
        ({"model": {1: 2}, "trainer": {1: 2}}, ["trainer has the unknown key '1'; known are"]),
        ({"model": {"bleu_tokeniser": "zh"}}, ["model has the unknown key 'bleu_tokeniser'; the closest known key is 'bleu_tokenizer'"]),
        ({"model": {"train_ds": {"tokens_in_batches": 3}}}, ["model.train_ds has the unknown key 'tokens_in_batches'"]),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_told_and_a_key_of_anothers_passes(cfg, sentences):
    found = known_keys.unknown_keys(cfg)
    assert len(found) == len(sentences)
    assert all(problem.startswith(sentence) for problem, sentence in zip(found, sentences))


def test_a_key_that_nothing_reads_is_told_unless_a_value_refers_to_it():
    given = {
        "width": 64, "max_steps": 5, "trainer": {"max_steps": 3},
        "model": {"mine": 1, "nonsense": 2, "encoder": {"hidden_size": "${width}", "dropout": "${..mine}"}},
    }  # fmt: skip
    cfg = OmegaConf.create(given)
    found = known_keys.unread_keys(OmegaConf.to_container(cfg, resolve=True), OmegaConf.to_yaml(cfg))
    assert [warning.partition(":")[0] for warning in found] == ["max_steps", "model.nonsense", "model.encoder.dropout"]


@pytest.mark.parametrize("name", ["aayn_base", "aayn_base_distill"])
def test_all_keys_of_our_own_files_are_read(name):
    cfg = composed(name, "model.preproc_out_dir=x" if name == "aayn_base" else "student=slim_1x1")
    assert known_keys.unread_keys(OmegaConf.to_container(cfg), OmegaConf.to_yaml(cfg)) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("", "seed", "lucky"),
        ("model", "beam_size", 0),
        ("model", "label_smoothing", 1.5),
        ("model", "preproc_out_dir", 3),
        ("model.train_ds", "tokens_in_batch", "many"),
        ("model.train_ds", "num_workers", -1),
        ("model.encoder", "num_layers", 0),
        ("model.encoder", "hidden_size", "big"),
        ("model.encoder", "ffn_dropout", 1.5),
        ("model.optim", "lr", -1),
        ("model.optim", "name", "adamm"),
        ("model.optim.sched", "name", "Cosine"),
        ("trainer", "precision", 8),
        ("trainer", "accelerator", "tpuu"),
        ("trainer", "max_steps", 0.5),
        ("trainer", "devices", 0),
        ("trainer", "min_steps", "abc"),
        ("trainer", "check_val_every_n_epoch", 0),
        ("trainer", "val_check_interval", 0),
        ("trainer", "limit_train_batches", 0),
        ("trainer", "overfit_batches", 1),
        ("trainer", "gradient_clip_val", -1),
        ("trainer", "deterministic", "yes"),
        ("exp_manager", "explicit_log_dir", 20261127),
        ("exp_manager.checkpoint_callback_params", "every_n_train_steps", -1),
        ("exp_manager.checkpoint_callback_params", "save_top_k", -2),
        ("exp_manager.checkpoint_callback_params", "mode", "best"),
        ("exp_manager.checkpoint_callback_params", "dirpath", 2026),
        ("exp_manager.early_stopping_callback_params", "mode", "up"),
        ("exp_manager.early_stopping_callback_params", "patience", 1.5),
    ],
)
def test_a_value_that_its_key_cannot_have_is_told(section, key, value):
    cfg = {key: value}
    for name in reversed(section.split(".") if section else []):
        cfg = {name: cfg}
    (problem,) = known_keys.wrong_values(cfg)
    assert problem.startswith(f"{section}.{key}={value}: must be ".removeprefix("."))


@pytest.mark.parametrize(
    ("cfg", "sentence"),
    [
        ({"do_training": "no"}, "do_training=no: must be null or true or false."),
        (
            {"model": {"train_ds": {"reverse_lang_direction": "no"}}},
            "model.train_ds.reverse_lang_direction=no: must be",
        ),
        ({"model": {"encoder": {"pre_ln": 1}}}, "model.encoder.pre_ln=1: must be"),
        ({"model": {"train_ds": {"shard_strategy": "all"}}}, "model.train_ds.shard_strategy=all: must be one of"),
        ({"exp_manager": {"resume_if_exists": "yes"}}, "exp_manager.resume_if_exists=yes: must be"),
    ],
)
def test_text_is_no_yes_or_no(cfg, sentence):
    (problem,) = known_keys.wrong_values(cfg)
    assert problem.startswith(sentence)
