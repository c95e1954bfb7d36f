import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill.config.errors import DataError
from nemo_distill.experiments import training_record
from nemo_distill.experiments.training_record import check_earlier, job_inputs, job_settings, training_summary
from nemo_distill.storage.files import write_json
from nemo_distill.storage.run_record import read_run
from nemo_distill.trainer.training_length import TrainingLength
from tests.teacher_cache.fakes import build_cache, random_pairs


def test_settings_hold_the_resolved_config_and_the_hashes_of_all_teachers(tmp_path):
    teachers = [tmp_path / "a.nemo", tmp_path / "b.nemo"]
    for path in teachers:
        path.write_bytes(path.name.encode())
    distillation = {"model_path": [*map(str, teachers)], "temperature": "${seed}"}
    settings = job_settings(OmegaConf.create({"seed": 5, "model": {"distillation": distillation}}))
    assert settings["config"]["model"]["distillation"]["temperature"] == 5
    expected = [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in teachers]
    assert settings["teachers"] == expected


def test_a_teacher_caches_teacher_is_the_one_that_it_was_made_with(tmp_path):
    made_with = build_cache(tmp_path / "cache", [random_pairs(3, seed=0)])["settings"]
    cfg = OmegaConf.create({"model": {"distillation": {"model_path": None, "teacher_cache": str(tmp_path / "cache")}}})
    assert job_settings(cfg)["teachers"] == [made_with["teacher"]]


def test_a_teacher_of_a_user_that_there_is_not_is_left_to_the_check_of_the_training():
    cfg = OmegaConf.create({"model": {"distillation": {"model_path": "~no_such_user/teacher.nemo"}}})
    assert job_settings(cfg)["teachers"] == []


def test_the_inputs_of_a_training_are_all_that_it_reads_besides_teachers(tmp_path):
    files = {name: tmp_path / name for name in ("a.de", "a.en", "metadata.json", "tokenizer.model", "start.nemo")}
    (tmp_path / "cache").mkdir()
    files["manifest.json"] = tmp_path / "cache" / "manifest.json"
    for path in files.values():
        path.write_text(path.name)
    model = {
        "train_ds": {"src_file_name": [str(files["a.de"])], "tgt_file_name": str(files["a.en"])},
        "validation_ds": {"metadata_file": str(files["metadata.json"])},
        "encoder_tokenizer": {"tokenizer_model": str(files["tokenizer.model"])},
        "distillation": {"teacher_cache": str(tmp_path / "cache")},
    }
    cfg = OmegaConf.create({"model": model, "init_from_nemo_model": str(files["start.nemo"])})
    before = job_inputs(cfg)
    assert set(before) == set(map(str, files.values()))
    for path in files.values():
        path.write_text("another text")
    assert not set(before.items()) & set(job_inputs(cfg).items())


BEGUN = {
    "name": "student", "do_training": True, "do_testing": False, "seed": 1,
    "exp_manager": {"explicit_log_dir": "runs"},
    "trainer": {
        "max_steps": 5, "devices": 1, "precision": 32, "accumulate_grad_batches": 1, "gradient_clip_val": 1.0,
        "gradient_clip_algorithm": "norm", "limit_train_batches": 1.0, "overfit_batches": 0.0,
    },
    "model": {"test_ds": {"path": "a"}, "train_ds": {"num_workers": 1, "pin_memory": False, "tokens_in_batch": 9}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "is_free"),
    [
        *((key, True) for key in ("name", "do_training", "do_testing", "exp_manager.explicit_log_dir")),
        *((f"trainer.{key}", True) for key in ("max_steps", "devices")),
        *((f"model.{key}", True) for key in ("test_ds.path", "train_ds.num_workers", "train_ds.pin_memory")),
        *((key, False) for key in ("seed", "model.train_ds.tokens_in_batch")),
        *((f"trainer.{key}", False) for key in BEGUN["trainer"] if key not in ("max_steps", "devices")),
    ],
)
def test_a_training_goes_on_only_with_what_decides_on_its_weights(key, is_free):
    changed = OmegaConf.create(BEGUN)
    before = OmegaConf.select(changed, key)
    OmegaConf.update(changed, key, 7)
    records = [
        {"settings": {"config": config, "teachers": []}, "inputs": {}}
        for config in (BEGUN, OmegaConf.to_object(changed))
    ]
    expected = [] if is_free else [f"{key} was {before} and is 7"]
    assert training_record._changes_since(*records) == expected


def test_a_training_does_not_go_on_with_other_teachers_or_text():
    def record(teacher, **inputs):
        return {"settings": {"config": BEGUN, "teachers": [teacher]}, "inputs": inputs}

    begun = record("a", text="1", gone="2")
    assert training_record._changes_since(begun, record("a", text="1", new="3")) == []
    assert training_record._changes_since(begun, record("a", text="2")) == ["'text' has changed since"]
    assert training_record._changes_since(begun, record("b")) == ["teachers was ['a'] and is ['b']"]
    assert training_record._changes_since({"status": "failed"}, record("b")) == []


def test_a_model_that_no_training_in_the_folder_has_written_is_not_written_over(tmp_path):
    (tmp_path / "there.nemo").touch()
    begun = {"settings": {"config": BEGUN, "teachers": []}, "inputs": {}}
    with pytest.raises(DataError, match="there.nemo' is there, but no training that has written it"):
        check_earlier(tmp_path, tmp_path, None, begun, resumes=True)
    check_earlier(tmp_path, tmp_path, begun, begun, resumes=True)
    with pytest.raises(DataError, match="holds a training already"):
        check_earlier(tmp_path, tmp_path, begun, begun, resumes=False)
    (tmp_path / "last.ckpt").touch()
    check_earlier(tmp_path, tmp_path, None, begun, resumes=True)


def test_a_summary_shows_what_is_known(tmp_path):
    model = tmp_path / "student.nemo"
    known = {"steps": 4000, "epochs": 2.3456, "target_tokens": 6902995, "seconds": 1206.4, "parameters": 1496384}
    known |= {"best": {"monitor": "val_sacreBLEU", "value": 29.654}, "teacher_parameters": 20831168}
    assert training_summary(known, [model]) == [
        ("steps", "4,000"),
        ("epochs", "2.3"),
        ("target tokens", "6,902,995"),
        ("time", "0:20:06"),
        ("best val_sacreBLEU", "29.654"),
        ("parameters", "1,496,384, the teacher's 20,831,168"),
        ("model", str(model)),
    ]
    unknown = {"steps": None, "target_tokens": None, "seconds": 2.0, "best": None, "parameters": None}
    assert training_summary(unknown, []) == [("time", "0:00:02")]


@pytest.mark.parametrize(
    ("before", "steps", "epochs", "tokens"),
    [
        (None, 5, 0.5, 100),
        ({}, None, None, None),
        ({"steps": 7, "epochs": 1.25, "target_tokens": 200}, 12, 1.75, 300),
        ({"steps": 7, "epochs": None}, 12, None, None),
        ({"status": "failed"}, None, None, None),
    ],
)
def test_the_length_of_a_training_includes_that_of_the_model_that_it_started_from(before, steps, epochs, tokens):
    assert training_record._sum({"steps": 5, "epochs": 0.5, "target_tokens": 100}, before) == {
        "steps": steps,
        "epochs": epochs,
        "target_tokens": tokens,
    }


def test_a_training_from_a_model_without_a_record_is_of_unknown_length(tmp_path):
    start = tmp_path / "start.nemo"
    start.write_bytes(b"weights")
    assert training_record._started_from(OmegaConf.create({})) is None
    before = training_record._started_from(OmegaConf.create({"init_from_nemo_model": str(start)}))
    trainer = SimpleNamespace(
        callbacks=[TrainingLength()], checkpoint_callback=None, callback_metrics={}, global_step=5,
        default_root_dir=tmp_path, lightning_module=SimpleNamespace(number_of_parameters=lambda: 1),
    )  # fmt: skip
    write_json(tmp_path / "run.json", training_record._outcome(trainer, None))
    assert read_run(tmp_path)["steps"] == 5
    write_json(tmp_path / "run.json", training_record._outcome(trainer, before))
    record = read_run(tmp_path)
    assert record["steps"] is None and record["target_tokens"] is None and record["parameters"] == 1


def test_the_record_of_a_training_that_diverged_is_json():
    checkpoint = SimpleNamespace(best_model_score=torch.tensor(float("nan")), monitor="val_loss", dirpath=None)
    trainer = SimpleNamespace(
        callbacks=[TrainingLength()], checkpoint_callback=checkpoint, global_step=5, default_root_dir="nowhere",
        callback_metrics={"val_loss": torch.tensor(float("inf")), "val_sacreBLEU": torch.tensor(2.0)},
        lightning_module=SimpleNamespace(number_of_parameters=lambda: 1),
    )  # fmt: skip
    record = training_record._outcome(trainer, None)
    json.dumps(record, allow_nan=False)
    assert record["best"] is None and record["scores"] == {"val_loss": None, "val_sacreBLEU": 2.0}


@pytest.mark.parametrize(
    ("train_ds", "expected"),
    [({"tokens_in_batch": 100}, 800), ({"tokens_in_batch": 100, "metadata_file": "there.json"}, None), (None, None)],
)
def test_the_tokens_of_a_step_are_those_of_all_its_batches_and_devices(train_ds, expected):
    trainer = SimpleNamespace(accumulate_grad_batches=4, world_size=2)
    assert training_record._tokens_in_batch(OmegaConf.create({"model": {"train_ds": train_ds}}), trainer) == expected
