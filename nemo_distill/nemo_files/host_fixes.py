"""Every place where the project changes or looks behind NeMo, Lightning or torch, with the versions that need it.

Nothing else in the package replaces a name of another library's or uses a private one. A test for each entry fails
when a new version no longer has the fault, so that the entry can go.

| what is mended | seen in |
|---|---|
| NeMo restores no model whose tokenizer is youtokentome's: `restore_youtokentome` | nemo_toolkit 2.4 |
| NeMo loses the last fragment of tarred data: `whole_fragments` | nemo_toolkit 2.4 |
| NeMo's `export` runs an ONNX exporter that stops at its fixed positions: `classic_onnx_export` | torch 2.9 |
| A resumed training writes checkpoints under new names: `write_over_checkpoints` | lightning 2.2 to 2.4 |
| Loggers see one step less after a checkpoint that follows a validation: `set_logged_step` | lightning 2.2 to 2.4 |
| No public name says whether an optimizer step is half done: `is_within_optimizer_step` | lightning 2.2 to 2.4 |
| No public name says whether a step is logged: `logs_this_step` | lightning 2.2 to 2.4 |
| No public name says where NeMo writes a training's `.nemo`: `nemo_path` | nemo_toolkit 2.4 |
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.tokenizer_files import MissingPackageError, import_youtokentome, tokenizer_library


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within this context, `owner` has another attribute of this name."""
    before = owner.__dict__[name]  # as it is there: a static method is not yet bound
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def whole_fragments() -> Iterator[None]:
    """Within this context, NeMo's preparation of tarred data takes all lines.

    NeMo ends the last fragment at line -1, so that its lines are lost: all of them, in a corpus of one fragment.
    """
    from nemo.collections.nlp.data.machine_translation.preproc_mt_data import MTDataPreproc

    with replaced(MTDataPreproc, "_get_lines_partition", staticmethod(_fragments)):
        yield


def _fragments(num_lines: int, lines_per_fragment: int) -> list[list[int]]:
    return [[start, start + lines_per_fragment] for start in range(0, num_lines, lines_per_fragment)]


@contextmanager
def classic_onnx_export() -> Iterator[None]:
    """Within this context, `torch.onnx.export` is the exporter that it was before torch 2.9.

    The new one stops at NeMo's fixed positions, which look at a tensor's value ("Could not guard on data-dependent
    expression"), and NeMo's `model.export` does not choose.
    """
    import torch

    with replaced(torch.onnx, "export", partial(torch.onnx.export, dynamo=False)):
        yield


def write_over_checkpoints(trainer: Any) -> None:
    """Has a resumed training write again, under the same names, what a killed one wrote after its checkpoint."""
    if trainer.checkpoint_callback:
        trainer.checkpoint_callback._enable_version_counter = False


def set_logged_step(trainer: Any) -> None:
    """Has loggers count optimizer steps from the trainer's; Lightning saves theirs before it counts the last batch."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def is_within_optimizer_step(trainer: Any) -> bool:
    """True if more batches are to come before the next optimizer step."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def logs_this_step(trainer: Any) -> bool:
    """True if what a training step logs is handed on to the loggers."""
    return trainer._logger_connector.should_update_logs


def nemo_path(checkpoint_callback: Any) -> Path:
    """Returns where NeMo writes the `.nemo` at the end of a training."""
    return Path(checkpoint_callback._format_nemo_checkpoint_name())


def restore_youtokentome() -> None:
    """Lets `MTEncDecModel`, and all that inherit from it, load tokenizers of youtokentome.

    NeMo 2.x has the tokenizer's class but no way to it: the library is not on the list that `MTEncDecModel` accepts,
    and a config that names no library, as NeMo 1.x wrote it, sends the file to SentencePiece, which dies on it. The
    method is replaced on NeMo's own class, because `MTEncDecModel.__init__` calls it by that class's name.
    """
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    nemo_setup = MTEncDecModel.setup_enc_dec_tokenizers
    if getattr(nemo_setup, "loads_youtokentome", False):
        return

    def setup(cls: type, **kwargs: Any) -> tuple[Any, Any]:
        return _load_tokenizers(nemo_setup, **kwargs)

    setup.loads_youtokentome = True
    MTEncDecModel.setup_enc_dec_tokenizers = classmethod(setup)


def _load_tokenizers(nemo_setup: Any, **kwargs: Any) -> tuple[Any, Any]:
    """NeMo's method, for which the file's content decides between sentencepiece and youtokentome."""
    loaders = {}
    for side in ("encoder", "decoder"):
        library, model_file = kwargs.get(f"{side}_tokenizer_library"), kwargs.get(f"{side}_tokenizer_model")
        if _is_youtokentome(library, model_file):
            dropout, r2l = kwargs.get(f"{side}_bpe_dropout") or 0.0, kwargs.get(f"{side}_r2l", False)
            loaders[side] = partial(_load_youtokentome, model_file, dropout, r2l)
    if len(loaders) == 2:
        return loaders["encoder"](), loaders["decoder"]()
    if not loaders:
        return nemo_setup(**kwargs)
    # NeMo's method loads both sides: let it load the one that it can in both places, and keep that one.
    (own_side,) = loaders
    other_side = "decoder" if own_side == "encoder" else "encoder"
    for key in ("tokenizer_library", "tokenizer_model", "bpe_dropout", "model_name", "r2l", "sentencepiece_legacy"):
        if f"{other_side}_{key}" in kwargs:
            kwargs[f"{own_side}_{key}"] = kwargs[f"{other_side}_{key}"]
    tokenizers = dict(zip(("encoder", "decoder"), nemo_setup(**kwargs)))
    tokenizers[own_side] = loaders[own_side]()
    return tokenizers["encoder"], tokenizers["decoder"]


def _is_youtokentome(library: str | None, model_file: str | None) -> bool:
    if library in (None, "sentencepiece", "yttm") and model_file:
        return tokenizer_library(model_file) == "yttm"
    return False


def _load_youtokentome(model_file: str, bpe_dropout: float, r2l: bool) -> Any:
    try:
        import_youtokentome(model_file)
    except MissingPackageError as error:
        raise ConfigurationError([f"{error}."]) from error
    # Here and not above, so that users of SentencePiece need no youtokentome.
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    return YouTokenToMeTokenizer(model_file, bpe_dropout=bpe_dropout, r2l=r2l)
