import json
import re

import pytest
import torch

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.commands.training import run_job, training_run
from nemo_distill.commands.user_errors import plain_errors
from nemo_distill.models.student_config import complete_student
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.conftest import changed_weights, tiny_config
from tests.models.conftest import TINY

LAST = -1


def test_a_batch_is_traced_to_its_lines(corpus, tokenizer):
    model = DistillableMTEncDecModel(tiny_config(tokenizer, corpus))
    pairs = list(zip(*((corpus / f"train.{side}").read_text().splitlines() for side in ("de", "en"))))
    dataset = model._train_ds
    for batch, indices in zip(map(dataset.__getitem__, range(len(dataset))), dataset.batch_indices):
        lines = sorted({pairs.index(pairs[index]) + 1 for index in indices})  # of several that are equal, the first
        said = model.batch_origin([torch.as_tensor(array) for array in batch])
        assert said.startswith(
            f"The batch contains line{'s' if len(lines) > 1 else ''} {', '.join(map(str, lines[:10]))}"
        )
        assert said.endswith(f"of '{corpus}/train.de' and '{corpus}/train.en'.")


def test_a_batch_whose_sides_are_swapped_is_traced_to_its_lines(corpus, tokenizer):
    config = tiny_config(tokenizer, corpus)
    config.train_ds.reverse_lang_direction = True
    model = DistillableMTEncDecModel(config)
    said = model.batch_origin([torch.as_tensor(array) for array in model._train_ds[0]])
    assert re.fullmatch(f"The batch contains lines? .* of '{corpus}/train.en' and '{corpus}/train.de'.", said)


def test_lines_that_the_tokenizer_reads_otherwise_are_found_and_tarred_data_is_named_by_its_text(tokenizer, tmp_path):
    config = tiny_config(tokenizer)
    (tmp_path / "odd.de").write_text("rot\nHund  Ω Haus\n")
    (tmp_path / "odd.en").write_text("red\ndog ⅷ house\n")
    config.train_ds = {
        "src_file_name": str(tmp_path / "odd.de"), "tgt_file_name": str(tmp_path / "odd.en"),
        "tokens_in_batch": 1, "shuffle": False, "use_tarred_dataset": False, "metadata_file": None,
    }  # fmt: skip
    model = DistillableMTEncDecModel(config)
    batch = [torch.as_tensor(array) for array in model._train_ds[LAST + len(model._train_ds)]]
    assert model.batch_origin(batch) == f"The batch contains line 2 of '{tmp_path}/odd.de' and '{tmp_path}/odd.en'."
    model.cfg.train_ds.update({"use_tarred_dataset": True, "metadata_file": "metadata.json"})
    assert model.batch_origin(batch).startswith("The batch's first source sentence is 'Hund")


@pytest.fixture
def spoilt_job(job, tmp_path):
    return job(
        *TINY, "~model.validation_ds", "model.distillation.student_train_loss_weight=0.5",
        "model.train_ds.num_workers=0", "model.train_ds.tokens_in_batch=100", "trainer.accelerator=cpu",
        "+trainer.max_steps=5", "+trainer.enable_progress_bar=false",
        f"+exp_manager.explicit_log_dir={tmp_path}/run",
    )  # fmt: skip


def test_a_distillation_stops_at_a_loss_that_is_not_finite_and_leaves_no_model(spoilt_job, tmp_path):
    with pytest.raises(SystemExit) as ended, training_run(spoilt_job) as trainer, plain_errors():
        complete_student(spoilt_job.model, tmp_path)
        model = DistillationModelPT(spoilt_job.model, trainer, model_class=DistillableMTEncDecModel)
        model.losses["primary"].register_forward_hook(lambda loss, inputs, value: value / (trainer.global_step != 2))
        model.fused = False
        run_job(spoilt_job, trainer, model)
    message = ended.value.code
    assert "optimizer step 3: the loss is not finite: primary is inf. The batch contains line" in message
    assert f"of '{spoilt_job.model.train_ds.src_file_name}'" in message and "There is no checkpoint" in message
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert not [path for path in (tmp_path / "run").rglob("*") if path.suffix in (".ckpt", ".nemo")]


def test_a_model_with_such_weights_is_neither_saved_nor_restored(teacher_path, tmp_path):
    model = restore_for_inference(DistillableMTEncDecModel, teacher_path)
    name, weight = list(model.named_parameters())[LAST]
    good = weight.data.clone()
    weight.data.fill_(float("nan"))
    with pytest.raises(ArithmeticError, match=f"bad.nemo' is not written: the model has NaN or infinity in '{name}'"):
        model.save_to(str(tmp_path / "bad.nemo"))
    with pytest.raises(ArithmeticError, match="No checkpoint is written: the model has NaN or infinity in"):
        model.on_save_checkpoint({})
    assert list(tmp_path.iterdir()) == []
    weight.data.copy_(good)
    model.save_to(str(tmp_path / "good.nemo"))
    bad = changed_weights(
        tmp_path / "good.nemo", tmp_path / "bad.nemo", lambda weights: weights | {name: weights[name] * torch.nan}
    )
    with pytest.raises(ArithmeticError, match=f"bad.nemo' is not used: it has NaN or infinity in '{name}'"):
        restore_for_inference(DistillableMTEncDecModel, bad)
