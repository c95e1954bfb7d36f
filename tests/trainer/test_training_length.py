import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from nemo_distill.trainer.training_length import TrainingLength

LABELS = [[1, 2, 0], [3, 0, 0], [4, 5, 6], [7, 8, 0], [0, 0, 0]]  # 0 is padding


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def distillation_batch_weight(self, batch):
        return (batch != 0).sum()

    def training_step(self, batch, batch_idx):
        return self.layer(batch.float()).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class RestoresBest(pl.callbacks.Checkpoint):
    """Like NeMo's checkpoint callback, restores an earlier checkpoint at the end."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 1 and not self.path.exists():
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer, pl_module):
        trainer._checkpoint_connector.restore(self.path)


def train(folder, steps, resumed=None, accumulated=1, labels=LABELS, callbacks=()):
    length = TrainingLength()
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        accumulate_grad_batches=accumulated, enable_checkpointing=bool(callbacks), default_root_dir=folder,
        callbacks=[length, *callbacks],
    )  # fmt: skip
    trainer.fit(Model(), DataLoader(torch.tensor(labels), batch_size=1), ckpt_path=resumed)
    return length, trainer


@pytest.mark.parametrize(
    ("steps", "accumulated", "tokens"),
    [(4, 1, 8), (5, 1, 8), (7, 1, 11), (2, 2, 8), (3, 2, 8)],
)
def test_real_target_tokens_of_all_batches_are_counted(tmp_path, steps, accumulated, tokens):
    length, trainer = train(tmp_path, steps, accumulated=accumulated)
    assert length.so_far(trainer) == {"steps": steps, "target_tokens": tokens}


def test_a_resumed_training_counts_each_batch_once(tmp_path):
    alike = [[1, 2, 0]] * 5
    _, first = train(tmp_path, 3, labels=alike)
    first.save_checkpoint(tmp_path / "3.ckpt")
    length, trainer = train(tmp_path, 7, resumed=tmp_path / "3.ckpt", labels=alike)
    assert length.so_far(trainer) == {"steps": 7, "target_tokens": 14}
    length, trainer = train(tmp_path, 3, resumed=tmp_path / "3.ckpt", labels=alike)  # no step is left
    assert length.so_far(trainer) == {"steps": 3, "target_tokens": 6}


def test_the_best_checkpoint_that_is_restored_at_the_end_leaves_the_count_as_it_is(tmp_path):
    length, trainer = train(tmp_path, 4, callbacks=[RestoresBest(tmp_path / "best.ckpt")])
    assert trainer.global_step == 1
    assert length.so_far(trainer) == {"steps": 4, "target_tokens": 8}


def test_after_a_checkpoint_without_a_count_the_tokens_are_unknown(tmp_path):
    _, first = train(tmp_path, 5)
    first.callbacks = [callback for callback in first.callbacks if not isinstance(callback, TrainingLength)]
    first.save_checkpoint(tmp_path / "old.ckpt")
    length, trainer = train(tmp_path, 7, resumed=tmp_path / "old.ckpt")
    assert length.so_far(trainer) == {"steps": 7, "target_tokens": None}
