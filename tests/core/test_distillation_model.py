"""The core with a classifier, which shows that nothing in it knows of translation."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from nemo.core.classes import ModelPT
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from nemo_distill import ConfigurationError, DistillationMixin, DistillationModelPT


class Classifier(DistillationMixin, ModelPT):
    def __init__(self, cfg, trainer=None):
        super().__init__(cfg, trainer=trainer)
        self.hidden = torch.nn.Sequential(torch.nn.Linear(4, cfg.width), torch.nn.Dropout(0.5))
        self.head = torch.nn.Linear(cfg.width, 3)

    def forward(self, inputs):
        logits = self.head(self.hidden(inputs))
        self.distillation_registration_step(logits=logits)
        return logits

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("own_loss", loss)
        return {"loss": loss, "log": {"from_dict": loss}}

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", torch.nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def on_validation_epoch_end(self):
        pass

    def setup_training_data(self, config):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(32, 4, generator=generator)
        self._train_dl = DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(-1)), batch_size=8)

    def setup_validation_data(self, val_data_config):
        self.setup_training_data(val_data_config)
        self._validation_dl = self._train_dl

    setup_multiple_validation_data = setup_validation_data

    @classmethod
    def list_available_models(cls):
        return None


def config(teacher_path, **distillation):
    loss = {"primary": {"_target_": "nemo_distill.losses.KLDivergenceLoss"}}
    return OmegaConf.create(
        {
            "width": 4,
            "train_ds": {},
            "validation_ds": {},
            "optim": {"name": "sgd", "lr": 0.1},
            "distillation": {"model_path": str(teacher_path), "temperature": 2.0, "loss": loss} | distillation,
        }
    )


@pytest.fixture(scope="module")
def teacher_path(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("classifier") / "teacher.nemo"
    Classifier(OmegaConf.create({"width": 8})).save_to(str(path))
    return path


def test_a_model_without_a_teacher_cache_says_so(teacher_path):
    with pytest.raises(ConfigurationError, match="distillation.teacher_cache: not supported for Classifier"):
        DistillationModelPT(config(teacher_path, teacher_cache="cache"), model_class=Classifier)


def fit(cfg, folder, **options):
    pl.seed_everything(0)
    options = {"max_epochs": 2, "logger": False, "enable_checkpointing": False} | options
    trainer = pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options
    )
    model = DistillationModelPT(cfg, trainer, model_class=Classifier)
    trainer.fit(model)
    return model, trainer


def test_a_classifier_learns_from_its_teacher(teacher_path, tmp_path):
    cfg = config(teacher_path)
    pl.seed_everything(0)
    before = DistillationModelPT(cfg, model_class=Classifier)
    after, trainer = fit(cfg, tmp_path, max_epochs=30)
    after.student.log_through(SimpleNamespace(log=lambda *args, **kwargs: None))
    batch = next(iter(after.train_dataloader()))
    assert (
        after.eval().distillation_losses(batch)["primary"] < 0.3 * before.eval().distillation_losses(batch)["primary"]
    )
    assert {"primary_loss", "train_loss", "val_loss", "own_loss"} <= set(trainer.logged_metrics)


def test_the_teacher_stays_as_it_was(teacher_path, tmp_path):
    model, trainer = fit(config(teacher_path), tmp_path)
    untouched = Classifier.restore_from(str(teacher_path)).state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in model.teacher.state_dict().items())
    assert not any(module.training for module in model.teacher.modules())
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert not optimized & {id(parameter) for parameter in model.teacher.parameters()}


def test_a_checkpoint_holds_the_student_alone(teacher_path, tmp_path):
    model, trainer = fit(config(teacher_path), tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    assert set(state) == {f"student.{name}" for name in model.student.state_dict()}


def test_the_teacher_is_in_eval_mode_while_the_student_trains(teacher_path, tmp_path, monkeypatch):
    modes = []
    forward = Classifier.forward

    def watch(self, inputs):
        if self.is_being_distilled():
            modes.append((self.is_student_model(), self.training, torch.is_grad_enabled()))
        return forward(self, inputs)

    monkeypatch.setattr(Classifier, "forward", watch)
    fit(config(teacher_path), tmp_path, max_epochs=1)
    assert set(modes) == {(False, False, False), (True, True, True)}


def test_the_objective_is_the_weighted_sum(teacher_path, tmp_path):
    cfg = config(teacher_path, student_train_loss_weight=0.25)
    cfg.distillation.loss.primary.weight = 3.0
    _, trainer = fit(cfg, tmp_path, max_steps=1, max_epochs=-1)
    logged = trainer.logged_metrics
    assert logged["train_loss"].item() == pytest.approx(
        (3.0 * logged["primary_loss"] + 0.25 * logged["student_loss"]).item()
    )


def test_roles_end_with_a_step_that_failed(teacher_path):
    model = DistillationModelPT(config(teacher_path), model_class=Classifier)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.distillation_losses((torch.zeros(2, 99), torch.zeros(2).long()))
    assert not model.student.is_being_distilled() and not model.teacher.is_being_distilled()


def test_a_loss_of_weight_zero_is_not_asked_of_the_models(teacher_path):
    cfg = config(teacher_path, student_train_loss_weight=1.0)
    cfg.distillation.loss.primary.weight = 0
    model = DistillationModelPT(cfg, model_class=Classifier)
    assert model.loss_terms == []
    assert set(model.distillation_losses(next(iter(model.train_dataloader())))) == {"student"}


def test_what_does_not_fit_is_told_all_at_once(teacher_path):
    cfg = config(teacher_path)
    cfg.distillation.loss = {
        "hidden": {"_target_": "nemo_distill.losses.CosineEmbeddingLoss"},
        "evil": {"_target_": "os.system"},
    }
    with pytest.raises(ConfigurationError) as error:
        DistillationModelPT(cfg, model_class=Classifier)
    assert "reads 'decoder_hidden_states', which the model does not register" in str(error.value)
    assert "_target_=os.system" in str(error.value)


def test_weights_and_temperature_follow_their_schedules(teacher_path):
    cfg = config(teacher_path, student_train_loss_weight={"schedule": "linear", "start": 0, "end": 1, "steps": 4})
    cfg.distillation.temperature = {"schedule": "linear", "start": 4.0, "end": 1.0, "steps": 3}
    cfg.distillation.loss.primary.weight = {"schedule": "cosine", "start": 1, "end": 0, "steps": 2}
    model = DistillationModelPT(cfg, model_class=Classifier).eval()
    batch = next(iter(model.train_dataloader()))
    assert set(model.distillation_losses(batch, step=0)) == {"primary"}
    assert set(model.distillation_losses(batch, step=1)) == {"primary", "student"}
    assert set(model.distillation_losses(batch, step=2)) == {"student"}
    hot, colder = (model.distillation_losses(batch, step)["primary"] for step in (0, 1))
    for temperature, found in ((4.0, hot), (3.0, colder)):
        log_probs = [(m(batch[0]) / temperature).log_softmax(-1) for m in (model.student, model.teacher)]
        expected = temperature**2 * torch.nn.functional.kl_div(*log_probs, reduction="batchmean", log_target=True)
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_weights_that_end_at_zero_together_are_refused_without_the_script_too(teacher_path):
    cfg = config(teacher_path)
    cfg.distillation.loss.primary.weight = {"schedule": "linear", "start": 1, "end": 0, "steps": 2}
    with pytest.raises(ConfigurationError, match=r"from step 2 on.*above 0: loss\.primary\.weight"):
        DistillationModelPT(cfg, model_class=Classifier)


def test_a_step_whose_weights_are_all_zero_changes_nothing(teacher_path, tmp_path):
    cfg = config(teacher_path)
    cfg.distillation.loss.primary.weight = {"schedule": "linear", "start": 0, "end": 1, "steps": 2}
    pl.seed_everything(0)
    fresh = DistillationModelPT(cfg, model_class=Classifier).student.state_dict()
    one, trainer = fit(cfg, tmp_path, max_steps=1, max_epochs=-1)
    two, _ = fit(cfg, tmp_path, max_steps=2, max_epochs=-1)
    assert trainer.logged_metrics["train_loss"] == 0
    assert all(torch.equal(value, fresh[name]) for name, value in one.student.state_dict().items())
    assert not torch.equal(two.student.head.weight, fresh["head.weight"])


def test_a_compiled_classifier_has_the_losses_of_an_uncompiled_one_in_two_graphs(teacher_path, fresh_compiler):
    losses = []
    for backend in (None, "eager"):
        pl.seed_everything(0)
        cfg = config(teacher_path, student_train_loss_weight=1.0, compile=backend)
        cfg.distillation.temperature = {"schedule": "linear", "start": 4.0, "end": 1.0, "steps": 3}
        model = DistillationModelPT(cfg, model_class=Classifier).eval()
        batches = enumerate(model.train_dataloader())
        losses.append([sum(model.distillation_losses(batch, step).values()).item() for step, batch in batches])
    assert losses[0] == pytest.approx(losses[1])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
