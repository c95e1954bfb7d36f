"""Trains tokenizers on text.

SentencePiece and youtokentome are used through their Python interfaces. So several files, gzip, and any characters in
paths work, and nothing passes through a shell. Special ids are those that NeMo needs.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import sentencepiece
from pydantic import Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.known_keys import Count
from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.storage.files import folder_lock, remove_leftovers, whole_file
from nemo_distill.storage.ledger import Work, fingerprint, sha256_of
from nemo_distill.text.batches import dropped_in_words
from nemo_distill.text.files import SAMPLED_LINES
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_line
from nemo_distill.text.mixing import choose
from nemo_distill.text.token_ids import TokenIds, import_youtokentome, load_tokenizer

# As NeMo trains them. They are in the vocabulary already and are not added as special tokens again.
SENTENCEPIECE_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": 3}
SENTENCEPIECE_PIECES = ("<unk>", "<s>", "</s>", "<pad>")
LEAST_COVERAGE = 0.98
LONGEST_LINE = 1 << 30  # bytes; SentencePiece would skip lines of more than 4,192 without an error
SHOWN, FREQUENT = 3, 0.05  # replaced characters that are told, if so large a share of the lines have any
TOO_SMALL = re.compile(r"smaller than required_chars\. \d+ vs (\d+)|Set vocab_size>=(\d+)")


@section
class TokenizerTraining:
    """How a tokenizer is trained."""

    library: Literal["sentencepiece", "yttm"] = "sentencepiece"
    """`yttm` is youtokentome, which NeMo 1.x used."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Number of pieces. A text that is too small for it gives fewer, and a warning."""
    training_sample_size: Literal[-1] | Count = -1
    """Number of lines to train on, selected at random; -1: all."""
    coverage: float = Field(default=0.999, gt=0, le=1)
    """Share of the characters in the text that the tokenizer must know; for sentencepiece at least 0.98."""
    special_tokens: dict[str, str] | list[str] | None = None
    """Symbols that are never split, such as placeholders; only for sentencepiece."""

    def symbols(self) -> list[str]:
        """Returns the special tokens that are not in every vocabulary."""
        given = self.special_tokens or []
        tokens = given.values() if isinstance(given, dict) else given
        return [token for token in dict.fromkeys(tokens) if token not in SENTENCEPIECE_PIECES]

    def problems(self) -> list[str]:
        """Returns a sentence for what the library cannot have."""
        if self.library == "sentencepiece" and self.coverage < LEAST_COVERAGE:
            return [f"coverage={self.coverage}: sentencepiece takes at least {LEAST_COVERAGE}."]
        if "" in self.symbols():
            return [f"special_tokens={self.special_tokens}: must not contain an empty string."]
        if self.library == "yttm" and self.special_tokens:
            return [f"special_tokens={self.special_tokens}: youtokentome has none; use library=sentencepiece."]
        return []


@dataclass(frozen=True)
class TokenizerJob:
    """A tokenizer to train.

    Args:
        model: the file to write. A record of how it was made is written next to it, with the ending `.json`.
        training: how it is trained; `vocab_size` must have a value.
        control_symbols: symbols that never come from text, such as the languages of a multilingual model.
    """

    model: Path
    texts: Sequence[Path]
    training: TokenizerTraining
    policy: LinePolicy
    control_symbols: Sequence[str] = ()

    @property
    def work(self) -> Work:
        """The record of the tokenizer."""
        training = self.training
        return Work(
            self.model.with_name(f"{self.model.name.removesuffix('.model')}.json"),
            {
                "text": numbered_fingerprints(self.texts),
                "library": training.library,
                "vocab_size": training.vocab_size,
                "training_sample_size": training.training_sample_size,
                "coverage": training.coverage,
                "special_tokens": training.symbols(),
                "control_symbols": list(self.control_symbols),
                "reading": vars(self.policy),
            },
        )

    def done(self, overwrite: bool = False) -> dict[str, Any] | None:
        """Returns the record if the tokenizer is there, otherwise None.

        Args:
            overwrite: return None instead of raising an error.

        Raises:
            DataError: if there is a tokenizer made from other text or with other settings, or of unknown origin.
        """
        record = self.work.done(overwrite)
        if not self.model.is_file():
            return None
        if record and record["sha256"] == sha256_of(self.model):
            return record
        if not overwrite:
            reason = "does not match its record" if record else "has no record of the text that it was made from"
            raise DataError(f"'{self.model}' {reason}")
        return None


@dataclass(frozen=True)
class TokenizerFile:
    """A tokenizer that exists, or that `job` trains.

    Args:
        r2l: whether it gives ids from right to left.
        job: trains it.
    """

    path: Path
    library: str
    r2l: bool = False
    job: TokenizerJob | None = None

    def identity(self) -> dict[str, Any]:
        """Returns what data made with this tokenizer depends on."""
        return {"library": self.library, "sha256": fingerprint(self.path)["sha256"][:16], "r2l": self.r2l}

    def load(self) -> TokenIds:
        return load_tokenizer(self.path, self.library, self.r2l)


def numbered_fingerprints(paths: Sequence[Path]) -> dict[str, str]:
    """Returns the start of the SHA-256 of each file, by the file's position and name."""
    return {f"{number} {path.name}": fingerprint(path)["sha256"][:16] for number, path in enumerate(paths, start=1)}


def train_tokenizer(job: TokenizerJob, overwrite: bool = False) -> dict[str, Any]:
    """Trains a tokenizer and returns its record: `pieces`, `lines`, `sha256`. If it is there, only returns the record.

    Args:
        overwrite: replace a tokenizer with other settings instead of raising an error.

    Raises:
        DataError: if there is one with other settings, or if the text cannot give a tokenizer.
    """
    job.model.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(job.model.parent):
        return job.done(overwrite) or _train(job)


def train_missing(files: Sequence[TokenizerFile], overwrite: bool) -> dict[Path, dict[str, Any]]:
    """Trains the tokenizers that have a job, and returns their records. Warns if a vocabulary is smaller than wanted.

    Raises:
        DataError: see `train_tokenizer`.
    """
    records = {}
    for job in {file.path: file.job for file in files if file.job}.values():
        if not job.model.is_file():
            console.info(f"Training the tokenizer {job.model}")
        record = records[job.model] = train_tokenizer(job, overwrite)
        if (pieces := record["pieces"]) < (job.training.vocab_size or 0):
            console.warning(
                f"Warning: vocab_size={job.training.vocab_size}: the text is too small for so many pieces; "
                f"'{job.model}' has {pieces:,}."
            )
    return records


def _train(job: TokenizerJob) -> dict[str, Any]:
    remove_leftovers(job.model.parent, job.model.name, job.work.finished_path.name)
    lines = sum(1 for _ in _lines(job))
    if not lines:
        oddities = Counter(str(clean_line(raw, job.policy).oddity) for raw in TextFiles(job.texts))
        found = dropped_in_words(oddities) or "it is empty"
        raise DataError(f"'{job.texts[0]}' has no line to train a tokenizer on: {found}")
    sample = job.training.training_sample_size
    used = lines if sample == -1 else min(sample, lines)
    train = {"sentencepiece": _train_sentencepiece, "yttm": _train_yttm}[job.training.library]
    try:
        content, pieces = train(job, choose(_lines(job), used, lines, "tokenizer"))
    except DataError:
        raise
    except (RuntimeError, ValueError) as error:
        raise _in_words(job, error) from error
    return _written(job, content, pieces, used)


def _lines(job: TokenizerJob) -> Iterator[str]:
    cleaned = (clean_line(raw, job.policy).text for raw in TextFiles(job.texts))
    return filter(None, cleaned)


def _train_sentencepiece(job: TokenizerJob, lines: Iterator[str]) -> tuple[bytes, int]:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines,
        model_writer=model,
        model_type="bpe",
        vocab_size=job.training.vocab_size,
        hard_vocab_limit=False,
        character_coverage=job.training.coverage,
        user_defined_symbols=[symbol.replace(" ", "\u2581") for symbol in job.training.symbols()],  # its own space
        control_symbols=list(job.control_symbols),
        remove_extra_whitespaces=False,  # as NeMo trains them
        shuffle_input_sentence=False,  # `choose` has selected the lines, the same ones every time
        max_sentence_length=LONGEST_LINE,
        minloglevel=2,
        **SENTENCEPIECE_IDS,
    )
    content = model.getvalue()
    processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    for path in job.texts:
        _warn_of_replaced(path, islice(_lines(replace(job, texts=[path])), SAMPLED_LINES), processor)
    return content, processor.get_piece_size()


def _warn_of_replaced(path: Path, lines: Iterator[str], processor: Any) -> None:
    """Warns if SentencePiece reads others in place of frequent characters of a text, so that no model can write them.

    Spaces do not count: all of them become the same one.
    """
    letters = [frozenset(line) for line in lines]
    counts = Counter(letter for line in letters for letter in line if not letter.isspace())
    read = {letter: processor.normalize(letter).strip("▁") for letter in counts}
    replaced = [letter for letter, _ in counts.most_common() if read[letter] != letter]
    share = sum(not line.isdisjoint(replaced) for line in letters) / max(1, len(letters))
    if share >= FREQUENT:
        shown = ", ".join(f"'{letter}' (U+{ord(letter):04X}) as '{read[letter]}'" for letter in replaced[:SHOWN])
        console.warning(
            f"Warning: '{path}': SentencePiece's normalization, NFKC as in NeMo, reads {shown}; {share:.0%} of the "
            "lines have such characters. Translations into this language would not have them; docs/training.md says "
            "how to keep them."
        )


def _train_yttm(job: TokenizerJob, lines: Iterator[str]) -> tuple[bytes, int]:
    """Trains with youtokentome, which reads and writes only files."""
    youtokentome = import_youtokentome(job.model)
    text, model = (job.model.with_name(f".{job.model.name}.{ending}.tmp") for ending in ("txt", "yttm"))
    try:
        with text.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)
        youtokentome.BPE.train(
            data=str(text),
            model=str(model),
            vocab_size=job.training.vocab_size,
            coverage=job.training.coverage,
            n_threads=1,
        )
        return model.read_bytes(), youtokentome.BPE(model=str(model)).vocab_size()
    finally:
        text.unlink(missing_ok=True)
        model.unlink(missing_ok=True)


def _in_words(job: TokenizerJob, error: Exception) -> DataError:
    """Returns the library's error as a sentence for the user."""
    size = job.training.vocab_size
    if found := TOO_SMALL.search(str(error)):
        least = next(filter(None, found.groups()))
        return DataError(
            f"vocab_size={size} is too small: the text has so many different characters that at least {least} pieces "
            "are needed; set a larger vocab_size or a smaller coverage"
        )
    return DataError(f"{job.training.library} cannot train '{job.model}': {error}")


def _written(job: TokenizerJob, content: bytes, pieces: int, lines: int) -> dict[str, Any]:
    """Writes the record, then the tokenizer. So a kill never leaves a tokenizer next to the record of another one."""
    job.model.unlink(missing_ok=True)
    record = job.work.finish({"pieces": pieces, "lines": lines, "sha256": hashlib.sha256(content).hexdigest()})
    with whole_file(job.model) as stream:
        stream.write(content)
    return record
