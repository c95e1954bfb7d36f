"""Finds pairs that are longer than a model has positions.

Where positions are fixed (sines and cosines), NeMo computes further ones. Where they are learned, it ends with a stack
trace in the middle of a training. Translation cuts sources at the last position in both cases.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import console
from nemo_distill.nemo_files.model_kinds import SIDES, has_learned_positions, number_of_positions


class TooLong(NamedTuple):
    """The pairs of a data set that one side of a model is too short for."""

    side: str
    positions: int
    pairs: int
    longest: int

    def said(self, where: str, whose: str) -> str:
        """Returns a sentence without its end.

        Args:
            where: the key of the data section.
            whose: the model, such as `the teacher's`.
        """
        text = "source" if self.side == "encoder" else "target"
        return (
            f"{where} has {self.pairs:,} pairs whose {text} is longer than the {self.positions} positions of {whose} "
            f"{self.side} (max_sequence_length); the longest has {self.longest} tokens"
        )


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
    found = [pairs for side in SIDES for pairs in _too_long(side, list(_in_memory(datasets)), config, tag)]
    problems = [
        f"{pairs.said(where, whose)}. Positions that were not learned cannot be read: set {where}.clean=true with a "
        f"{where}.max_seq_length that fits, or take such pairs out."
        for pairs in found
        if has_learned_positions(config, pairs.side)
    ]
    if problems:
        raise ConfigurationError(problems)
    for pairs in found:
        console.warning(
            f"Warning: {pairs.said(where, whose)}. They are read all the same, but a translation reads only so many."
        )


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


def _in_memory(datasets: Any) -> Iterator[Any]:
    """Yields the data sets whose batches are in memory, also of a `ConcatDataset`."""
    for dataset in datasets if isinstance(datasets, Iterable) and not hasattr(datasets, "datasets") else [datasets]:
        if hasattr(dataset, "datasets"):
            yield from _in_memory(dataset.datasets)
        elif hasattr(dataset, "batches"):
            yield dataset


def _too_long(side: str, datasets: list[Any], config: Mapping[str, Any], tag: int) -> Iterator[TooLong]:
    positions = number_of_positions(config, side)
    lengths = [np.zeros(0, int)]
    for dataset in datasets:
        # Without its last token, which the decoder does not read, or with the language tag, which the batches lack.
        more = -1 if side == "decoder" else tag + bool(dataset.prepend_id)
        own, pad = ("src", dataset.src_pad_id) if side == "encoder" else ("tgt", dataset.tgt_pad_id)
        if dataset.reverse_lang_direction:
            own = "tgt" if own == "src" else "src"
        wide = [batch[own] for batch in dataset.batches.values() if batch[own].shape[1] + more > positions]
        lengths += [(ids != pad).sum(axis=1) + more for ids in wide]
    long = np.concatenate(lengths)
    long = long[long > positions]
    if len(long):
        yield TooLong(side, positions, len(long), int(long.max()))
