"""What engines that search with CTranslate2 have in common."""

import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from joblib import cpu_count

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.cores import THREADS
from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation, sample_seed
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import missing_package
from nemo_distill.storage.files import USE_MKL, missing_content
from nemo_distill.storage.made_with import cpu_flags, cpu_info

TOKENS_IN_BATCH, TOKENS_IN_BATCH_CPU = 4096, 1024  # larger batches are not faster on a CPU thread

VNNI = ("avx512_vnni", "avx_vnni")  # as Linux names them


@dataclass(frozen=True)
class Source:
    """The tokens of a line, without special tokens, and whether the line was cut off."""

    tokens: list[str]
    cut: bool


class CTranslate2Search(ABC):
    """Searches with the model of a folder. Subclasses say how lines become tokens, and tokens text."""

    _prefix: Sequence[str] = ()  # what each translation begins with, and is no part of it
    _ends: Sequence[str] = ()  # the tokens that end a translation; none: the model's own
    _temporary: TemporaryDirectory | None = None  # is deleted with the engine
    _target_ids: Mapping[str, int]  # of all tokens that the model can write

    @abstractmethod
    def _read(self, lines: Sequence[str]) -> list[Source]:
        """Returns the tokens of each line; none for a line that is not to be translated."""

    @abstractmethod
    def _limit(self, source: Source, settings: SearchSettings) -> int:
        """Returns the maximum number of tokens in a hypothesis, including its end."""

    @abstractmethod
    def _never(self, settings: SearchSettings) -> list[list[str]]:
        """Returns what is not generated, a list of tokens each: padding, and unknown words unless allowed."""

    @abstractmethod
    def _hypothesis(self, tokens: list[str], score: float, settings: SearchSettings) -> Hypothesis:
        """Returns the hypothesis of CTranslate2's tokens and score."""

    def _open(
        self,
        folder: Path,
        device: str = "cpu",
        device_index: int = 0,
        compute_type: str = "default",
        inter_threads: int = 0,
        intra_threads: int = 1,
        use_vmap: bool = False,
        sentences_in_batch: int | None = None,
    ) -> None:
        """Loads the model of a folder."""
        self._folder, self._use_vmap, self._sentences_in_batch = folder, use_vmap, sentences_in_batch
        self._options = {
            "device": device,
            "device_index": device_index,
            "compute_type": compute_type,
            "inter_threads": inter_threads or (_cores() if device == "cpu" else 1),
            "intra_threads": intra_threads,
        }
        self._ctranslate2 = import_ctranslate2()
        self._translator = self._load()
        if self._translator.device == "cpu" and self._translator.compute_type.startswith("int8") and int8_is_coarse():
            warn_of_coarse_int8()
        self._tokens_in_batch = TOKENS_IN_BATCH_CPU if self._translator.device == "cpu" else TOKENS_IN_BATCH

    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines` and keeps their order.

        Raises:
            ConfigurationError: if CTranslate2 does not support the settings.
        """
        if problems := settings.problems() or unsupported_by_ctranslate2(settings):
            raise ConfigurationError(problems)
        sources = self._read(lines)
        wanted = [index for index, source in enumerate(sources) if source.tokens]
        find = self._sample if settings.method == "sample" else self._search
        found = dict(zip(wanted, find([sources[index] for index in wanted], settings)))
        return [
            Translation(self._hypotheses(found[index], settings), source.cut) if index in found else EMPTY
            for index, source in enumerate(sources)
        ]

    def _load(self, **options: Any) -> Any:
        try:
            return load_translator(self._folder, **{**self._options, **options})
        except (RuntimeError, ValueError) as error:
            reason = missing_content(self._folder / "model.bin") or error
            raise ConfigurationError([f"'{self._folder}' cannot be loaded by ctranslate2: {reason}."]) from error

    def _search(self, sources: list[Source], settings: SearchSettings) -> list[Any]:
        """Searches. CTranslate2 has one length limit per batch, so only sources with equal limits share a batch."""
        by_limit = defaultdict(list)
        for index, source in enumerate(sources):
            by_limit[self._limit(source, settings)].append(index)
        jobs: dict[int, Any] = {}
        for limit, indices in by_limit.items():
            tokens = [sources[index].tokens for index in indices]
            jobs |= zip(indices, self._start(self._translator, tokens, limit, settings))
        return [jobs[index].result() for index in range(len(sources))]

    def _sample(self, sources: list[Source], settings: SearchSettings) -> list[Any]:
        results = []
        for source in sources:
            self._ctranslate2.set_random_seed(sample_seed(settings.seed, *source.tokens))
            (job,) = self._start(self._load(inter_threads=1), [source.tokens], self._limit(source, settings), settings)
            results.append(job.result())
        return results

    def _start(self, translator: Any, tokens: list[list[str]], limit: int, settings: SearchSettings) -> list[Any]:
        return translator.translate_batch(
            tokens,
            max_batch_size=self._sentences_in_batch or self._tokens_in_batch,
            batch_type="examples" if self._sentences_in_batch else "tokens",
            use_vmap=self._use_vmap,
            asynchronous=True,
            max_input_length=0,
            max_decoding_length=limit,
            min_decoding_length=self._least(limit),
            return_scores=True,
            return_end_token=True,
            suppress_sequences=self._never(settings),
            end_token=list(self._ends) or None,
            target_prefix=[self._prefix] * len(tokens) if self._prefix else None,
            **self._search_options(settings),
        )

    def _least(self, limit: int) -> int:
        """Returns the minimum number of tokens in a hypothesis, given its maximum."""
        return 0

    def _search_options(self, settings: SearchSettings) -> dict[str, Any]:
        if settings.method == "beam":
            penalty = settings.length_penalty if settings.is_beam_search else 0.0
            return {
                "beam_size": settings.beam_size,
                "num_hypotheses": settings.n_best,
                "length_penalty": penalty,
            }
        return {
            "beam_size": 1,
            "num_hypotheses": 1 if settings.top_k == 1 else settings.n_best,
            "length_penalty": 0.0,
            "sampling_topk": min(settings.top_k, len(self._target_ids)),
            "sampling_topp": settings.top_p,
            "sampling_temperature": settings.temperature,
        }

    def _hypotheses(self, result: Any, settings: SearchSettings) -> tuple[Hypothesis, ...]:
        hypotheses = [
            self._hypothesis(tokens, score, settings) for tokens, score in zip(result.hypotheses, result.scores)
        ]
        if settings.method == "sample" and settings.top_k == 1:  # all samples are equal; CTranslate2 returns one
            hypotheses *= settings.n_best
        return tuple(sorted(hypotheses, key=lambda hypothesis: -hypothesis.score))


def unsupported_by_ctranslate2(settings: SearchSettings) -> list[str]:
    """Returns a sentence for each setting that CTranslate2 does not support."""
    problems = settings.power_form_problems("CTranslate2")
    if settings.method == "sample" and settings.epsilon:
        problems.append(f"epsilon={settings.epsilon}: CTranslate2 has no epsilon sampling; set 0, or use top_p.")
    return problems


def int8_is_coarse() -> bool:
    """Returns whether CTranslate2 rounds products of int8 here so that students lose up to two points of BLEU.

    It does on x86 without VNNI, unless Intel's library computes: it does so on Intel's processors, and elsewhere with
    CT2_USE_MKL=1.
    """
    flags = cpu_flags()
    has_mkl = os.environ.get(USE_MKL) == "1" or "GenuineIntel" in cpu_info("vendor_id")
    return "avx2" in flags and flags.isdisjoint(VNNI) and not has_mkl


@cache
def warn_of_coarse_int8() -> None:
    """Says once in a process what int8 costs on this CPU, and how to avoid it."""
    console.warning(
        "This processor has no VNNI instructions, so that int8 is rounded more coarsely and a student can lose one or "
        f"two points of BLEU. The environment variable {USE_MKL}=1 avoids that."
    )


def read_record(folder: Path) -> ExportRecord:
    """Returns the record of an export for CTranslate2.

    Raises:
        ConfigurationError: if the folder is none.
    """
    try:
        record = ExportRecord.read(folder)
    except ValueError as error:
        raise ConfigurationError([f"{error}."]) from error
    if record.format != "ctranslate2":
        raise ConfigurationError([f"'{folder}' has format={record.format}; format=ctranslate2 is needed."])
    return record


def _cores() -> int:
    """Returns OMP_NUM_THREADS (the outermost level of a list), or the number of cores this process may use."""
    return int(os.environ.get(THREADS, "").split(",")[0] or cpu_count())


def load_translator(folder: str | Path, **options: Any) -> Any:
    """Returns CTranslate2's `Translator`, made in a thread of its own.

    Its constructor sets OpenMP's number of threads in the thread that it runs in. In this one, PyTorch would compute
    with `intra_threads` from then on.

    Args:
        folder: the exported folder.
        options: further arguments of `Translator`.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(import_ctranslate2().Translator, str(folder), **options).result()


def import_ctranslate2() -> Any:
    """Returns the module.

    Raises:
        ConfigurationError: if it is not installed.
    """
    try:
        import ctranslate2
    except ImportError as error:
        raise ConfigurationError([missing_package("ctranslate2")]) from error
    return ctranslate2
