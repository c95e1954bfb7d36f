import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillationModelPT
from nemo_distill.core.teachers import average_log_probs, normalized
from tests.core.test_distillation_model import Classifier, config


def test_probabilities_are_averaged_and_not_logarithms():
    logs = [torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()]
    assert torch.allclose(average_log_probs(logs, [0.25, 0.75]).exp(), torch.tensor([0.6, 0.4]))


@pytest.mark.parametrize(
    ("shares", "expected"), [([1, 1], [0.5, 0.5]), ([3, 1], [0.75, 0.25]), ([1e308] * 2, [0.5] * 2)]
)
def test_shares_sum_to_one(shares, expected):
    assert normalized(shares) == expected


@pytest.fixture
def two_teachers(tmp_path):
    paths = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        paths.append(tmp_path / f"teacher{seed}.nemo")
        Classifier(OmegaConf.create({"width": 8})).save_to(str(paths[-1]))
    return [str(path) for path in paths]


def test_a_student_learns_from_the_average_of_its_teachers(two_teachers):
    cfg = config("unused")
    cfg.distillation.update({"model_path": two_teachers, "teacher_weights": [1, 3]})
    model = DistillationModelPT(cfg, model_class=Classifier).eval()
    batch = next(iter(model.train_dataloader()))
    q = sum(w * (t(batch[0]) / 2).softmax(-1) for w, t in zip((0.25, 0.75), model.teachers))
    p = (model.student(batch[0]) / 2).softmax(-1)
    expected = 4 * (q * (q / p).log()).sum(-1).mean()
    assert model.distillation_losses(batch)["primary"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert not any(name.startswith("teacher") for name, _ in model.named_parameters())


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, "much"], [1, 1, 1]])
def test_wrong_weights_are_told(two_teachers, weights):
    cfg = config("unused")
    cfg.distillation.update({"model_path": two_teachers, "teacher_weights": weights})
    with pytest.raises(ConfigurationError, match=r"distillation.teacher_weights.*: must be"):
        DistillationModelPT(cfg, model_class=Classifier)


def test_what_has_no_average_is_refused(two_teachers, monkeypatch):
    monkeypatch.setattr(Classifier, "distillation_tensors", ("log_probs", "hidden"))
    cfg = config("unused")
    cfg.distillation.model_path = two_teachers
    cfg.distillation.loss = {
        "mine": {"_target_": "nemo_distill.losses.CosineEmbeddingLoss", "hidden_states": "hidden"}
    }
    with pytest.raises(
        ConfigurationError, match="reads the teacher's 'hidden', but with 2 teachers only 'log_probs' can be averaged"
    ):
        DistillationModelPT(cfg, model_class=Classifier)
