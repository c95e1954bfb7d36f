import sys
from types import ModuleType, SimpleNamespace

import pytest

from nemo_distill.evaluation.comet import Comet, comet_problems


class FakeModel:
    def predict(self, samples, batch_size, gpus, progress_bar):
        right = [sample["mt"] == sample["ref"] and bool(sample["src"]) for sample in samples]
        return SimpleNamespace(system_score=sum(right) / len(right))


@pytest.fixture
def package(monkeypatch):
    """A package that loads `FakeModel`, and remembers how it was asked to."""
    package = ModuleType("comet")
    package.__spec__ = SimpleNamespace()
    package.loaded = []

    def load_from_checkpoint(path, **options):
        package.loaded.append(options)
        return FakeModel()

    package.load_from_checkpoint = load_from_checkpoint
    monkeypatch.setitem(sys.modules, "comet", package)
    return package


def test_a_checkpoint_scores_and_signs_and_fetches_nothing(package, tmp_path):
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"weights")
    score = Comet(str(checkpoint)).score(["a", "b"], ["x", "y"], ["x", "z"])
    assert score.value == 0.5
    assert score.signature.startswith("COMET|model:model.ckpt|sha256:")
    assert package.loaded == [{"local_files_only": True}]


def test_what_is_missing_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "comet", None)
    monkeypatch.setattr("nemo_distill.evaluation.comet.find_spec", lambda name: None)
    problems = comet_problems(str(tmp_path / "none.ckpt"))
    assert "pip install 'nemo_distill[comet]'" in problems[0] and "does not exist" in problems[1]
    assert comet_problems(None) == []
