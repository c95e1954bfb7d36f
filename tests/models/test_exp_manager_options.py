"""What NeMo's exp_manager cannot do is told before it is imported, by key, value and what to set."""

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy
from omegaconf import OmegaConf

from nemo_distill.commands.training import build_trainer
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.models.exp_manager_options import exp_manager_problems
from tests.models.conftest import problems

VALIDATION = {"src_file_name": ["a.de", "b.de"], "names": None}


def checkpoints(**params):
    return {"checkpoint_callback_params": params}


def stopping(**params):
    return {"early_stopping_callback_params": params}


@pytest.mark.parametrize(
    "section",
    [
        {},
        checkpoints(every_n_train_steps=1000, every_n_epochs=None),
        checkpoints(every_n_epochs=2, every_n_train_steps=0),
        checkpoints(monitor="val_sacreBLEU_b", mode="max", save_top_k=-1),
        checkpoints(monitor="val_loss_avg"),
        checkpoints(monitor="train_loss"),
        checkpoints(always_save_nemo=True),
        checkpoints(save_best_model=True),
        stopping(monitor="val_sacreBLEU", mode="max", patience=3, min_delta=0.1),
        {"ema": {"enable": False}, "max_time_per_run": "00:03:30:00", "files_to_copy": []},
    ],
)
def test_what_works_passes(section):
    assert exp_manager_problems(section, VALIDATION) == []


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (checkpoints(every_n_train_steps=1000), ["every_n_train_steps=1000", "every_n_epochs=1 (the default)", "every_n_epochs=null"]),
        (checkpoints(every_n_train_steps=10, every_n_epochs=2), ["every_n_train_steps=10", "every_n_epochs=2", "every_n_epochs=null"]),
        (checkpoints(train_time_interval="1h", every_n_epochs=None), ["train_time_interval=1h", "every_n_train_steps"]),
        (checkpoints(monitor=None), ["monitor=None", "val_loss"]),
        (checkpoints(monitor="val_bleu"), ["monitor=val_bleu", "val_sacreBLEU_b"]),
        (checkpoints(monitor="val_sacreBLEU"), ["monitor=val_sacreBLEU", "mode=min, the default,", "set mode=max"]),
        (checkpoints(monitor="val_loss", mode="max"), ["monitor=val_loss", "set mode=min"]),
        (checkpoints(async_save=True), ["async_save=True", "false"]),
        (checkpoints(save_last_n_optim_states=2), ["save_last_n_optim_states=2", "-1"]),
        (checkpoints(always_save_nemo=True, save_best_model=True), ["always_save_nemo=true", "save_best_model=true", "run code", "always_save_nemo=false"]),
        (checkpoints(save_last=False) | {"resume_if_exists": True}, ["save_last=false", "resume_if_exists=true"]),
        (checkpoints(save_weights_only=True) | {"resume_if_exists": True}, ["save_weights_only=true", "resume_if_exists=true"]),
        (stopping(monitor="val_sacreBLEU_a"), ["early_stopping_callback_params", "set mode=max"]),
        ({"early_stopping_callback_params": 3}, ["early_stopping_callback_params=3", "section"]),
        ({"ema": {"enable": True}}, ["ema.enable=true", "must be false"]),
        ({"log_local_rank_0_only": True, "log_global_rank_0_only": True}, ["log_local_rank_0_only=true", "false"]),
        ({"max_time_per_run": "3h"}, ["max_time_per_run=3h", "00:03:30:00"]),
        ({"name": "de/en"}, ["name=de/en", "must not contain /"]),
        ({"resume_from_checkpoint": "nowhere.ckpt"}, ["resume_from_checkpoint", "'nowhere.ckpt'"]),
        ({"files_to_copy": ["nowhere.py"]}, ["files_to_copy", "'nowhere.py'"]),
    ],
)  # fmt: skip
def test_what_ends_in_a_stack_trace_or_in_other_weights_is_told(section, words):
    (problem,) = exp_manager_problems(section, VALIDATION)
    assert problem.startswith("exp_manager") and all(word in problem for word in words), problem


@pytest.mark.parametrize(
    "validation", [{}, {"src_file_name": "???"}, {"src_file_name": 5}, {"src_file_name": "a", "names": 5}]
)
def test_sets_that_are_not_known_leave_every_score_possible(validation):
    assert exp_manager_problems(checkpoints(monitor="val_bleu"), validation) == []


def test_a_job_is_told_all_of_it_at_once(job):
    found = problems(
        check_distillation_job,
        job(
            "+exp_manager.checkpoint_callback_params.every_n_train_steps=1000",
            "+exp_manager.early_stopping_callback_params.patiense=3",
            "+exp_manager.ema.enable=true",
        ),
    )
    assert len(found) == 3 and any("the closest known key is 'patience'" in problem for problem in found)


def test_what_only_exp_manager_finds_is_one_sentence_too(tmp_path):
    cfg = OmegaConf.create(
        {
            "model": {},
            "trainer": {"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
            "exp_manager": {"explicit_log_dir": str(tmp_path), "create_wandb_logger": True},
        }
    )
    with pytest.raises(ConfigurationError, match="exp_manager: .*wandb"):
        build_trainer(cfg)


@pytest.mark.parametrize("strategy", [{}, {"strategy": "auto"}, {"strategy": "ddp"}])
def test_several_devices_may_leave_weights_unused_however_they_are_asked_for(strategy):
    trainer = {"accelerator": "cpu", "devices": 2, "logger": False, "enable_checkpointing": False, **strategy}
    built = build_trainer(OmegaConf.create({"trainer": trainer, "model": {}}))
    assert built.strategy._ddp_kwargs == {"find_unused_parameters": True}
    built = build_trainer(OmegaConf.create({"trainer": trainer, "model": {"find_unused_parameters": False}}))
    assert not built.strategy._ddp_kwargs


def test_one_device_needs_no_group_of_processes():
    trainer = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False}
    assert type(build_trainer(OmegaConf.create({"trainer": trainer, "model": {}})).strategy) is SingleDeviceStrategy
