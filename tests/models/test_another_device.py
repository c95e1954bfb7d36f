"""Trainings, caches, searches and scores on another device than the CPU give what they give on it."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import DistillableMTEncDecModel
from nemo_distill.decoding.nemo_engines import CachedEngine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.models.scoring import PairScorer
from nemo_distill.models.translation_teacher import TranslationTeacher
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.another_device import another_device
from tests.conftest import SCRIPTS, tiny_config
from tests.models.conftest import distillation_of
from tests.models.test_cached_teacher import make_cache

LINES = ["der Hund sieht", "rot Haus", "ein Mann sieht Haus und Hund"]
METHODS = (
    "across_vocabularies", "attention", "hidden", "jensen_shannon", "on_policy", "reverse_kl", "selective", "top_one",
    "triple", "word_level",
    "word_level_kl",
)  # fmt: skip


@pytest.fixture
def batch(corpus, tokenizer, teacher_path):
    """The longest of the training data."""
    teacher = TranslationTeacher(teacher_path, tiny_config(tokenizer, corpus).train_ds, "cpu", "float32", {})
    return max(teacher.batches(), key=lambda batch: batch[0].numel())


def loss_and_gradients(config, folder, batch, device=None):
    """Returns the loss of a batch, and the norms of its gradients by the weights' names."""
    torch.manual_seed(0)
    model = distillation_of(config, folder).eval()
    model.log = lambda *args, **kwargs: None
    model.student.log_through(model)
    if device:
        model.to(device)
        assert all(weight.device == device for weight in model.parameters())
        batch = [tensor.to(device) for tensor in batch]
    model._optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = model.training_step(batch, 0)
    loss.backward()
    gradients = {
        name: weight.grad.norm().item() for name, weight in model.named_parameters() if weight.grad is not None
    }
    return loss.item(), gradients


def assert_same_elsewhere(config, folder, batch):
    loss, gradients = loss_and_gradients(config, folder, batch)
    with another_device() as device:
        loss_elsewhere, gradients_elsewhere = loss_and_gradients(config, folder, batch, device)
    assert loss > 0.01 and loss_elsewhere == pytest.approx(loss, rel=1e-5)
    assert len(gradients) > 10 and gradients_elsewhere == pytest.approx(gradients, rel=1e-4, abs=1e-6)


def test_a_tensor_that_was_left_behind_is_found():
    with another_device() as device:
        there = torch.ones(3, device=device)
        assert (there + torch.ones(3).to(device)).sum().item() == 6
        assert (there * torch.tensor(2.0)).tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match="tensors of the CPU, of shape .*3.*, beside others"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="tensors of the CPU"):
            there[torch.tensor([0, 1])].cpu() + there


@pytest.mark.parametrize("method", METHODS)
def test_each_method_trains_elsewhere(distillation_config, batch, tmp_path, method, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # by which on_policy draws the first step
    preset = OmegaConf.load(SCRIPTS / "conf" / "distillation" / f"{method}.yaml")
    distillation_config.distillation = OmegaConf.merge(distillation_config.distillation, preset)
    if method == "across_vocabularies":  # hidden states are not compared
        distillation_config.distillation.update({"cosine_loss_weight": 0.0, "distill_encoder": False})
    assert_same_elsewhere(distillation_config, tmp_path, batch)


@pytest.mark.parametrize(
    "change",
    [
        {"fused": False},
        {"temperature": 1.0},
        {"iterations": 2},
        {"share_encoder": True, "distill_encoder": False},
    ],
)
def test_each_way_of_training_works_elsewhere(distillation_config, batch, tmp_path, change):
    distillation_config.shared_embeddings = not change.get("share_encoder")
    distillation_config.distillation = OmegaConf.merge(distillation_config.distillation, change)
    assert_same_elsewhere(distillation_config, tmp_path, batch)


def test_several_teachers_work_elsewhere(distillation_config, teacher_path, batch, tmp_path):
    distillation_config.distillation.model_path = [str(teacher_path)] * 2
    distillation_config.distillation.update({"cosine_loss_weight": 0.0, "distill_encoder": False})
    assert_same_elsewhere(distillation_config, tmp_path, batch)


@pytest.mark.parametrize("tail", ["uniform", "renormalize"])
def test_a_student_learns_from_a_cache_elsewhere(distillation_config, teacher_path, corpus, batch, tmp_path, tail):
    cache = make_cache(teacher_path, tmp_path / "cache", [corpus / "train.de"])
    from_cache = {
        "model_path": None,
        "teacher_cache": str(cache),
        "teacher_cache_tail": tail,
        "cosine_loss_weight": 0.0,
    }
    distillation_config.distillation = OmegaConf.merge(distillation_config.distillation, from_cache)
    assert_same_elsewhere(distillation_config, tmp_path, batch)


@pytest.mark.parametrize(
    "settings",
    [
        SearchSettings(beam_size=1),
        SearchSettings(beam_size=4, n_best=4),
        SearchSettings(method="sample", n_best=3, top_k=20, top_p=0.9, temperature=0.8),
    ],
)
def test_our_search_finds_the_same_elsewhere(trained_path, settings, monkeypatch):
    # Tensors of inference mode cannot say that they are elsewhere.
    monkeypatch.setattr(CachedEngine, "translate", torch.no_grad()(CachedEngine.translate.__wrapped__))

    def found(model):
        engine = CachedEngine([model])
        return [[one.text for one in translation.hypotheses] for translation in engine.translate(LINES, settings)]

    here = found(restore_for_inference(DistillableMTEncDecModel, trained_path))
    with another_device() as device:
        assert found(restore_for_inference(DistillableMTEncDecModel, trained_path).to(device)) == here


def test_pairs_have_the_same_scores_elsewhere(trained_path):
    def scores(model):
        return PairScorer(model).score(LINES, LINES[::-1])

    here = scores(restore_for_inference(DistillableMTEncDecModel, trained_path))
    with another_device() as device:
        there = scores(restore_for_inference(DistillableMTEncDecModel, trained_path).to(device))
    assert there == pytest.approx(here, rel=1e-5)


def test_a_teacher_is_cached_elsewhere(teacher_path, corpus, tmp_path):
    here = make_cache(teacher_path, tmp_path / "here", [corpus / "train.de"])
    with another_device() as device:
        there = make_cache(teacher_path, tmp_path / "there", [corpus / "train.de"], device=str(device))
    shards = [path.name for path in here.iterdir() if path.is_file()]
    assert len(shards) > 2
    for name in shards:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
