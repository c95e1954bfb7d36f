"""Warns of text in another language than a training says, and of files whose sides are swapped."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import langcodes

from nemo_distill.text.files import input_files, mix_of, text_pairs
from nemo_distill.text.languages import (
    NO_LANGUAGE,
    first_lines,
    identified_language,
    language_identifier,
    read_language,
)

CHARACTERS = 20_000  # of a file that are read
LETTERS = 1_000  # the least by which a language is told
CLOSE = 3  # text of a language has it at least among so many guesses; some differ by little, as Danish and Norwegian


def language_notes(model: Mapping[str, Any]) -> list[str]:
    """Returns a warning for each file that is not in the language of its side, or for each swapped pair of files.

    A multilingual training may have pairs in both directions, so it gets none.

    Args:
        model: the `model` section of a training, as plain values.
    """
    if model.get("multilingual"):
        return []
    pairs, notes = list(_pairs(model)), []
    for side, key in enumerate(("src_language", "tgt_language")):
        declared = model.get(key)
        if not isinstance(declared, str):
            continue
        for where, files in pairs:
            if other := other_language(files[side], declared):
                notes.append(f"{where}: '{files[side]}' seems to be {other}, but model.{key}={declared}.")
    return notes or _swapped(pairs)


def other_language(path: Path, declared: str | None) -> str | None:
    """Returns the language of a file's first lines, in English; None if it may be the declared one, or cannot be told.

    Args:
        declared: a code or, as servers are told it, a name in English.
    """
    if declared in (None, NO_LANGUAGE) or not (likely := _likely_languages(path)):
        return None
    if not read_language(declared):
        with suppress(LookupError):  # it is no name either
            declared = langcodes.find(declared).language
    wanted = identified_language(declared)
    return _name(likely[0]) if wanted in {*language_identifier().nb_classes} - {*likely} else None


def _swapped(pairs: list[tuple[str, tuple[Path, Path]]]) -> list[str]:
    notes, first = [], None
    for where, files in pairs:
        source, target = (_likely_languages(path)[:1] for path in files)
        if not source or not target or source == target:
            continue
        first = first or (where, source, target)
        if (target, source) == first[1:]:
            notes.append(
                f"{where} seems to have source and target swapped: '{files[0]}' is {_name(*source)} and '{files[1]}' "
                f"{_name(*target)}, unlike {first[0]}."
            )
    return notes


def _pairs(model: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Path, Path]]]:
    """Yields the files of each pair that a training reads, as its model does, with the section that names them."""
    for section in ("train_ds", "validation_ds", "test_ds"):
        for files in text_pairs(model.get(section) or {}):
            yield f"model.{section}", files
    is_reversed = (model.get("train_ds") or {}).get("reverse_lang_direction")  # the mix is read as `train_ds` is
    for name, corpus in (mix_of(model).get("corpora") or {}).items():
        sides = [input_files(corpus.get(side)) for side in ("source", "target")]
        for files in zip(*(reversed(sides) if is_reversed else sides)):
            yield f"model.distillation.mix.corpora.{name}", files


def _likely_languages(path: Path) -> list[str]:
    """Returns the languages that a file may be in, the most likely first; none if it has too few letters."""
    text = "\n".join(first_lines(path))[:CHARACTERS]
    if sum(map(str.isalpha, text)) < LETTERS:
        return []
    return [str(language) for language, _ in language_identifier().rank(text)[:CLOSE]]


def _name(language: str) -> str:
    return langcodes.Language.make(language).display_name()
