import os
import subprocess
import sys

import lightning.pytorch as pl
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT

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
