"""All patches and private names of NeMo, Lightning and torch that the package uses, with the affected versions.

No other module but `youtokentome` replaces or reads private names of these libraries. Each entry has a test that fails
once the library is fixed, so that the entry can be removed.

| problem | seen in |
|---|---|
| NeMo cannot restore models with a youtokentome tokenizer: the module `youtokentome` | nemo_toolkit 2.4 |
| NeMo's `clean: true` keeps pairs with an empty line, and tells nothing: `counted_cleaning` | nemo_toolkit 2.4 |
| No seed fixes the order in which NeMo samples from several data sets: `seeded_choices` | nemo_toolkit 2.4 |
| With several files on several devices, a schedule is too short: `count_batches_of_all_devices` | nemo_toolkit 2.4 |
| NeMo's `export` uses an ONNX exporter that fails on its fixed positions: `classic_onnx_export` | torch 2.9 |
| A resumed training writes checkpoints under new names: `write_over_checkpoints` | lightning 2.2 to 2.4 |
| After resuming from a checkpoint after validation, loggers lag one step: `set_logged_step` | lightning 2.2 to 2.4 |
| A checkpoint that is written after a batch does not count it: `count_last_batch` | lightning 2.2 to 2.4 |
| A longer training that is resumed has no learning rate after its old length: `forget_schedule_lengths` | torch 2.13 |
| A resumed training skips the validation that comes first: `validate_on_resume` | nemo_toolkit 2.4 |
| A resumed training without steps left skips its last validation: `validate_before_end` | lightning 2.2 to 2.4 |
| No public API writes the checkpoint to resume from: `save_last_checkpoint` | lightning 2.2 to 2.4 |
| No public API tells if gradients are being accumulated: `is_within_optimizer_step` | lightning 2.2 to 2.4 |
| No public API tells if a step is logged: `logs_this_step` | lightning 2.2 to 2.4 |
| No public API tells where NeMo writes the `.nemo`: `nemo_path` | nemo_toolkit 2.4 |
| NeMo unpickles tarred batches, which can run code: `safe_batches` | nemo_toolkit 2.4 |
| After a restoration that failed, NeMo builds all models without data: `restoring` | nemo_toolkit 2.4 |
| NeMo's `exp_manager` fails if steps are validated and epochs counted: `step_validation` | nemo_toolkit 2.4 |
| A long sentence replaces NeMo's fixed positions, in half precision by others: `keep_positions` | nemo_toolkit 2.4 |
"""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.text.batches import PairLimits, dropped_in_words
from nemo_distill.text.lines import blank_lines

LENGTH_OF_SCHEDULE = "_steps"  # how the names of its parts end, such as max_steps and warmup_steps


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within this context, replaces the attribute `name` of `owner`."""
    before = owner.__dict__[name]  # not getattr, which would bind static and class methods
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def opening_data(where: str, shown: bool = True) -> Iterator[None]:
    """Within this context, data that NeMo opens runs no code, and is cleaned as `counted_cleaning` says.

    Its sentences may be longer than fixed positions, so `keep_positions` is applied too.

    Args:
        where: the section of the configuration, for messages.
        shown: print what is left out.
    """
    keep_positions()
    with safe_batches(), counted_cleaning(where, shown):
        yield


def counted_cleaning(where: str, shown: bool = True) -> AbstractContextManager[None]:
    """Within this context, NeMo's `clean: true` also drops pairs with an empty line, and prints what it drops.

    NeMo counts the first and the last token of an empty line, so that `min_seq_length` keeps it.
    """
    from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import TranslationDataset

    def clean(
        dataset: Any, src_ids: list, tgt_ids: list, max_tokens: int, min_tokens: int, max_tokens_diff: int,
        max_tokens_ratio: float,
    ) -> tuple[list, list]:  # fmt: skip
        limits = PairLimits(
            max_seq_length=max_tokens,
            min_seq_length=min_tokens,
            max_seq_length_diff=max_tokens_diff,
            max_seq_length_ratio=max_tokens_ratio,
        )
        texts = [dataset.dataset_src, dataset.dataset_tgt]
        lengths = [np.fromiter(map(len, ids), np.int64, len(ids)) for ids in (src_ids, tgt_ids)]
        for text, side in zip(texts, lengths):
            side[blank_lines(Path(text))] = 0  # their spaces and invisible characters may be tokens
        dropped: Counter[str] = Counter()
        kept = limits.keeps(lengths[0], lengths[1], dropped)
        if not kept.any():
            raise DataError(f"{where}: no pair of '{texts[0]}' is left: {dropped_in_words(dropped)}")
        if dropped and shown:
            console.info(f"{where}: left out of the {len(kept):,} pairs in '{texts[0]}': {dropped_in_words(dropped)}")
        return list(compress(src_ids, kept)), list(compress(tgt_ids, kept))

    return replaced(TranslationDataset, "clean_src_and_target", clean)


def safe_batches() -> AbstractContextManager[None]:
    """Tarred data that NeMo opens within this context runs no code. NeMo unpickles each batch, whatever it holds."""
    from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import TarredTranslationDataset

    from nemo_distill.nemo_files.saved_arrays import unpickled_arrays  # imports torch, which jobs on text do not need

    build = TarredTranslationDataset._build_sample

    def build_safely(dataset: Any, sample: tuple[bytes, str]) -> Any:
        try:
            arrays = unpickled_arrays(sample[0])
        except pickle.UnpicklingError as error:
            raise DataError(
                f"the tarred batch '{sample[1]}' is not read: it holds {error}, not numbers alone"
            ) from error
        return build(dataset, (pickle.dumps(arrays), sample[1]))

    return replaced(TarredTranslationDataset, "_build_sample", build_safely)


def seeded_choices(dataset: Any) -> Callable[[int], Iterator[int]] | None:
    """Returns a function that yields, for a seed, the number of the data set that each batch is from, without end.

    NeMo's model gives no seed to its `ConcatDataset`, which then takes one from the operating system.

    Args:
        dataset: the data of a loader of NeMo's. None is returned unless it samples from several data sets in memory.
    """
    from nemo.collections.common.data.dataset import ConcatDataset

    if not isinstance(dataset, ConcatDataset) or dataset.kind != "map":
        return None
    return lambda seed: dataset.index_generator(dataset.datasets, **{**dataset.sampling_kwargs, "seed": seed})


def count_batches_of_all_devices(dataset: Any) -> None:
    """Makes NeMo's `ConcatDataset` have the length of its data.

    It has that of one device, which NeMo's schedules divide by the devices again. So their learning rate would be 0
    for the second half of a training in epochs on two devices.
    """
    from nemo.collections.common.data.dataset import ConcatDataset

    if isinstance(dataset, ConcatDataset) and dataset.kind == "map":
        dataset.length = sum(map(len, dataset.datasets))


@contextmanager
def restoring(model_class: Any) -> Iterator[None]:
    """Within this context, a model may be restored; after it, NeMo knows that none is being restored any more.

    `keep_positions` is applied, for the sentences that the model will read.
    """
    keep_positions()
    try:
        yield
    finally:
        model_class._set_model_restore_state(is_being_restored=False)


def step_validation(trainer: Any) -> AbstractContextManager[None]:
    """Within this context, `exp_manager` accepts a trainer with `check_val_every_n_epoch=None`.

    NeMo compares it with `max_epochs`, for a message, although Lightning's None means that steps count.
    """
    return replaced(trainer, "check_val_every_n_epoch", trainer.check_val_every_n_epoch or 0)


def classic_onnx_export() -> AbstractContextManager[None]:
    """Within this context, `torch.onnx.export` uses the exporter from before torch 2.9.

    The new exporter fails on NeMo's fixed positions, which depend on a tensor's value ("Could not guard on
    data-dependent expression"). NeMo's `model.export` has no option to select the exporter.
    """
    import torch

    return replaced(torch.onnx, "export", partial(torch.onnx.export, dynamo=False))


def write_over_checkpoints(trainer: Any) -> None:
    """Makes a resumed training overwrite the checkpoints that the killed one wrote later, instead of renaming them."""
    if trainer.checkpoint_callback:
        trainer.checkpoint_callback._enable_version_counter = False


def save_last_checkpoint(trainer: Any) -> None:
    """Writes the `-last.ckpt` of the present step in the place of an earlier one, if this training writes any."""
    if callback := trainer.checkpoint_callback:
        callback._save_last_checkpoint(trainer, callback._monitor_candidates(trainer))


def set_logged_step(trainer: Any) -> None:
    """Sets the step counter of the loggers to the trainer's. Lightning saves it before it counts the last batch."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def count_last_batch(checkpoint: dict[str, Any]) -> None:
    """Counts the last batch in a checkpoint, which Lightning does only after the callbacks that write checkpoints.

    A resumed training would read no batch twice, but take the next one for that batch. With `accumulate_grad_batches`,
    its first optimizer step would have a batch less.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["completed"] = counts["processed"]


def forget_schedule_lengths(checkpoint: dict[str, Any]) -> None:
    """Leaves the lengths of a schedule to those of the training that resumes.

    torch restores all that a scheduler has, also its `max_steps`, beyond which NeMo's have a learning rate of 0.
    """
    for state in checkpoint.get("lr_schedulers", ()):
        for key in [key for key in state if key.endswith(LENGTH_OF_SCHEDULE)]:
            del state[key]


def last_batch(trainer: Any) -> int:
    """Returns the number of the last batch, counted over all epochs."""
    return trainer.fit_loop.epoch_loop.total_batch_idx


def validate_on_resume(trainer: Any, validated: int) -> None:
    """Makes a resumed training begin with the validation after its last batch if that was interrupted, and only then.

    NeMo's loop begins with none, and also skips the one after the first batch.

    Args:
        trainer: the trainer.
        validated: the last batch with a finished validation.
    """
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
    from nemo.utils.exp_manager import SkipResumeTrainingValidationLoop

    loop = trainer.fit_loop.epoch_loop
    loop.val_loop.batch_progress.reset_on_run()  # Lightning would go on in the middle
    if isinstance(loop, SkipResumeTrainingValidationLoop):  # otherwise disable_validation_on_resume=false asks for it
        is_due = partial(_TrainingEpochLoop._should_check_val_fx, loop)
        loop._should_check_val_fx = lambda fetcher: last_batch(trainer) != validated and is_due(fetcher)


def validate_before_end(trainer: Any, validated: int) -> None:
    """Makes a resumed training that has no steps left begin with the validation after its last one, if it is due.

    Lightning's loop would end before it begins.

    Args:
        trainer: the trainer, before it restores its loops.
        validated: as for `validate_on_resume`.
    """
    from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

    fit_loop = trainer.fit_loop
    loop_class = type(fit_loop)

    def done(self: Any) -> bool:
        loop = self.epoch_loop
        is_left = loop.restarting and last_batch(trainer) != validated
        return not (is_left and _TrainingEpochLoop._should_check_val_fx(loop, None)) and loop_class.done.fget(self)

    fit_loop.__class__ = type(loop_class.__name__, (loop_class,), {"done": property(done)})


def is_within_optimizer_step(trainer: Any) -> bool:
    """True if more batches follow before the next optimizer step."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def logs_this_step(trainer: Any) -> bool:
    """True if the values of this training step are passed to the loggers."""
    return trainer._logger_connector.should_update_logs


def nemo_path(checkpoint_callback: Any) -> Path:
    """Returns the path of the `.nemo` that NeMo writes at the end of a training."""
    return Path(checkpoint_callback._format_nemo_checkpoint_name())


def keep_positions() -> None:
    """Lets models read sentences that are longer than their fixed positions, without changing these positions.

    For such a batch, NeMo replaces the table of positions by a longer one, and computes the original one again
    afterwards, both in torch's default type. In a model converted to bfloat16, the table becomes float32, and the next
    layer fails. With `trainer.precision=bf16-true`, positions are computed in bfloat16, which has few of the whole
    numbers above 256. The method is replaced on NeMo's own class, which NeMo's embeddings use.
    """
    from nemo.collections.nlp.modules.common.transformer.transformer_modules import FixedPositionalEncoding

    FixedPositionalEncoding.forward = _read_positions


def _read_positions(module: Any, position_ids: Any) -> Any:
    """Returns the encodings (B, T, D) of positions (B, T). Those beyond the table are computed for this batch only."""
    import torch
    from nemo.utils import logging, logging_mode

    table = module.pos_enc
    if position_ids.max() >= len(table):
        logging.warning(
            f"A batch is longer than the {len(table)} positions of a model (max_sequence_length). Further positions "
            "are computed for such batches.",
            mode=logging_mode.ONCE,
        )
        table = fixed_positions(module, int(position_ids.max()) + 1)
    return torch.embedding(table, position_ids)


def fixed_positions(module: Any, length: int) -> Any:
    """Returns the first rows (length, D) of a model's fixed positions. Those beyond its table are computed.

    The model knows the rows of its table, which `trainer.precision=bf16-true` has rounded.
    """
    import torch

    table = module.pos_enc
    computed = _exact_positions(type(module), table.shape[1], length)
    return torch.cat((table[:length], computed[len(table) :].to(table)))


def _exact_positions(positions: Any, width: int, length: int) -> Any:
    """Returns NeMo's table (L, D) in float32, whatever torch's default type is."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return positions(width, length).pos_enc
    finally:
        torch.set_default_dtype(before)
