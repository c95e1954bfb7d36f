import os
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

from nemo_distill import ConfigurationError, DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.core.nemo_archive import NemoArchive
from nemo_distill.core.registry import Role
from nemo_distill.models.named_evaluation import squeeze_batch
from tests.conftest import train_sentencepiece

RESTORE_WITHOUT_US = """
import sys
sys.modules["nemo_distill"] = None  # an import of it would fail
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
model = MTEncDecModel.restore_from(sys.argv[1]).eval()
print("TRANSLATIONS", model.translate(["der Hund sieht", "rot Haus"]), type(model).__name__)
"""


def quiet_trainer(folder, **options):
    options = {"max_steps": 2, "num_sanity_val_steps": 0} | options
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def distill(config, folder, **options):
    pl.seed_everything(0)
    trainer = quiet_trainer(folder, **options)
    model = DistillationModelPT(config, trainer, model_class=DistillableMTEncDecModel)
    trainer.fit(model)
    return model, trainer


def test_a_distilled_student_is_a_model_that_plain_nemo_restores(distillation_config, tmp_path):
    model, _ = distill(distillation_config, tmp_path)
    path = tmp_path / "student.nemo"
    model.save_to(str(path))
    expected = model.student.eval().translate(["der Hund sieht", "rot Haus"])
    result = subprocess.run(
        [sys.executable, "-c", RESTORE_WITHOUT_US, str(path)], capture_output=True, text=True, env=os.environ
    )
    assert f"TRANSLATIONS {expected} MTEncDecModel" in result.stdout, result.stderr


def test_outside_distillation_it_is_nemos_model(teacher_path):
    ours = DistillableMTEncDecModel.restore_from(str(teacher_path)).eval()
    nemos = MTEncDecModel.restore_from(str(teacher_path)).eval()
    src, tgt = torch.randint(4, 40, (3, 7)), torch.randint(4, 40, (3, 5))
    masks = torch.ones_like(src), torch.ones_like(tgt)
    arguments = {"src": src, "src_mask": masks[0], "tgt": tgt, "tgt_mask": masks[1]}
    assert torch.equal(ours(*arguments.values()), nemos(*arguments.values()))
    sentences = ["der Hund", "Haus und Mann sieht"]
    assert ours.translate(sentences) == nemos.translate(sentences)


@pytest.fixture
def model(distillation_config, tmp_path):
    """Teacher and student of the same size, with every loss on, and a batch with padding on both sides."""
    pl.seed_everything(0)
    distilled = DistillationModelPT(distillation_config, quiet_trainer(tmp_path), model_class=DistillableMTEncDecModel)
    distilled.log = lambda *args, **kwargs: None
    return distilled.eval()


@pytest.fixture
def batch(model):
    batches = [squeeze_batch([tensor.clone() for tensor in batch]) for batch in model.train_dataloader()]
    return next(b for b in batches if (b[4] == 3).any() and (b[1] == 0).any())


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
    with model.student.distillation_pass(Role.STUDENT, model.registry):
        model.student.distillation_forward(batch)
    mask = model.registry.mask("log_probs")
    assert torch.equal(mask, labels != 3)
    assert not torch.equal(mask, tgt_mask.bool())
    assert torch.equal(model.registry.mask("encoder_hidden_states"), src_mask.bool())


def test_what_no_loss_reads_is_not_registered(distillation_config, tmp_path):
    distillation_config.distillation.cosine_loss_weight = 0
    distilled = DistillationModelPT(distillation_config, quiet_trainer(tmp_path), model_class=DistillableMTEncDecModel)
    assert distilled.registry.wanted == {"log_probs"}


def test_another_vocabulary_than_the_teachers_is_refused_without_the_script_too(distillation_config, corpus, tmp_path):
    other = train_sentencepiece(tmp_path / "other", corpus / "both.txt", vocab_size=50)
    for side in ("encoder", "decoder"):
        distillation_config[f"{side}_tokenizer"].tokenizer_model = str(other)
    with pytest.raises(ConfigurationError, match="the teacher's"):
        DistillationModelPT(distillation_config, quiet_trainer(tmp_path), model_class=DistillableMTEncDecModel)


def test_a_student_records_how_it_was_made(distillation_config, teacher_path, tmp_path):
    model, _ = distill(distillation_config, tmp_path)
    model.save_to(str(tmp_path / "student.nemo"))
    record = NemoArchive(tmp_path / "student.nemo").config.distilled_with
    assert record.teacher == "teacher.nemo" and record.teacher_sha256 == NemoArchive(teacher_path).sha256()
    assert record.distillation.temperature == 2.0
    assert record.distillation.loss.primary["class"] == "nemo_distill.losses.KLDivergenceLoss"


def test_a_save_that_fails_leaves_the_earlier_file(model, tmp_path, monkeypatch):
    path = tmp_path / "student.nemo"
    path.write_text("earlier")
    monkeypatch.setattr(MTEncDecModel, "save_to", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save_to(str(path))
    assert path.read_text() == "earlier"


def test_hidden_states_of_different_widths_are_refused_by_name(distillation_config, tmp_path):
    for side in ("encoder", "decoder"):
        distillation_config[side].hidden_size = 32
    with pytest.raises(ConfigurationError) as error:
        DistillationModelPT(distillation_config, quiet_trainer(tmp_path), model_class=DistillableMTEncDecModel)
    assert "distillation.loss.cosine compares hidden states of the decoder, which has hidden_size=32" in str(
        error.value
    )
    assert "distillation.loss.cosine_encoder compares hidden states of the encoder" in str(error.value)
