"""Scores of several sets by name, on one device without a process group and on two."""

import json
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
from omegaconf import OmegaConf

from nemo_distill import DistillableMTEncDecModel
from nemo_distill.models import named_evaluation
from nemo_distill.models.named_evaluation import NamedEvaluationMixin, _gather, set_names
from tests.conftest import tiny_config
from tests.forked import run_script

EVALUATE = """
import json, os, sys
import lightning.pytorch as pl
from omegaconf import OmegaConf
from nemo_distill import DistillableMTEncDecModel
cfg = OmegaConf.load(sys.argv[1])
trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False,
                     enable_progress_bar=False, enable_checkpointing=False, default_root_dir=sys.argv[2])
pl.seed_everything(0)
model = DistillableMTEncDecModel(cfg, trainer=trainer)
scores = trainer.validate(model, verbose=False)[0]
if trainer.global_rank == 0:
    print("SCORES", json.dumps(scores))
"""


@pytest.fixture
def config(corpus, tokenizer):
    cfg = tiny_config(tokenizer, corpus)
    files = [corpus / "val", corpus / "test", corpus / "train"]
    cfg.validation_ds.src_file_name = [f"{file}.de" for file in files]
    cfg.validation_ds.tgt_file_name = [f"{file}.en" for file in files]
    cfg.validation_ds.names = ["newstest", "flickr", "seen"]
    cfg.validation_ds.tokens_in_batch = 60  # several batches a set, an odd number of them in one
    return cfg


def validate_on_two(cfg, folder):
    path, script = folder / "model.yaml", folder / "evaluate.py"
    OmegaConf.save(cfg, path)
    script.write_text(EVALUATE, encoding="utf-8")
    result = run_script(script, str(path), str(folder), cwd=folder, devices=2)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("SCORES")] or [result.stderr]
    return json.loads(line.removeprefix("SCORES "))


def validate(cfg, folder):
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(accelerator="cpu", default_root_dir=folder, **options)
    pl.seed_everything(0)
    return trainer.validate(DistillableMTEncDecModel(cfg, trainer=trainer), verbose=False)[0]


def test_every_set_is_scored_under_its_name(config, tmp_path):
    scores = validate(config, tmp_path)
    names = ("newstest", "flickr", "seen")
    expected = {"val_loss", "val_sacreBLEU", "val_loss_avg", "val_sacreBLEU_avg"}
    expected |= {f"val_{metric}_{name}" for metric in ("loss", "sacreBLEU") for name in names}
    assert set(scores) == expected
    assert scores["val_loss"] == scores["val_loss_newstest"]
    assert scores["val_loss_avg"] == pytest.approx(sum(scores[f"val_loss_{name}"] for name in names) / 3)


def test_two_processes_score_as_one(config, tmp_path):
    one, two = validate(config, tmp_path), validate_on_two(config, tmp_path)
    assert set(one) == set(two)
    assert {name: pytest.approx(value, rel=1e-5) for name, value in one.items()} == two


def test_the_loss_is_the_mean_over_real_tokens(config, tmp_path):
    losses = []
    for tokens in (60, 2000):  # other batches, other padding
        config.validation_ds.tokens_in_batch = tokens
        losses.append(validate(config, tmp_path)["val_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_names_default_to_the_files_own():
    section = OmegaConf.create({"src_file_name": ["a/x.de", "b/x.de", "c/y.de"], "names": None})
    assert set_names(section) == ["x_0", "x_1", "y"]
    assert set_names(OmegaConf.create({"src_file_name": "a/val.de"})) == ["val"]


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.de", "b/x.de", "c/x_0.de"], ["x_0", "x_1", "x_0_2"]),
        (["avg.de", "x.de"], ["avg_0", "x"]),  # `avg` is the mean
    ],
)
def test_no_score_of_a_set_takes_the_name_of_another(files, names):
    assert set_names({"src_file_name": files}) == names


@pytest.mark.parametrize(
    ("language", "chosen", "tokenizer"),
    [("ignore", None, "zh"), ("en", None, "zh"), ("zh", None, "zh"), ("zh", "char", "char")],
)
def test_bleu_follows_the_script_of_the_references(config, monkeypatch, language, chosen, tokenizer):
    """By 13a, which sees one word a sentence, the score would be 0 and the best checkpoint a matter of chance."""
    said = []
    monkeypatch.setattr(named_evaluation.console, "info", said.append)
    config.tgt_language, config.bleu_tokenizer = language, chosen
    model = SimpleNamespace(
        multilingual=False,
        tgt_language=language,
        cfg=config,
        global_rank=0,
        trainer=SimpleNamespace(sanity_checking=False),
    )
    step = {"inputs": ["dog"], "translations": ["我很喜欢你的狗。"], "ground_truths": ["我很喜欢你的猫。"], "nll": 1.0}
    scores = NamedEvaluationMixin._score_set(model, "val", "set", [step | {"num_non_pad_tokens": 1}], 0)
    assert scores["sacreBLEU"] > 50
    assert f"(tok:{tokenizer})" in said[0]


def test_on_one_device_steps_stay_in_order():
    assert _gather([{"a": 1}, {"a": 2}], num_batches=2) == [{"a": 1}, {"a": 2}]
