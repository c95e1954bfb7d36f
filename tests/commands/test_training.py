"""A training that was killed goes on as if nothing had happened."""

import json
import shlex
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo_distill.commands import training
from nemo_distill.commands.training import resumes
from nemo_distill.config.overrides import parsed
from nemo_distill.storage.files import LOCK, locked
from nemo_distill.storage.ledger import fingerprint
from tests.conftest import SCRIPTS
from tests.forked import run_script

TRAIN = """
import os, signal, sys
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback
from nemo_distill.commands.training import run_job, training_run
from nemo_distill.models.student_config import complete_student

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background

class KilledAt(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == int(sys.argv[3]):
            os.kill(os.getpid(), int(sys.argv[4]))

with initialize_config_dir(sys.argv[1], version_base=None):
    cfg = compose("aayn_base_distill", sys.argv[5:])
with training_run(cfg) as trainer:
    trainer.callbacks.append(KilledAt())
    complete_student(cfg.model, sys.argv[2])
    from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
    run_job(cfg, trainer, DistillationModelPT(cfg.model, trainer, model_class=DistillableMTEncDecModel))
"""
NEVER = -1


@pytest.fixture
def train(corpus, teacher_path, tmp_path):
    """Trains in a process of its own, into a folder, and returns the process's exit code."""
    script = tmp_path / "train.py"
    script.write_text(TRAIN, encoding="utf-8")

    def run(folder, *more, killed_at=NEVER, by=signal.SIGKILL):
        overrides = [
            f"model.distillation.model_path={teacher_path}", "model.distillation.student_train_loss_weight=0.5",
            f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
            f"model.validation_ds.src_file_name={corpus}/val.de", f"model.validation_ds.tgt_file_name={corpus}/val.en",
            "~model.test_ds", "model.encoder.hidden_size=16", "model.decoder.hidden_size=16",
            "model.encoder.num_layers=1", "model.decoder.num_layers=1", "model.beam_size=1",
            "model.train_ds.num_workers=0", "model.train_ds.tokens_in_batch=100", "+trainer.enable_progress_bar=false",
            "+trainer.max_steps=14", "+trainer.val_check_interval=4", "trainer.log_every_n_steps=1",
            f"+exp_manager.explicit_log_dir={folder}", "+exp_manager.resume_if_exists=true",
        ]  # fmt: skip
        arguments = [str(SCRIPTS / "conf"), str(tmp_path), str(killed_at), str(int(by)), *overrides, *more]
        return run_script(script, *arguments, cwd=tmp_path)

    return run


def logged(folder, name):
    values = {}
    for events in sorted(folder.rglob("events*"), key=lambda path: path.stat().st_mtime):
        accumulator = EventAccumulator(str(events)).Reload()
        if name in accumulator.Tags()["scalars"]:
            values |= {event.step: event.value for event in accumulator.Scalars(name)}
    return values


def recorded(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_killed_training_resumes_with_the_losses_and_weights_of_an_uninterrupted_one(train, teacher_path, tmp_path):
    own = "model.distillation.on_policy.share=0.5"  # samples of the student's in some steps, before and after
    whole = train(tmp_path / "whole", own)
    assert whole.returncode == 0, whole.stderr
    assert train(tmp_path / "killed", own, killed_at=10).returncode == -9
    assert recorded(tmp_path / "killed")["status"] == "running"
    resumed = train(tmp_path / "killed", own)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("train_loss", "on_policy_tokens"):
        expected, found = (logged(tmp_path / folder, name) for folder in ("whole", "killed"))
        assert sorted(expected) == sorted(found) == list(range(14))
        assert found == expected
    drawn = [step for step, tokens in sorted(found.items()) if tokens]
    assert drawn[0] < 8 and drawn[-1] >= 10 and len(drawn) < 14  # the last checkpoint is of step 8
    records = [recorded(tmp_path / name) for name in ("whole", "killed")]
    assert [(record["status"], record["steps"]) for record in records] == [("finished", 14)] * 2
    assert records[0]["target_tokens"] == records[1]["target_tokens"] > 14
    assert records[0]["epochs"] == records[1]["epochs"] > 1
    assert [record["tokens_in_batch"] for record in records] == [100, 100]
    assert records[0]["settings"]["teachers"] == [fingerprint(teacher_path)]
    assert records[0]["models"] == [fingerprint(next((tmp_path / "whole").rglob("*.nemo")))]
    assert records[0]["best"]["monitor"] == "val_loss" and records[0]["seconds"] > 0
    (card,) = (tmp_path / "whole").rglob("*.md")
    assert (
        f"SHA-256: `{records[0]['models'][0]['sha256']}`" in card.read_text()
        and "status: finished" in card.read_text()
    )
    assert records[0]["parameters"] > 0 and records[0]["teacher_parameters"] > 0
    weights = [
        torch.load(next((tmp_path / name).rglob("*-last.ckpt")), weights_only=False)["state_dict"]
        for name in ("whole", "killed")
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    (tmp_path / "killed").rename(tmp_path / "moved")  # from where the best score is read from the checkpoints' names
    again = train(tmp_path / "moved", own)
    assert again.returncode == 0, again.stderr
    assert recorded(tmp_path / "moved")["status"] == "finished"
    assert recorded(tmp_path / "moved")["best"]["value"] == pytest.approx(records[1]["best"]["value"], abs=1e-4)


def test_a_training_does_not_go_on_with_other_settings_or_over_an_earlier_one(train, tmp_path):
    """One that has begun is only asked for: nothing is trained here."""
    began = train(tmp_path / "run", "++trainer.max_steps=4")
    assert began.returncode == 0, began.stderr
    before = (tmp_path / "run" / "run.json").read_bytes()
    for overrides, sentence in (
        (
            ["model.distillation.temperature=2", "++seed=3"],
            "model.distillation.temperature was 1.0 and is 2; seed was 0 and is 3",
        ),
        (["++exp_manager.resume_if_exists=false"], "holds a training already: exp_manager.resume_if_exists=true goes"),
    ):
        refused = train(tmp_path / "run", "++trainer.max_steps=4", *overrides)
        assert refused.returncode == 1 and sentence in refused.stderr
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    longer = train(tmp_path / "run", "++trainer.max_steps=8", "trainer.log_every_n_steps=2")
    assert longer.returncode == 0 and recorded(tmp_path / "run")["steps"] == 8
    rates = logged(tmp_path / "run", "lr")
    assert rates[3] > rates[5] > rates[7] > 0


def test_a_training_that_may_stop_early_goes_on_after_the_last_validation_of_an_epoch(train, tmp_path):
    """It was killed right after that: its last checkpoint is of the end of the epoch."""
    epochs = [
        "model.train_ds.tokens_in_batch=4000", "++trainer.val_check_interval=1.0", "++trainer.max_steps=6",
        "+exp_manager.create_early_stopping_callback=true",
        "+exp_manager.early_stopping_callback_params={monitor: val_loss, patience: 9}",
    ]  # fmt: skip
    assert train(tmp_path / "run", *epochs, killed_at=3).returncode == -9
    resumed = train(tmp_path / "run", *epochs)
    assert resumed.returncode == 0, resumed.stderr
    assert recorded(tmp_path / "run")["steps"] == 6
    assert logged(tmp_path / "run", "val_loss").keys() == {*range(6)}


def test_a_resumed_training_tests_the_weights_that_it_has():
    tested = []
    trainer = SimpleNamespace(ckpt_path="before.ckpt", test=lambda model: tested.append((model, trainer.ckpt_path)))
    training.run_job(OmegaConf.create({"do_training": False, "do_testing": True}), trainer, "model")
    assert tested == [("model", None)]


def test_two_trainings_do_not_write_into_one_folder(train, tmp_path):
    (checkpoints := tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with locked(checkpoints / LOCK):
        refused = train(tmp_path / "run")
    assert refused.returncode == 1 and f"another process is training into '{checkpoints}'" in refused.stderr
    assert [*(tmp_path / "run").iterdir()] == [checkpoints]


def test_a_training_does_not_write_over_a_model_of_unknown_origin_such_as_its_teacher(train, teacher_path, tmp_path):
    (own := tmp_path / "run" / "checkpoints" / "AAYNBaseDistill.nemo").parent.mkdir(parents=True)
    shutil.copy(teacher_path, own)
    refused = train(tmp_path / "run", f"model.distillation.model_path={own}")
    assert refused.returncode == 1 and f"'{own}' is there, but no training" in refused.stderr
    assert own.read_bytes() == teacher_path.read_bytes()


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_ends_with_an_error_code_and_says_how_to_go_on(train, tmp_path, by):
    interrupted = train(tmp_path / "run", killed_at=5, by=by)
    assert interrupted.returncode == 1
    assert "Training was interrupted. The same command goes on from the last checkpoint." in interrupted.stderr
    assert not list((tmp_path / "run").rglob("*.nemo"))
    assert recorded(tmp_path / "run")["status"] == "interrupted"
    (saved,) = (tmp_path / "run").rglob("*-last.ckpt")
    assert torch.load(saved, weights_only=False)["global_step"] == 5


@pytest.mark.parametrize(
    ("manager", "said"),
    [
        (None, "Without exp_manager, nothing of it was saved."),
        ({"explicit_log_dir": "x", "resume_if_exists": True}, "The same command goes on from the last checkpoint."),
        ({"explicit_log_dir": "x"}, "With +exp_manager.resume_if_exists=true the same command goes on"),
        (
            {"resume_if_exists": False},
            "With +exp_manager.explicit_log_dir=made/by/nemo exp_manager.resume_if_exists=true the same command goes on",
        ),
    ],
)
def test_an_interrupted_training_names_the_keys_with_which_the_same_command_goes_on(manager, said):
    trainer = SimpleNamespace(default_root_dir="made/by/nemo")
    assert said in training._how_to_go_on(OmegaConf.create({"exp_manager": manager}), trainer)


def test_a_folder_with_an_odd_name_is_told_as_it_is_to_be_typed():
    trainer = SimpleNamespace(default_root_dir="nemo experiments/Größe")
    said = training._how_to_go_on(OmegaConf.create({"exp_manager": {"resume_if_exists": True}}), trainer)
    _, typed, *_ = shlex.split(said.split(". ")[1])
    assert parsed(typed) == ("exp_manager.explicit_log_dir", "nemo experiments/Größe")


def test_a_training_stops_early_by_the_score_of_a_set_named_in_the_config(train, corpus, tmp_path):
    """The second validation is not 100 points of BLEU better than the first, and ends the training."""
    files = [
        f"model.validation_ds.{key}_file_name=[{corpus}/val.{language},{corpus}/test.{language}]"
        for key, language in (("src", "de"), ("tgt", "en"))
    ]
    stopping = "{monitor: val_sacreBLEU_flickr, mode: max, patience: 1, min_delta: 100}"
    own = [
        *files, "model.validation_ds.names=[newstest,flickr]",
        "+exp_manager.create_early_stopping_callback=true", "+exp_manager.checkpoint_callback_params.mode=max",
        "+exp_manager.checkpoint_callback_params.save_best_model=true",
        "+exp_manager.checkpoint_callback_params.monitor=val_sacreBLEU_flickr",
        f"+exp_manager.early_stopping_callback_params={stopping}",
    ]  # fmt: skip
    for _ in range(2):  # the second time, nothing is left to do
        stopped = train(tmp_path / "run", *own)
        assert stopped.returncode == 0, stopped.stderr
        assert sorted(logged(tmp_path / "run", "train_loss")) == list(range(8))
        assert recorded(tmp_path / "run")["steps"] == 8  # and not the best checkpoint's


def test_epochs_that_end_a_training_before_its_steps_are_told(train, tmp_path):
    batches = "model.train_ds.tokens_in_batch=4000"
    ended = train(
        tmp_path / "run",
        batches,
        "++trainer.max_steps=1000",
        "++trainer.val_check_interval=1.0",
        "trainer.max_epochs=1",
    )
    assert ended.returncode == 0, ended.stderr
    steps = recorded(tmp_path / "run")["steps"]
    (line,) = [line for line in ended.stderr.splitlines() if "ended the training" in line]
    assert f"trainer.max_epochs=1 ended the training after {steps} of trainer.max_steps=1000 steps" in line


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.val_check_interval=1000"], "trainer: `val_check_interval` (1000) must be"),
        (
            [
                "+exp_manager.create_early_stopping_callback=true",
                "+exp_manager.early_stopping_callback_params={monitor: train_losss, patience: 1}",
            ],
            "trainer: Early stopping conditioned on metric `train_losss`",
        ),
    ],
)
def test_keys_that_only_a_training_shows_to_be_wrong_are_told(train, tmp_path, overrides, sentence):
    failed = train(tmp_path / "run", *overrides)
    assert failed.returncode == 1
    assert "ConfigurationError" in failed.stderr and sentence in failed.stderr


@pytest.mark.parametrize(
    ("section", "expected"),
    [(None, False), ({"name": "x"}, False), ({"resume_if_exists": False}, False), ({"resume_if_exists": True}, True)],
)
def test_a_training_goes_on_where_its_config_says_so(section, expected):
    assert resumes(OmegaConf.create({"exp_manager": section})) is expected
