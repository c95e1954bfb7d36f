import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.evaluation.comet import CometSettings, comet_scores

# The share of sentences that are their reference. It also prints, and writes more to its error output than a pipe holds.
# Fails on the word "broken", and where it is not told to stay off the network.
PACKAGE = """
import os
import sys
from types import SimpleNamespace

class Model:
    def predict(self, samples, batch_size, gpus, progress_bar):
        print("scoring")
        sys.stderr.write("a warning\\n" * 100_000)
        if samples[0]["mt"] == "which GPU":
            return SimpleNamespace(system_score=os.environ.get("CUDA_VISIBLE_DEVICES", "-1").replace(",", "."))
        if any(sample["mt"] == "broken" for sample in samples):
            raise ValueError("cannot be scored")
        right = [sample["mt"] == sample["ref"] and bool(sample["src"]) for sample in samples]
        return SimpleNamespace(system_score=sum(right) / len(right))

def load_from_checkpoint(path, local_files_only=False):
    if not local_files_only or open(path).read() != "weights":
        raise ValueError("cannot be loaded")
    return Model()
"""


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint, and a package of COMET's name that a new Python process finds."""
    packages = tmp_path / "packages"
    (packages / "unbabel_comet-9.9.dist-info").mkdir(parents=True)
    (packages / "unbabel_comet-9.9.dist-info" / "METADATA").write_text("Name: unbabel-comet\nVersion: 9.9\n")
    (packages / "comet.py").write_text(PACKAGE)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    (tmp_path / "model.ckpt").write_text("weights")
    return tmp_path / "model.ckpt"


def test_every_system_gets_a_score_and_a_signature(checkpoint):
    settings = CometSettings(checkpoint=str(checkpoint))
    assert settings.problems() == []
    scores = dict(comet_scores(settings, ["a", "b"], {"good": ["x", "z"], "bad": ["x", "y"]}, ["x", "z"]))
    assert {name: score.value for name, score in scores.items()} == {"good": 1.0, "bad": 0.5}
    assert scores["bad"].signature.startswith("COMET|model:model.ckpt|sha256:")
    assert scores["bad"].signature.endswith("|version:9.9")


@pytest.mark.parametrize(
    ("visible", "device", "seen"),
    [(None, "cpu", -1), (None, "cuda", -1), (None, "cuda:1", 1), ("5,7", "cuda:1", 7), ("5,7", "cuda", 5.7)],
)
def test_the_gpu_of_the_evaluation_is_the_one_that_comet_sees(checkpoint, monkeypatch, visible, device, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    settings = CometSettings(checkpoint=str(checkpoint))
    ((_, score),) = comet_scores(settings, ["a"], {"system": ["which GPU"]}, ["x"], device)
    assert score.value == seen


def test_a_checkpoint_is_found_by_a_path_from_the_working_directory(checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    settings = CometSettings(checkpoint=checkpoint.name)
    assert settings.problems() == []
    assert dict(comet_scores(settings, ["a"], {"good": ["x"]}, ["x"]))["good"].value == 1.0


def test_scores_depend_on_the_checkpoint_its_hparams_and_the_package(checkpoint, tmp_path):
    deeper = tmp_path / "model" / "checkpoints" / "model.ckpt"
    deeper.parent.mkdir(parents=True)
    deeper.write_text("weights")
    settings = CometSettings(checkpoint=str(deeper))
    first = settings.made_by()
    assert first["version"] == "9.9" and "hparams" not in first
    (tmp_path / "model" / "hparams.yaml").write_text("layer: mix")
    assert settings.made_by() != first


def test_what_comet_says_when_it_fails_is_told(checkpoint):
    checkpoint.write_text("other weights")
    with pytest.raises(DataError, match="(?s)ended with an error:.*cannot be loaded"):
        list(comet_scores(CometSettings(checkpoint=str(checkpoint)), ["a"], {"good": ["x"]}, ["x"]))


def test_a_score_is_there_before_the_next_system_is_scored(checkpoint):
    scores = comet_scores(CometSettings(checkpoint=str(checkpoint)), ["a"], {"good": ["x"], "bad": ["broken"]}, ["x"])
    name, score = next(scores)
    assert (name, score.value) == ("good", 1.0)
    with pytest.raises(DataError, match="cannot be scored"):
        next(scores)


def test_what_is_missing_is_told_and_nothing_is_asked_of_who_wants_no_comet(tmp_path):
    problems = CometSettings(checkpoint=str(tmp_path / "none.ckpt"), python=str(tmp_path / "python")).problems()
    assert "does not exist" in problems[0] and "pip install unbabel-comet" in problems[1]
    assert CometSettings().problems() == []
