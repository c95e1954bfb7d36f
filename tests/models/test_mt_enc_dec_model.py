import os
import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.commands.training import run_job, start_from_nemo
from nemo_distill.core.registry import DistillationRegistry, Role, consumed_tensors
from nemo_distill.evaluation.systems import System
from nemo_distill.models.named_evaluation import squeeze_batch
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import fingerprint
from tests.conftest import tiny_config, train_sentencepiece
from tests.models.conftest import distill, distillation_of, quiet_trainer

RESTORE_WITHOUT_US = """
import sys
sys.modules["nemo_distill"] = None  # an import of it would fail
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
model = MTEncDecModel.restore_from(sys.argv[1]).eval()
lines = ["der Hund sieht", "rot Haus"]
print("TRANSLATIONS", [model.translate([line])[0] for line in lines], type(model).__name__)
"""


def test_a_distilled_student_is_a_model_that_plain_nemo_restores(distillation_config, tmp_path):
    model, _ = distill(distillation_config, tmp_path)
    path = tmp_path / "student.nemo"
    model.save_to(str(path))
    expected = model.student.eval().translate(["der Hund sieht", "rot Haus"])
    result = subprocess.run(
        [sys.executable, "-c", RESTORE_WITHOUT_US, str(path)], capture_output=True, text=True, env=os.environ
    )
    assert f"TRANSLATIONS {expected} MTEncDecModel" in result.stdout, result.stderr


def test_a_student_starts_with_the_weights_that_its_seed_gives_it_without_a_teacher(model, tokenizer, corpus):
    pl.seed_everything(0)
    alone = DistillableMTEncDecModel(tiny_config(tokenizer, corpus)).state_dict()
    beside = model.student.state_dict()
    assert alone.keys() == beside.keys() and all(torch.equal(weight, beside[name]) for name, weight in alone.items())


def test_outside_distillation_it_is_nemos_model(teacher_path):
    ours = DistillableMTEncDecModel.restore_from(str(teacher_path)).eval()
    nemos = MTEncDecModel.restore_from(str(teacher_path)).eval()
    src, tgt = torch.randint(4, 40, (3, 7)), torch.randint(4, 40, (3, 5))
    masks = torch.ones_like(src), torch.ones_like(tgt)
    arguments = {"src": src, "src_mask": masks[0], "tgt": tgt, "tgt_mask": masks[1]}
    assert torch.equal(ours(*arguments.values()), nemos(*arguments.values()))
    sentences = ["der Hund", "Haus und Mann sieht"]
    # One by one: in a batch, NeMo's limit of the length is the one of the longest source.
    assert ours.translate(sentences) == [nemos.translate([sentence])[0] for sentence in sentences]


@pytest.fixture
def model(distillation_config, tmp_path):
    """Teacher and student of the same size, with every loss of the study on."""
    distilled = distillation_of(distillation_config, tmp_path)
    distilled.log = lambda *args, **kwargs: None
    return distilled.eval()


def registry_of(model):
    wanted = {tensor for term in model.loss_terms for tensor in consumed_tensors(term.loss).values()}
    return DistillationRegistry(wanted)


@pytest.fixture
def batch(corpus, tokenizer, tmp_path):
    """A batch of the training data with padding on both sides."""
    model = DistillableMTEncDecModel(tiny_config(tokenizer, corpus), quiet_trainer(tmp_path))
    batches = [squeeze_batch([tensor.clone() for tensor in batch]) for batch in model.train_dataloader()]
    return next(b for b in batches if (b[4] == 3).any() and (b[1] == 0).any())


def test_a_training_step_without_a_teacher_has_nemos_loss_and_gradients(tokenizer, corpus, batch):
    torch.manual_seed(0)
    model = DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer, corpus), {"label_smoothing": 0.1})).eval()
    model._optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(of, precision):
        model.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            outcome = of.training_step(model, [tensor.clone() for tensor in batch], 0)
        outcome["loss"].backward()
        assert outcome["log"]["train_loss"] == outcome["loss"] and outcome["log"]["lr"] == 0.1
        gradients = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
        return outcome["loss"].item(), torch.cat(gradients)

    loss, gradients = step(MTEncDecModel, torch.float32)
    ours, our_gradients = step(DistillableMTEncDecModel, torch.float32)
    assert ours == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(our_gradients, gradients, rtol=1e-4, atol=1e-6 * gradients.abs().max().item())
    half, half_gradients = step(DistillableMTEncDecModel, torch.bfloat16)
    assert half == pytest.approx(loss, rel=1e-3)
    assert torch.cosine_similarity(half_gradients, gradients, dim=0) > 0.999


def test_every_configured_loss_agrees_with_one_written_out(model, batch):
    src_ids, src_mask, tgt_ids, tgt_mask, labels = batch
    real, real_source = labels != model.student.decoder_tokenizer.pad_id, src_mask.bool()
    outputs = {}
    for role, translator in (("teacher", model.teacher), ("student", model.student)):
        states = translator.encoder(input_ids=src_ids, encoder_mask=src_mask)
        decoded = translator.decoder(
            input_ids=tgt_ids, decoder_mask=tgt_mask, encoder_embeddings=states, encoder_mask=src_mask
        )
        logits = translator.log_softmax.mlp.layer0(decoded)
        outputs[role] = states[real_source], decoded[real], (logits / 2.0).softmax(-1)[real], logits.log_softmax(-1)
    (t_states, t_decoded, q, _), (s_states, s_decoded, p, log_probs) = outputs["teacher"], outputs["student"]
    expected = {
        "primary": 4.0 * (q * (q / p).log()).sum(-1).mean(),
        "cosine": (1 - torch.cosine_similarity(s_decoded, t_decoded, dim=-1)).mean(),
        "cosine_encoder": (1 - torch.cosine_similarity(s_states, t_states, dim=-1)).mean(),
        "student": -log_probs.gather(-1, labels[..., None])[..., 0][real].mean(),
    }
    found = model.distillation_losses(batch)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), name


def test_masks_come_from_the_labels_and_not_from_the_decoders_inputs(model, batch):
    _, src_mask, _, tgt_mask, labels = batch
    registry = registry_of(model)
    with model.student.distillation_pass(Role.STUDENT, registry):
        model.student.distillation_forward(batch)
    mask = registry.mask("log_probs")
    assert torch.equal(mask, labels != 3)
    assert not torch.equal(mask, tgt_mask.bool())
    assert torch.equal(registry.mask("encoder_hidden_states"), src_mask.bool())


def test_what_no_loss_reads_is_not_registered(distillation_config, tmp_path):
    distillation_config.distillation.cosine_loss_weight = 0
    distilled = distillation_of(distillation_config, tmp_path)
    assert registry_of(distilled).wanted == {(role, "log_probs") for role in Role}


def test_only_the_student_registers_what_no_loss_takes_of_the_teacher(distillation_config, batch, tmp_path):
    """The selective loss takes the student's negative log-likelihood alone."""
    target = "nemo_distill.losses.SelectiveDistillationLoss"
    distillation_config.distillation.loss.primary._target_ = target
    distilled = distillation_of(distillation_config, tmp_path)
    registry = registry_of(distilled)
    for role, translator in ((Role.TEACHER, distilled.teacher), (Role.STUDENT, distilled.student)):
        with translator.distillation_pass(role, registry):
            assert translator.wants_distillation_tensor("nll") == (role is Role.STUDENT)
            translator.distillation_forward(batch)
    assert registry.get(Role.STUDENT, "nll").shape == batch[-1].shape
    with pytest.raises(KeyError, match="teacher did not register 'nll'"):
        registry.get(Role.TEACHER, "nll")


def test_another_vocabulary_than_the_teachers_is_refused_without_the_script_too(distillation_config, corpus, tmp_path):
    other = train_sentencepiece(tmp_path / "other", corpus / "both.txt", vocab_size=50)
    for side in ("encoder", "decoder"):
        distillation_config[f"{side}_tokenizer"].tokenizer_model = str(other)
    with pytest.raises(ConfigurationError, match="the teacher's"):
        distillation_of(distillation_config, tmp_path)


def test_a_student_records_how_it_was_made(distillation_config, teacher_path, tmp_path):
    model, _ = distill(distillation_config, tmp_path)
    model.save_to(str(tmp_path / "student.nemo"))
    record = NemoArchive(tmp_path / "student.nemo").config.distilled_with
    assert record.teachers == [{"name": "teacher.nemo", "sha256": NemoArchive(teacher_path).sha256()}]
    assert record.distillation.temperature == 2.0
    assert record.distillation.loss.primary["class"] == "nemo_distill.losses.KLDivergenceLoss"


def test_noise_is_in_the_students_source_alone(distillation_config, batch, tmp_path, monkeypatch):
    distillation_config.distillation.noise = {"mask": 0.5}
    distillation_config.distillation.distill_encoder = False
    model = distillation_of(distillation_config, tmp_path)
    read = {}
    for role, one in (("teacher", model.teacher), ("student", model.student)):
        encoder = one.encoder
        monkeypatch.setattr(
            encoder, "forward",
            lambda input_ids, encoder_mask, role=role, forward=encoder.forward: (
                read.update({role: input_ids}) or forward(input_ids=input_ids, encoder_mask=encoder_mask)
            ),
        )  # fmt: skip
    model.distillation_losses(batch)
    unknown = model.student.encoder_tokenizer.unk_id
    assert torch.equal(read["teacher"], squeeze_batch(batch)[0])
    assert unknown not in read["teacher"] and unknown in read["student"]


def test_a_save_that_fails_leaves_the_earlier_file(model, tmp_path, monkeypatch):
    path = tmp_path / "student.nemo"
    path.write_text("earlier")
    monkeypatch.setattr(MTEncDecModel, "save_to", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save_to(str(path))
    assert path.read_text() == "earlier"


def test_states_of_different_widths_meet_through_a_matrix_that_the_student_does_not_keep(
    distillation_config, tmp_path
):
    for side in ("encoder", "decoder"):
        distillation_config[side].hidden_size = 8
    model, trainer = distill(distillation_config, tmp_path)
    projections = {name: tuple(p.shape) for name, p in model.named_parameters() if name.startswith("losses.")}
    assert projections == {f"losses.{name}.projections.0.weight": (16, 8) for name in ("cosine", "cosine_encoder")}
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert {id(p) for name, p in model.named_parameters() if name.startswith("losses.")} <= optimized
    assert set(projections) <= set(model.state_dict())
    model.save_to(str(tmp_path / "student.nemo"))
    restored = MTEncDecModel.restore_from(str(tmp_path / "student.nemo"))
    assert not any("projection" in name and "out_projection" not in name for name in restored.state_dict())


@pytest.fixture
def layered(distillation_config, teacher_path, tmp_path, request):
    """A student of one layer and a teacher of one, compared in every way that looks inside; the parameter: `pre_ln`."""
    for side in ("encoder", "decoder"):
        distillation_config[side].pre_ln = getattr(request, "param", False)
    node = {"weight": 1.0}
    distillation_config.distillation.loss = {
        f"{kind}_{name}": node | {"_target_": f"nemo_distill.losses.{kind}", argument: name, "layers": "uniform"}
        for kind, argument, names in (
            ("MeanSquaredErrorLoss", "hidden_states", ("encoder_layers", "decoder_layers")),
            (
                "AttentionMapsLoss",
                "attention_maps",
                ("encoder_self_attention", "decoder_self_attention", "decoder_cross_attention"),
            ),
        )
        for name in names
    }
    distillation_config.distillation.distill_encoder = False
    distilled = distillation_of(distillation_config, tmp_path)
    distilled.log = lambda *args, **kwargs: None
    return distilled.eval()


@pytest.mark.parametrize("layered", [False, True], ids=["post_ln", "pre_ln_and_a_final_norm"], indirect=True)
def test_layers_are_registered_from_the_embeddings_to_the_stacks_output(layered, batch):
    src_ids, src_mask, tgt_ids, tgt_mask, _ = batch
    registry = registry_of(layered)
    with layered.student.distillation_pass(Role.STUDENT, registry):
        layered.student.distillation_forward(batch)
    states = registry.get(Role.STUDENT, "encoder_layers")
    embedded = layered.student.encoder.embedding(input_ids=src_ids)
    assert len(states) == 2
    assert torch.equal(states[0], embedded)
    assert torch.equal(states[1], layered.student.encoder(input_ids=src_ids, encoder_mask=src_mask))
    encoded = {"encoder_embeddings": states[1], "encoder_mask": src_mask}
    decoded = layered.student.decoder(input_ids=tgt_ids, decoder_mask=tgt_mask, **encoded)
    assert torch.equal(registry.get(Role.STUDENT, "decoder_layers")[1], decoded)


def test_attention_maps_are_distributions_over_the_keys_that_a_query_may_see(layered, batch):
    src_ids, src_mask, tgt_ids, *_ = batch
    registry = registry_of(layered)
    with layered.student.distillation_pass(Role.STUDENT, registry):
        layered.student.distillation_forward(batch)
    (cross,) = registry.get(Role.STUDENT, "decoder_cross_attention")
    (causal,) = registry.get(Role.STUDENT, "decoder_self_attention")
    assert cross.shape == (len(src_ids), 2, tgt_ids.shape[1], src_ids.shape[1])
    assert torch.allclose(cross.sum(-1), torch.ones_like(cross[..., 0]), atol=1e-5)
    hidden = cross.masked_select((src_mask == 0)[:, None, None, :].expand_as(cross))
    assert hidden.max() < 1e-4
    assert causal.triu(1).max() < 1e-4


def test_losses_on_the_inside_reach_the_student_and_no_hook_stays(layered, batch):
    losses = layered.distillation_losses(batch)
    assert len(losses) == 6 and all(value.isfinite() and value > 0 for value in losses.values())
    sum(losses.values()).backward()
    assert layered.student.encoder.encoder.layers[0].first_sub_layer.query_net.weight.grad.abs().sum() > 0
    for model in (layered.student, layered.teacher):
        assert not any(module._forward_hooks for module in model.modules())


def test_a_student_that_is_its_teacher_has_no_loss_inside(layered, batch):
    layered.student.load_state_dict(layered.teacher.state_dict())
    losses = layered.distillation_losses(batch)
    losses.pop("student")
    assert all(value.item() == pytest.approx(0.0, abs=1e-6) for value in losses.values())


def test_a_student_starts_from_a_model_of_its_own(distillation_config, teacher_path, tmp_path):
    model = distillation_of(distillation_config, tmp_path)
    start_from_nemo(OmegaConf.create({"init_from_nemo_model": str(teacher_path)}), model.student)
    assert all(
        torch.equal(value, model.teacher.state_dict()[name]) for name, value in model.student.state_dict().items()
    )
    assert model.student.cfg.started_from.sha256 == NemoArchive(teacher_path).sha256()


def test_a_student_records_what_selected_its_labels_and_those_of_the_model_that_it_started_from(
    distillation_config, corpus, tmp_path
):
    target = tmp_path / "pseudo.tgt"
    target.write_bytes((corpus / "train.en").read_bytes())
    write_json(tmp_path / "pseudo.json", {"selected_by": ["chrF"], "files": [fingerprint(target)]})
    distillation_config.train_ds.tgt_file_name = str(target)
    cfg = OmegaConf.create({"model": distillation_config})
    model = distillation_of(distillation_config, tmp_path)
    trainer = SimpleNamespace(
        fit=lambda model: None, interrupted=False, checkpoint_callback=None, global_step=0, max_steps=-1, callbacks=[]
    )
    run_job(cfg, trainer, model)
    model.student.save_to(str(tmp_path / "first.nemo"))
    assert MTEncDecModel.restore_from(str(tmp_path / "first.nemo")).cfg.labels_selected_by == ["chrF"]
    assert System("first", tmp_path / "first.nemo", "nemo_distill").selected_by() == ["chrF"]
    write_json(tmp_path / "pseudo.json", {"selected_by": ["BLEU"], "files": [fingerprint(target)]})
    run_job(OmegaConf.merge(cfg, {"init_from_nemo_model": str(tmp_path / "first.nemo")}), trainer, model)
    assert model.student.cfg.labels_selected_by == ["BLEU", "chrF"]


@pytest.mark.parametrize("search", ["nemo_distill", "nemo"])
def test_validation_translates_with_the_search_that_the_config_names(tokenizer, search, monkeypatch):
    model = DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer), {"search": search})).eval()
    called = []
    nemos = type(model.beam_search).__call__
    monkeypatch.setattr(
        type(model.beam_search), "__call__", lambda *args, **kw: called.append(1) or nemos(*args, **kw)
    )
    lines = ["der Hund", "Mann und Haus"]
    together = model.translate(lines)
    assert called == ([1] if search == "nemo" else [])
    if search == "nemo_distill":
        assert [model.translate([line])[0] for line in lines] == together
    assert not model.training


def test_a_schedule_in_epochs_counts_each_batch_of_several_files_once(tokenizer, corpus):
    config = tiny_config(tokenizer, corpus)
    model = DistillableMTEncDecModel(config)
    batches = len(model.train_dataloader())
    model.world_size = 2
    for side, name in (("src", "de"), ("tgt", "en")):
        config.train_ds[f"{side}_file_name"] = [str(corpus / f"train.{name}")] * 2
    config.train_ds.concat_sampling_technique = "round-robin"
    model.setup_training_data(config.train_ds)
    assert len(model._train_dl.dataset) == 2 * batches
