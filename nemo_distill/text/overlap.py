"""Finds validation or test pairs that are also in the training data, which makes their scores too optimistic."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.text.files import LINE_COUNT_LIMIT, as_list
from nemo_distill.text.lines import TextFiles
from nemo_distill.text.training_mix import training_pairs

EVALUATED = ("validation_ds", "test_ds")
Files = tuple[Path, Path]


def evaluation_pairs_in_training(model: Mapping[str, Any]) -> list[str]:
    """Returns warnings about evaluation sets that share pairs with the training data. Large files are not checked.

    Args:
        model: the model's config, resolved. Its files must exist and be parallel.
    """
    evaluated = {name: _read(model.get(name) or {}) for name in EVALUATED}
    wanted = {pair for pairs in evaluated.values() for pair in pairs}
    training = [files for files in training_pairs(model) if all(_is_small(path) for path in files)]
    found = _first_lines(training, wanted) if wanted else {}
    warnings = []
    for name, pairs in evaluated.items():
        if trained := [pair for pair in pairs if pair in found]:
            path, line = min((found[pair] for pair in trained), key=lambda place: place[1])
            warnings.append(
                f"model.{name}: {len(trained)} of its {len(pairs)} pairs are also in the training data, the first in "
                f"line {line} of '{path}'; scores on this set will be too optimistic."
            )
    return warnings


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < LINE_COUNT_LIMIT


def _read(section: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    sides = [as_list(section.get(f"{side}_file_name")) for side in ("src", "tgt")]
    return [
        pair
        for files in zip(*([Path(name).expanduser() for name in names] for names in sides))
        if all(map(_is_small, files))
        for pair in _pairs(files)
        if all(pair)
    ]


def _pairs(files: Files) -> zip:
    return zip(*(TextFiles([path]) for path in files))


def _first_lines(
    training: Sequence[Files], wanted: set[tuple[bytes, bytes]]
) -> dict[tuple[bytes, bytes], tuple[Path, int]]:
    found: dict[tuple[bytes, bytes], tuple[Path, int]] = {}
    for files in training:
        for line, pair in enumerate(_pairs(files), start=1):
            if pair in wanted:
                found.setdefault(pair, (files[0], line))
    return found
