"""Prepares text for a training: trains tokenizers, and writes tarred data."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.progress import shown_progress
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.tarred_data import STEPS, OnProgress, TarredData, write_tarred_data
from nemo_distill.text.token_ids import TokenIds, load_tokenizer
from nemo_distill.text.tokenizer_training import TokenizerJob, train_tokenizer


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


def earlier_work(files: Sequence[TokenizerFile], data: Callable[[], Sequence[TarredData]]) -> list[str]:
    """Returns what is wrong with tokenizers and data that are there already, so that they cannot be used.

    Args:
        data: returns the data. Called only if the tokenizers are there, on which the data depends.
    """
    jobs = {file.path: file.job for file in files if file.job}.values()
    found = [_conflict(job) for job in jobs]
    if not any(found) and all(file.path.is_file() for file in files):
        found = [_conflict(one) for one in data()]
    return [conflict for conflict in found if conflict]


def _conflict(work: TokenizerJob | TarredData) -> str | None:
    try:
        work.done()
    except DataError as error:
        return str(error)
    return None


def write_shown(
    data: TarredData,
    load_tokenizers: Callable[[], tuple[TokenIds, TokenIds]],
    overwrite: bool,
    threads: int | None,
    shown: bool = True,
) -> dict[str, Any]:
    """Writes tarred data with a progress bar for each step, and returns its metadata; see `write_tarred_data`."""
    with _progress(shown) as on_progress:
        return write_tarred_data(data, load_tokenizers, overwrite, threads, on_progress)


@contextmanager
def _progress(shown: bool) -> Iterator[OnProgress]:
    steps: dict[str, Callable[[float, int], None]] = {}
    with ExitStack() as bar:

        def on_progress(step: str, position: float, count: int) -> None:
            if step not in steps:
                bar.close()  # the bar of the step before
                steps[step] = bar.enter_context(shown_progress(step, 1.0, shown, STEPS[step]))
            steps[step](position, count)

        yield on_progress
