"""Each fix is still needed: a test that fails tells that its host has mended the fault, and that the fix can go."""

import inspect

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from nemo.collections.nlp.data.machine_translation.preproc_mt_data import MTDataPreproc
from nemo.collections.nlp.models.machine_translation import mt_enc_dec_model
from nemo.utils.callbacks.nemo_model_checkpoint import NeMoModelCheckpoint

from nemo_distill.nemo_files import host_fixes


def test_nemo_loses_the_last_fragment_and_the_fix_keeps_it():
    assert MTDataPreproc._get_lines_partition(5, 10) == [[0, -1]]
    with host_fixes.whole_fragments():
        assert MTDataPreproc._get_lines_partition(25, 10) == [[0, 10], [10, 20], [20, 30]]
    assert MTDataPreproc._get_lines_partition(5, 10) == [[0, -1]]


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


def test_what_is_replaced_comes_back_after_an_error():
    class Owner:
        @staticmethod
        def speak():
            return 1

    with pytest.raises(ValueError, match="inside"), host_fixes.replaced(Owner, "speak", staticmethod(lambda: 2)):
        assert Owner.speak() == 2
        raise ValueError("inside")
    assert Owner.speak() == 1
