"""The test sets of an evaluation: pairs of files, or sacrebleu's test sets."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sacrebleu.utils import (
    SACREBLEU_DIR,
    get_available_testsets,
    get_langpairs_for_testset,
    get_reference_files,
    get_source_file,
)

from nemo_distill.config.section import read_section, section
from nemo_distill.console import console
from nemo_distill.metrics.scores import bleu_tokenization, language_problems
from nemo_distill.text.files import named_files, unequal_lengths
from nemo_distill.text.lines import TextFiles, clean_text

NAME = re.compile(r"[\w+-]+")  # file names begin with it, up to the first dot


@dataclass(frozen=True)
class EvaluationSet:
    """Source sentences and reference translations.

    Args:
        name: name of the test set in the results.
        source: source file, plain or gzip, one sentence per line.
        reference: reference file, plain or gzip, one sentence per line.
        language: the target language, which determines the tokenization of BLEU and TER; None if it is not known.
    """

    name: str
    source: Path
    reference: Path
    language: str | None = None

    def read(self) -> tuple[list[str], list[str]]:
        """Returns sources and references, cleaned so that each is one line."""
        return _read(self.source), _read(self.reference)


@section
class SetSection:
    """A test set in a config: `source` and `reference`, or `sacrebleu` and `pair`."""

    source: str | None = None
    reference: str | None = None
    sacrebleu: str | None = None
    pair: str | None = None
    language: str | None = None

    def problems(self) -> list[str]:
        given = {key for key in ("source", "reference", "sacrebleu", "pair") if getattr(self, key) is not None}
        if given in ({"source", "reference"}, {"sacrebleu", "pair"}):
            return []
        has = ", ".join(sorted(given)) or "neither"
        return [f"source: a test set has source and reference, or sacrebleu and pair; this one has {has}."]


def read_evaluation_sets(sections: Mapping[str, Any]) -> tuple[list[EvaluationSet], list[str]]:
    """Returns the test sets in a config, and a sentence for each problem.

    Test sets of sacrebleu are downloaded if they are not on this machine.
    """
    found, problems = [], []
    if not isinstance(sections, Mapping):
        return [], [
            f"test_sets={sections}: must be a section, as '+test_sets.mine={{source: test.de, reference: test.en}}'."
        ]
    if not sections:
        problems.append("test_sets is empty: give one, '+test_sets.mine={source: test.de, reference: test.en}'.")
    for name, values in sections.items():
        where = f"test_sets.{name}"
        if not NAME.fullmatch(str(name)):
            problems.append(f"{where}: a name may have letters, digits, _, + and -.")
        one, wrong = read_section(SetSection, values or {}, where)
        problems += wrong
        if one and not wrong:
            files, wrong = _sacrebleu_files(where, one) if one.sacrebleu else _files(where, one)
            language = one.language or (one.pair or "").rpartition("-")[2] or None
            wrong += language_problems(where, language)
            problems += wrong
            if not wrong:
                found.append(EvaluationSet(str(name), *files, language))
    return found, problems


def with_languages(
    sets: Sequence[EvaluationSet], written: Mapping[str, str | None]
) -> tuple[list[EvaluationSet], list[str]]:
    """Returns the test sets, with the systems' language where they have none, and a sentence for each problem.

    Prints a warning if the language of a test set differs from that of the systems.

    Args:
        sets: the test sets of a config.
        written: for each system, the target language according to its model; None if the model does not say.
    """
    known = {name: language for name, language in written.items() if language}
    tokenizations = {bleu_tokenization(language) for language in known.values()}
    told = ", ".join(f"{name} {language}" for name, language in known.items())
    found, problems = [], []
    for one in sets:
        where = f"test_sets.{one.name}"
        if one.language and tokenizations - {bleu_tokenization(one.language)}:
            console.warning(f"{where} is scored as language={one.language}; the models write {told}.")
        elif not one.language and len(tokenizations) > 1:
            problems.append(f"{where}.language is missing, and the models write different ones: {told}.")
        elif not one.language and known:
            one = replace(one, language=next(iter(known.values())))
            problems += language_problems(where, one.language)
        found.append(one)
    return found, problems


def _files(where: str, section: SetSection) -> tuple[list[Path], list[str]]:
    sources, problems = named_files(f"{where}.source", section.source)
    references, reference_problems = named_files(f"{where}.reference", section.reference)
    problems += reference_problems
    if not problems:
        problems = unequal_lengths(f"{where}.reference", sources[0], references[0])
    return [*sources, *references], problems


def _sacrebleu_files(where: str, section: SetSection) -> tuple[list[Path], list[str]]:
    name, pair = section.sacrebleu, section.pair
    if name not in (known := get_available_testsets()):
        return [], [f"{where}.sacrebleu={name}: sacrebleu knows {', '.join(sorted(known))}."]
    if pair not in (pairs := get_langpairs_for_testset(name)):
        return [], [f"{where}.pair={pair}: sacrebleu has {name} for {', '.join(sorted(pairs))}."]
    try:
        references = get_reference_files(name, pair)
        files = [Path(path) for path in (get_source_file(name, pair), *references)]
    except (Exception, SystemExit) as error:  # a download can fail in many ways
        reason = str(error) or type(error).__name__
        return [], [
            f"{where}: {name} is not on this machine and could not be fetched ({reason}). Where there is internet, "
            f"'sacrebleu --download {name} -l {pair}' writes ~/.sacrebleu/{name}; copy it to '{SACREBLEU_DIR}'."
        ]
    if len(references) > 1:
        return [], [f"{where}: {name} has {len(references)} references a sentence; one is needed, take another set."]
    return files, []


def _read(path: Path) -> list[str]:
    return [clean_text(line.decode("utf-8", "replace")) for line in TextFiles([path])]
