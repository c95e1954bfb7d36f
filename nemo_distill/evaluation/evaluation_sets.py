"""The test sets of an evaluation: pairs of files, or sacrebleu's test sets."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from sacrebleu.utils import (
    SACREBLEU_DIR,
    get_available_testsets,
    get_langpairs_for_testset,
    get_reference_files,
    get_source_file,
)

from nemo_distill.config.section import Allowed, section
from nemo_distill.console import console
from nemo_distill.text.files import named_files, unfit_reference
from nemo_distill.text.languages import (
    bleu_tokenization,
    first_lines,
    language_problems,
    scored_language,
    text_language,
    tokenizer_problems,
)
from nemo_distill.text.lines import TextFiles, decoded

NAME = re.compile(r"[\w+-]+")  # file names begin with it, up to the first dot


def reference_endings(references: int) -> list[str]:
    """Returns the endings of the copies of reference files: `ref`, `ref2`, ..."""
    return ["ref", *(f"ref{number}" for number in range(2, references + 1))]


@dataclass(frozen=True)
class EvaluationSet:
    """Source sentences and reference translations.

    Args:
        name: name of the test set in the results.
        source: source file, plain or packed, one sentence per line.
        reference: reference file, plain or packed, one sentence per line.
        language: the target language, which determines the tokenization of BLEU and TER; None if it is not known.
        more_references: files of further references.
    """

    name: str
    source: Path
    reference: Path
    language: str | None = None
    more_references: tuple[Path, ...] = ()

    @property
    def references(self) -> dict[str, Path]:
        """All reference files, by the endings of their copies: `ref`, `ref2`, ..."""
        files = (self.reference, *self.more_references)
        return dict(zip(reference_endings(len(files)), files))

    def read(self) -> tuple[list[str], list[str]]:
        """Returns sources and references, cleaned so that each is one line."""
        return read_lines(self.source), read_lines(self.reference)


@section
class SetSection:
    """A test set: `source` and `reference`, or `sacrebleu` and `pair`."""

    source: str | None = None
    """A file, plain or packed, a sentence a line."""
    reference: Annotated[str | list[str] | None, Allowed("null, a file, or a list of files")] = None
    """The translations of the source by people; several files if each sentence has several."""
    sacrebleu: str | None = None
    """The name of one of sacrebleu's test sets; it is fetched if it is not on this machine."""
    pair: str | None = None
    """The languages of that set, such as `de-en`."""
    language: str | None = None
    """The target language, which chooses how BLEU and TER find words; null: the pair's, or what the models write, or
    what the references are written in if only they have no spaces between words."""

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why the set cannot be read."""
        given = {key for key in ("source", "reference", "sacrebleu", "pair") if getattr(self, key)}
        if given not in ({"source", "reference"}, {"sacrebleu", "pair"}):
            has = ", ".join(sorted(given)) or "neither"
            return [f"source: a test set has source and reference, or sacrebleu and pair; this one has {has}."]
        return self._files()[1] + language_problems("language", self.target_language)

    @property
    def target_language(self) -> str | None:
        """The target language, as far as the section says it."""
        return self.language or (self.pair or "").rpartition("-")[2] or None

    def test_set(self, name: str) -> EvaluationSet:
        """Returns the test set that a section without problems describes."""
        source, reference, *more = self._files()[0]
        return EvaluationSet(name, source, reference, self.target_language, tuple(more))

    def _files(self) -> tuple[list[Path], list[str]]:
        if self.sacrebleu:
            return _sacrebleu_files(self.sacrebleu, self.pair or "")
        sources, problems = named_files("source", self.source)
        references, unreadable = named_files("reference", self.reference)
        problems += unreadable
        if not problems and len(sources) > 1:
            problems = [f"source={self.source}: must be one file; it names {len(sources)}."]
        if not problems:
            problems = [problem for one in references for problem in unfit_reference("reference", sources[0], one)]
        return [*sources, *references], problems


def set_name_problems(names: Collection[str]) -> list[str]:
    """Returns a sentence for each name that a test set cannot have, or if there is none."""
    if not names:
        return ["test_sets is empty: give one, '+test_sets.mine={source: test.de, reference: test.en}'."]
    return [
        f"test_sets.{name}: a name may have letters, digits, _, + and -." for name in names if not NAME.fullmatch(name)
    ]


def with_languages(
    sets: Sequence[EvaluationSet], written: Mapping[str, str | None], section: str = "test_sets.{name}"
) -> tuple[list[EvaluationSet], list[str]]:
    """Returns the test sets, with a language where they have none, and a sentence for each problem.

    The language is that of the systems, or that of the references if no system says one or if only the references are
    in a script without spaces. Prints a warning if the language of a test set differs from that of systems or text.

    Args:
        sets: the test sets of a config.
        written: for each system, the target language according to its model; None if the model does not say.
        section: the section that describes a test set of this name.
    """
    known = {name: language for name, language in written.items() if language}
    tokenizers = {bleu_tokenization(language) for language in known.values()}
    told = ", ".join(f"{name} {language}" for name, language in known.items())
    found, problems = [], []
    for one in sets:
        where = section.format(name=one.name)
        language = one.language or next(iter(known.values()), None)
        written_in = text_language(first_lines(one.reference))
        if one.language and tokenizers - {bleu_tokenization(one.language)}:
            console.warning(f"{where} is scored as language={one.language}; the models write {told}.")
        elif one.language and bleu_tokenization(written_in or one.language) != bleu_tokenization(one.language):
            console.warning(f"{where} is scored as language={one.language}; its references look like {written_in}.")
        elif not one.language and len(tokenizers) > 1:
            problems.append(f"{where}.language is missing, and the models write different ones: {told}.")
        elif not one.language:
            one = replace(one, language=scored_language(language, first_lines(one.reference)))
            said = f"{where} is scored as language={one.language}"
            problems += tokenizer_problems(said, bleu_tokenization(one.language))
        found.append(one)
    return found, problems


def _sacrebleu_files(name: str, pair: str) -> tuple[list[Path], list[str]]:
    if name not in (known := get_available_testsets()):
        return [], [f"sacrebleu={name}: sacrebleu knows {', '.join(sorted(known))}."]
    if pair not in (pairs := get_langpairs_for_testset(name)):
        return [], [f"pair={pair}: sacrebleu has {name} for {', '.join(sorted(pairs))}."]
    try:
        references = get_reference_files(name, pair)
        files = [Path(path) for path in (get_source_file(name, pair), *references)]
    except (Exception, SystemExit) as error:  # a download can fail in many ways
        reason = str(error) or type(error).__name__
        return [], [
            f"sacrebleu: {name} is not on this machine and could not be fetched ({reason}). Where there is internet, "
            f"'sacrebleu --download {name} -l {pair}' writes ~/.sacrebleu/{name}; copy it to '{SACREBLEU_DIR}'."
        ]
    return files, []


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a file, cleaned so that each stays one line."""
    return [decoded(line) for line in TextFiles([path])]
