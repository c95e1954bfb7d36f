"""Looks for words, lines and spans of translations in the training text, and for source text that was copied.

The questions about all systems are collected first. Then the training text is read once, line by line, so that memory
depends on the translations only, not on the size of the training text.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nemo_distill.failures.segment import Found, Segment, ngrams, words
from nemo_distill.storage.ledger import Work, digest_of, fingerprint
from nemo_distill.text.languages import SPACELESS
from nemo_distill.text.lines import lines_with_progress

REVISION = 1  # increase it when the questions or answers change, so that stored ones are not used
SHORTEST_WORD = 4  # letters; shorter ones are mostly parts of names and abbreviations
SAME_NAME = 0.85  # similarity of a name's forms, by difflib


@dataclass(frozen=True)
class Questions:
    """What is looked for in the training text.

    Args:
        words: words in lower case that neither source nor reference has.
        copied: words that only source and translation have.
        lines: translations, as their words.
        spans: runs of words in translations that the reference does not have.
    """

    words: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    lines: set[str] = field(default_factory=set)
    spans: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Answers:
    """What of the questions stands in the training text.

    Args:
        missing: the words that occur on no side.
        source_lines: number of source lines with a copied word that no target line has.
        lines: file and line of each translation that is also a training target.
        spans: file and line of each run of words that is in a training target.
    """

    missing: Collection[str]
    source_lines: Mapping[str, int]
    lines: Mapping[str, str]
    spans: Mapping[str, str]


def questions(segments: Iterable[Segment], span: int) -> Questions:
    """Returns what has to be looked for to find all failures below.

    Args:
        span: number of words in a row.
    """
    asked = Questions()
    for segment in segments:
        asked.words.update(*map(_forms, strange_words(segment)))
        asked.copied.update(copied_words(segment))
        asked.lines.add(_line(segment.translation))
        asked.spans.update(_spans(segment, span))
    return asked


def answers(asked: Questions, text: Mapping[str, Sequence[Path]], span: int, record: Path) -> Answers:
    """Reads the training text, unless these questions about it were answered before.

    Args:
        asked: the questions.
        text: the files of `sources`, `targets` and `word_lists`.
        span: number of words in a row.
        record: where the answers are kept.
    """
    settings = {
        **{side: [fingerprint(path) for path in paths] for side, paths in text.items()},
        "questions": digest_of({kind: sorted(asked_of) for kind, asked_of in vars(asked).items()}),
        "span": span,
        "revision": REVISION,
    }
    found = Work(record, settings).kept(lambda: _read(asked, text, span))
    return Answers(frozenset(found["missing"]), found["source_lines"], found["lines"], found["spans"])


def _read(asked: Questions, files: Mapping[str, Sequence[Path]], span: int) -> dict[str, Any]:
    """Reads the lines of `sources`, `targets` and `word_lists`, and keeps only what was asked for."""
    missing, in_targets, source_lines = set(asked.words), set[str](), Counter[str]()
    lines, spans = dict[str, str](), dict[str, str]()
    for side, path in [(side, path) for side, paths in files.items() for path in paths]:
        for number, raw in enumerate(lines_with_progress(path, f"reading {path.name}"), start=1):
            said, place = words(raw.decode("utf-8", "replace")), f"{path.name}:{number}"
            missing.difference_update(said)
            if side == "sources":
                source_lines.update(asked.copied.intersection(said))
            if side != "targets":
                continue
            in_targets.update(asked.copied.intersection(said))
            if (line := " ".join(said)) in asked.lines:
                lines.setdefault(line, place)
            for start in range(len(said) - span + 1):
                if (run := " ".join(said[start : start + span])) in asked.spans:
                    spans.setdefault(run, place)
    return {
        "missing": sorted(missing),
        "source_lines": {word: count for word, count in source_lines.items() if word not in in_targets},
        "lines": lines,
        "spans": spans,
    }


def made_up_words(segment: Segment, known: Answers) -> Found:
    """Returns the words that neither source, reference nor training text has, also not without a plural's `s`.

    Words that are similar to one of the source or reference do not count: most are names in another form or script.
    """
    found = [word for word in strange_words(segment) if all(form in known.missing for form in _forms(word))]
    names = words(f"{segment.source} {segment.reference}") if found else []
    return [word for word in found if not get_close_matches(word, names, 1, SAME_NAME)]


def memorised(segment: Segment, known: Answers, fewest: int) -> Found:
    """Returns where a training target stands that is the translation, word for word, but not the reference.

    Args:
        fewest: words of a translation; shorter ones are often equal by chance.
    """
    line = _line(segment.translation)
    is_copy = line in known.lines and line != _line(segment.reference) and len(line.split()) >= fewest
    return [known.lines[line]] if is_copy else []


def copied_span(segment: Segment, known: Answers, span: int) -> Found:
    """Returns where a training target stands that has a long run of the translation's words, unlike the reference."""
    places = (known.spans.get(one) for one in _spans(segment, span))
    return list(dict.fromkeys(place for place in places if place))[:1]


def strange_words(segment: Segment) -> list[str]:
    """Returns the words of the translation that neither source nor reference has, with or without hyphens."""
    sides = f"{segment.source} {segment.reference}"
    known = {*words(sides), *words(sides.replace("-", ""))}
    said = dict.fromkeys(words(segment.translation))
    return [word for word in said if word not in known and len(word) >= SHORTEST_WORD and not SPACELESS.search(word)]


def _forms(word: str) -> list[str]:
    return [word, *(word.removesuffix(ending) for ending in ("s", "es") if word.endswith(ending))]


def copied_words(segment: Segment) -> list[str]:
    """Returns the words that source and translation have, but not the reference."""
    source, reference = set(words(segment.source)), set(words(segment.reference))
    return [word for word in dict.fromkeys(words(segment.translation)) if word in source and word not in reference]


def _spans(segment: Segment, span: int) -> list[str]:
    in_reference = set(ngrams(words(segment.reference), span))
    return [" ".join(one) for one in ngrams(words(segment.translation), span) if one not in in_reference]


def _line(text: str) -> str:
    return " ".join(words(text))


FEWEST_WORDS = 3  # of a line: shorter ones are often names or the same in both languages
MOST_KEPT = 0.5  # of the reference's words
SOURCE_LINES = 10  # a source word is known as such from this many lines
SIMILAR = 0.7  # of two spellings of a name


def copied(segment: Segment) -> Found:
    """Returns the translation if it is the source, but for case, and most words of the reference are others."""
    source, translation, reference = (words(text) for text in (segment.source, segment.translation, segment.reference))
    if source != translation or len(source) < FEWEST_WORDS:
        return []
    kept = sum(word in source for word in reference)
    return [segment.translation] if kept <= MOST_KEPT * len(reference) else []


def untranslated(segment: Segment, known: Answers) -> Found:
    """Returns the source words in the translation that no target text has, and that the reference does not have.

    Names are copied rightly. Most of them are on both sides of the training text, or the reference has them in a
    similar spelling.
    """
    reference = words(segment.reference)
    return [
        word
        for word in copied_words(segment)
        if known.source_lines.get(word, 0) >= SOURCE_LINES and not get_close_matches(word, reference, 1, SIMILAR)
    ]
