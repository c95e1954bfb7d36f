"""Each fix is still needed: a test that fails tells that its host has mended the fault, and that the fix can go."""

import importlib.util
import inspect
import pickle
import re
from itertools import islice

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from nemo.collections.common.data.dataset import ConcatDataset
from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import (
    TarredTranslationDataset,
    TranslationDataset,
)
from nemo.collections.nlp.models.machine_translation import mt_enc_dec_model
from nemo.collections.nlp.modules.common.transformer import transformer_modules
from nemo.core.optim.lr_scheduler import InverseSquareRootAnnealing
from nemo.utils.callbacks.nemo_model_checkpoint import NeMoModelCheckpoint
from nemo.utils.exp_manager import SkipResumeTrainingValidationLoop, exp_manager

from nemo_distill.config.errors import DataError
from nemo_distill.nemo_files import host_fixes
from tests.conftest import Harm


class Words:
    """A tokenizer with an id for each word and space, also for invisible ones."""

    pad_id, bos_id, eos_id = 0, 1, 2

    def text_to_ids(self, text):
        return [3 + len(part) for part in re.split("( )", text) if part]


def sentences(tmp_path, **limits):
    """The numbers of tokens of the pairs that a data set of NeMo's has."""
    for side, lines in {
        "src": ["ab c", "", "ab", " ", "c d e f", "ab"],
        "tgt": ["a", "b", "\u200b", "c", "d", "ef"],
    }.items():
        (tmp_path / side).write_text("\n".join(lines) + "\n", encoding="utf-8")
    dataset = TranslationDataset(str(tmp_path / "src"), str(tmp_path / "tgt"), clean=True, **limits)
    dataset.batchify(Words(), Words())
    return sum(len(batch["src"]) for batch in dataset.batches.values())


def test_nemo_keeps_empty_lines_in_silence_and_the_fix_drops_and_counts_them(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(host_fixes.console, "info", said.append)
    assert sentences(tmp_path) == 6
    with host_fixes.counted_cleaning("model.train_ds"):
        assert sentences(tmp_path, max_seq_length=6) == 2
    assert said == [f"model.train_ds: left out of the 6 pairs in '{tmp_path}/src': 3 empty, 1 too long"]
    with host_fixes.counted_cleaning("model.train_ds"), pytest.raises(DataError, match="no pair of .* is left"):
        sentences(tmp_path, min_seq_length=99)
    assert sentences(tmp_path) == 6


def test_nemo_samples_from_several_data_sets_without_a_seed_and_the_fix_with_one():
    assert "seed" not in inspect.getsource(mt_enc_dec_model.MTEncDecModel._setup_dataset_from_config)

    def sampled(seed=None):
        np.random.seed(0)
        dataset = ConcatDataset([list(range(50)), list(range(100, 150))], sampling_temperature=5)
        if seed is None:
            return [batch >= 100 for batch in dataset]
        return list(islice(host_fixes.seeded_choices(dataset)(seed), 100))

    assert sampled() != sampled()
    assert sampled(1) == sampled(1) != sampled(2)
    assert host_fixes.seeded_choices(torch.utils.data.ChainDataset([])) is None


def test_nemo_accepts_no_youtokentome():
    source = inspect.getsource(mt_enc_dec_model)
    assert '"yttm"' not in source and "'yttm'" not in source


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9), reason="the new exporter came with 2.9"
)
def test_torch_takes_the_new_onnx_exporter_unless_told_otherwise():
    assert inspect.signature(torch.onnx.export).parameters["dynamo"].default is True
    with host_fixes.classic_onnx_export():
        assert torch.onnx.export.keywords == {"dynamo": False}
    assert inspect.isfunction(torch.onnx.export)


def test_the_private_names_of_lightning_and_nemo_are_still_there():
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 0
    assert callable(trainer.fit_loop.epoch_loop._should_accumulate)
    assert isinstance(type(trainer._logger_connector).should_update_logs, property)
    assert ModelCheckpoint()._enable_version_counter is True
    assert callable(NeMoModelCheckpoint._format_nemo_checkpoint_name)
    assert callable(NeMoModelCheckpoint._save_last_checkpoint) and callable(NeMoModelCheckpoint._monitor_candidates)


def test_lightning_counts_a_batch_after_the_callbacks_and_the_fix_counts_it_in_a_checkpoint():
    saved = []
    saving = LambdaCallback(
        on_train_batch_end=lambda trainer, *_: saved.append(trainer._checkpoint_connector.dump_checkpoint())
    )
    pl.Trainer(
        max_steps=1, limit_val_batches=0, callbacks=saving, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    ).fit(BoringModel())  # fmt: skip
    (checkpoint,) = saved
    counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert [counts[kind]["completed"] for kind in ("total", "current")] == [0, 0]
    host_fixes.count_last_batch(checkpoint)
    assert [counts[kind]["completed"] for kind in ("total", "current")] == [1, 1]


@pytest.mark.parametrize("devices", [1, 2])
def test_nemos_concatenated_data_has_the_length_of_a_device(devices):
    data = ConcatDataset([list(range(20)), list(range(5))], world_size=devices)
    assert len(data) == (25 if devices == 1 else 12)
    host_fixes.count_batches_of_all_devices(data)
    assert len(data) == 25


def test_a_schedule_that_is_restored_has_no_learning_rate_after_its_old_length():
    def schedule(max_steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return InverseSquareRootAnnealing(optimizer, max_steps=max_steps, warmup_ratio=0.1)

    def rates(restored, steps):
        for _ in range(steps):
            restored.optimizer.step()
            restored.step()
            yield restored.get_last_lr()[0]

    whole = list(rates(schedule(40), 40))
    short = schedule(20)
    list(rates(short, 20))
    for fix, expected in ((lambda checkpoint: None, [0.0] * 20), (host_fixes.forget_schedule_lengths, whole[20:])):
        checkpoint = {"lr_schedulers": [dict(short.state_dict())]}
        fix(checkpoint)
        longer = schedule(40)
        longer.load_state_dict(checkpoint["lr_schedulers"][0])
        assert list(rates(longer, 20)) == expected


def test_nemos_loop_validates_nothing_until_a_resumed_training_has_trained_on_a_batch():
    """The fix is tested in `tests/trainer/test_interruption.py`."""
    loop = SkipResumeTrainingValidationLoop(None)
    loop.restarting = True
    assert loop._should_check_val_fx(None) is False
    loop.restarting = False
    with pytest.raises(AttributeError):  # only now it asks the trainer, which is None
        loop._should_check_val_fx(None)


def test_lightnings_loop_ends_before_a_validation_that_was_interrupted_after_the_last_step():
    """The fix is tested in `tests/trainer/test_interruption.py`."""
    loop = pl.Trainer(max_steps=1, logger=False, enable_checkpointing=False).fit_loop
    loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = 1
    loop.epoch_loop.restarting = True
    assert loop.done and not loop.epoch_loop.done


def test_nemo_compares_epochs_with_none_and_the_fix_lets_steps_be_validated(tmp_path):
    trainer = pl.Trainer(max_epochs=2, check_val_every_n_epoch=None, logger=False, enable_checkpointing=False)
    logging = {"explicit_log_dir": str(tmp_path), "create_tensorboard_logger": False}
    with pytest.raises(TypeError, match="'<' not supported"):
        exp_manager(trainer, logging)
    with host_fixes.step_validation(trainer):
        exp_manager(trainer, logging)
    assert trainer.check_val_every_n_epoch is None and trainer.checkpoint_callback.monitor == "val_loss"


@pytest.fixture
def nemos_positions():
    """NeMo's class of fixed positions as it is without the fix, which replaces a method of it for good."""
    spec = importlib.util.spec_from_file_location("without_the_fix", transformer_modules.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FixedPositionalEncoding


@pytest.fixture
def positions():
    """The class with the fix."""
    host_fixes.keep_positions()
    return transformer_modules.FixedPositionalEncoding


@pytest.fixture
def set_default():
    """Sets torch's default type, as Lightning does while it computes with `trainer.precision=bf16-true`."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


LONG = torch.arange(400).repeat(2, 1)  # positions of a batch, of which a table of 300 has too few


def test_nemo_replaces_its_table_of_positions_by_one_of_another_type(nemos_positions):
    table = nemos_positions(16, 300).bfloat16()
    table(LONG)
    assert table.pos_enc.dtype == torch.float32


def test_nemo_computes_its_table_of_positions_anew_in_half_precision(nemos_positions, set_default):
    exact, table = nemos_positions(16, 300).pos_enc, nemos_positions(16, 300).bfloat16()
    set_default(torch.bfloat16)
    table(LONG)
    assert (table.pos_enc.float() - exact).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16])
def test_the_fix_reads_further_positions_and_keeps_the_table(positions, set_default, dtype, default):
    expected = positions(16, 400).pos_enc.to(dtype)
    module = positions(16, 300).to(dtype)
    table, before = module.pos_enc, module.pos_enc.clone()
    set_default(default)
    assert torch.equal(module(LONG), expected.expand(2, -1, -1))
    assert torch.equal(module(LONG[:, :300]), before.expand(2, -1, -1))
    assert torch.equal(module(torch.tensor([[350], [2]])), expected[[350, 2]].unsqueeze(1))  # as a cached search asks
    assert module.pos_enc is table and torch.equal(table, before)


def test_positions_within_the_table_are_read_from_it(positions):
    module = positions(16, 4)
    module.pos_enc += 1
    assert torch.equal(module(torch.arange(6))[:4], module.pos_enc)


def test_what_is_replaced_comes_back_after_an_error():
    class Owner:
        @staticmethod
        def speak():
            return 1

    with pytest.raises(ValueError, match="inside"), host_fixes.replaced(Owner, "speak", staticmethod(lambda: 2)):
        assert Owner.speak() == 2
        raise ValueError("inside")
    assert Owner.speak() == 1


def test_tarred_batches_run_no_code(tmp_path):
    """The fix can go when NeMo's own class refuses such a batch."""
    harm = pickle.dumps(Harm(tmp_path / "harm"))
    dataset = object.__new__(TarredTranslationDataset)
    with (
        host_fixes.safe_batches(),
        pytest.raises(DataError, match="the tarred batch 'batch-0' is not read: it holds '.*mkdir'"),
    ):
        dataset._build_sample((harm, "batch-0"))
    assert not (tmp_path / "harm").exists()
    with pytest.raises(TypeError):
        dataset._build_sample((harm, "batch-0"))
    assert (tmp_path / "harm").exists()
