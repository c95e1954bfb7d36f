"""Finds pairs that are longer than a model has positions.

Where positions are fixed (sines and cosines), NeMo computes further ones. Where they are learned, it ends with a stack
trace in the middle of a training. Translation cuts sources at the last position in both cases.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import console
from nemo_distill.nemo_files.model_kinds import SIDES, has_learned_positions, number_of_positions


def check_positions(
    where: str, datasets: Any, config: Mapping[str, Any], whose: str = "the model's", tag: int = 0
) -> None:
    """Prints a warning about pairs that are longer than a model's fixed positions.

    Args:
        where: the key of the data section, for the messages.
        datasets: NeMo's data set, or several. Tarred data is not read.
        config: the config of the model that reads them.
        whose: names the model in the messages.
        tag: 1 if the model reads a language tag that the data sets do not have.

    Raises:
        ConfigurationError: if there are pairs that are longer than its learned positions.
    """
    loaded, problems, warnings = list(in_memory(datasets)), [], []
    for side, text in zip(SIDES, ("source", "target")):
        positions = number_of_positions(config, side)
        lengths = _lengths_above(positions, side, loaded, tag)
        if not len(lengths):
            continue
        said = (
            f"{where} has {len(lengths):,} pairs whose {text} is longer than the {positions} positions of {whose} "
            f"{side} (max_sequence_length); the longest has {lengths.max()} tokens"
        )
        if has_learned_positions(config, side):
            problems.append(
                f"{said}. Positions that were not learned cannot be read: set {where}.clean=true with a "
                f"{where}.max_seq_length that fits, or take such pairs out."
            )
        else:
            warnings.append(f"Warning: {said}. They are read all the same, but a translation reads only so many.")
    if problems:
        raise ConfigurationError(problems)
    for warning in warnings:
        console.warning(warning)


def check_width(config: Mapping[str, Any], **widths: int) -> None:
    """Refuses a batch, for example of tarred data, that is wider than a model's learned positions.

    Args:
        config: the config of the model.
        widths: the number of tokens that each side, `encoder` and `decoder`, is to read.

    Raises:
        DataError: if a side has fewer learned positions.
    """
    for side, width in widths.items():
        if width > (positions := number_of_positions(config, side)) and has_learned_positions(config, side):
            raise DataError(
                f"a batch has {width} tokens in a sentence, but the {side} has learned only {positions} positions "
                f"({side}.max_sequence_length); leave longer pairs out of the data, by max_seq_length with clean=true"
            )


def in_memory(datasets: Any) -> Iterator[Any]:
    """Yields the data sets whose batches are in memory, also of a `ConcatDataset`."""
    for dataset in datasets if isinstance(datasets, Iterable) and not hasattr(datasets, "datasets") else [datasets]:
        if hasattr(dataset, "datasets"):
            yield from in_memory(dataset.datasets)
        elif hasattr(dataset, "batches"):
            yield dataset


def _lengths_above(positions: int, side: str, datasets: Sequence[Any], tag: int) -> np.ndarray:
    """Returns the number of tokens of each pair of which a side reads more than `positions`."""
    lengths = [np.zeros(0, int)]
    for dataset in datasets:
        # Without its last token, which the decoder does not read, or with the language tag, which the batches lack.
        more = -1 if side == "decoder" else tag + bool(dataset.prepend_id)
        own, pad = ("src", dataset.src_pad_id) if side == "encoder" else ("tgt", dataset.tgt_pad_id)
        if dataset.reverse_lang_direction:
            own = "tgt" if own == "src" else "src"
        wide = [batch[own] for batch in dataset.batches.values() if batch[own].shape[1] + more > positions]
        lengths += [(ids != pad).sum(axis=1) + more for ids in wide]
    found = np.concatenate(lengths)
    return found[found > positions]
