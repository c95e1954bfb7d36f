"""Translates with CTranslate2 from an exported folder, without NeMo."""

import os
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation, sample_seed
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import ExportRecord, read_tokens
from nemo_distill.export.settings import ExportSettings, Quantization, missing_package
from nemo_distill.nemo_files.processors import load_processors, tokenized
from nemo_distill.storage.files import USE_MKL, missing_content, user_path
from nemo_distill.storage.made_with import cpu_flags, cpu_info
from nemo_distill.text.lines import is_blank
from nemo_distill.text.token_ids import load_tokenizer

TOKENS_IN_BATCH, TOKENS_IN_BATCH_CPU = 4096, 1024  # larger batches are not faster on a CPU thread

VNNI = ("avx512_vnni", "avx_vnni")  # as Linux names them


@dataclass(frozen=True)
class Source:
    """The tokens of a line, without special tokens, and whether the line was cut off."""

    tokens: list[str]
    cut: bool


class CTranslate2Engine:
    """An `Engine` that uses a folder written by `nemo_distill.export`.

    The results can differ from those of NeMo's search and of ours:

    - A finished hypothesis leaves the beam, and an unfinished one takes its place. In NeMo, it keeps its place until
      better ones displace it. With length penalty 0, the search ends when the best candidate of a step is finished and
      `n_best` hypotheses are finished. The best hypothesis is then final, but better ones could follow in the other
      places. With a length penalty, the search ends when `beam_size` hypotheses are finished, although a longer one
      might be better. NeMo continues until all hypotheses in the beam are finished. With a Multi30k student at beam 4,
      all of 1,000 best hypotheses equaled NeMo's at length penalty 0. At 1, 936 equaled those of our search.
    - The score is the sum of log-probabilities divided by |y| ** alpha, where |y| includes the end of sentence
      (`power`). The `wu` form is not available, so it is rejected for beams larger than 1. For greedy search and
      samples, both forms work.
    - The end of sentence is allowed as the first token, as in our search (`min_decoding_length=0`; CTranslate2's
      default is 1). NeMo continues after an end in first place.
    - The order of floating-point sums depends on the batch. Scores differ in the sixth digit, and hypotheses with
      nearly equal scores may change places.
    - The number of positions is fixed at export. Longer lines are cut off (see `Translation.source_cut`), and
      hypotheses cannot be longer, whatever `max_delta` is. NeMo extends fixed positions.
    - An export with a shortlist finds only translations of the candidates of a batch. A translation can then depend on
      the other lines, and its score is higher, because the probabilities of all other pieces are 0.

    CTranslate2 draws samples from a generator per thread, which is seeded when the thread starts. To make the samples
    of a line independent of other lines, each line is sampled separately by a newly loaded model. This is exact, but
    slow for large models. Other versions and devices give different samples for the same seed.

    By default, each CPU thread translates its own batch. Threads that share a batch wait for each other in every
    matrix product. In a small student this takes longer than the product itself: with width 48, two threads took more
    than ten times as long per sentence as one. A large model on many cores may translate a single sentence faster with
    `inter_threads=1` and more `intra_threads`. Measure both.

    Args:
        folder: the exported folder.
        device: `cpu`, `cuda` or `auto`.
        device_index: index of the GPU.
        compute_type: a CTranslate2 type, such as `int8` or `float16`; by default the exported type, as far as the
            device supports it.
        inter_threads: number of batches translated in parallel. 0: on CPU, OMP_NUM_THREADS or all cores; otherwise 1.
        intra_threads: number of threads per batch. 0: OMP_NUM_THREADS, or up to 4.
        shortlist: use the shortlist of an export that has one.
        sentences_in_batch: number of sentences per batch; None: as many as have some thousand tokens.

    Raises:
        ConfigurationError: if ctranslate2 is not installed, or the folder is not an export for it.
    """

    _prefix: Sequence[str] = ()  # what each translation begins with, and is no part of it
    _ends: Sequence[str] = ()  # the tokens that end a translation; none: the model's own

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        device_index: int = 0,
        compute_type: str = "default",
        inter_threads: int = 0,
        intra_threads: int = 1,
        shortlist: bool = True,
        sentences_in_batch: int | None = None,
    ):
        folder = user_path(folder)
        self._record = read_record(folder)
        if self._record.is_of_hugging_face:
            said = f"'{folder}' was converted from the folder of a Hugging Face model; load_engine opens it."
            raise ConfigurationError([said])
        use_vmap = shortlist and self._record.shortlist is not None
        self._open(
            folder, device, device_index, compute_type, inter_threads, intra_threads, use_vmap, sentences_in_batch
        )
        source, target = self._record.source, self._record.target
        self._source_tokenizer, self._target_tokenizer = (
            load_tokenizer(folder / side.tokenizer, side.library) for side in (source, target)
        )
        self._source_processor, self._target_processor = load_processors(source.language, target.language)
        self._source_vocabulary = read_tokens(folder, "source")
        self._target_vocabulary = read_tokens(folder, "target")
        self._target_ids = {token: index for index, token in enumerate(self._target_vocabulary)}

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

    @classmethod
    def from_nemo(
        cls, model: str | Path, quantization: str = ExportSettings.quantization, **options: Any
    ) -> "CTranslate2Engine":
        """Exports a `.nemo` to a temporary folder, which is deleted with the engine.

        Args:
            model: the `.nemo`.
            quantization: as in `ExportSettings`.
            options: the arguments of the constructor, except the folder.

        Raises:
            ConfigurationError: if the model cannot be exported.
        """
        from nemo_distill.export.export_model import export_model

        parent = tempfile.mkdtemp(prefix="nemo_distill_")
        try:
            export_model(
                ExportSettings(Path(model), Path(parent) / "model", quantization=cast(Quantization, quantization))
            )
            engine = cls(Path(parent) / "model", **options)
        except BaseException:
            shutil.rmtree(parent, ignore_errors=True)
            raise
        weakref.finalize(engine, shutil.rmtree, parent, ignore_errors=True)
        return engine

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

    def totals(self, sources: Sequence[str], targets: Sequence[str]) -> list[tuple[float, int]]:
        """Returns the log-probability of each target, and its number of tokens, both with the end of sentence.

        What is longer than the exported positions is cut off. A pair with an empty side has no tokens.
        """
        texts = [tokenized(line.rstrip("\n"), self._target_processor) for line in targets]
        longest = self._record.target.positions - 2  # bos and eos
        written = [
            [self._target_vocabulary[index] for index in ids[:longest]] for ids in self._target_tokenizer.encode(texts)
        ]
        read = [source.tokens for source in self._read(sources)]
        wanted = [index for index, pair in enumerate(zip(read, written, strict=True)) if all(pair)]
        results = self._translator.score_batch(
            [read[index] for index in wanted],
            [written[index] for index in wanted],
            max_batch_size=self._tokens_in_batch,
            batch_type="tokens",
        )
        found = dict(zip(wanted, (list(result.log_probs) for result in results)))
        return [(sum(log_probs), len(log_probs)) for log_probs in (found.get(index, []) for index in range(len(read)))]

    def _load(self, **options: Any) -> Any:
        try:
            return load_translator(self._folder, **{**self._options, **options})
        except (RuntimeError, ValueError) as error:
            reason = missing_content(self._folder / "model.bin") or error
            raise ConfigurationError([f"'{self._folder}' cannot be loaded by ctranslate2: {reason}."]) from error

    def _read(self, lines: Sequence[str]) -> list[Source]:
        texts = [tokenized(line.rstrip("\n"), self._source_processor) if not is_blank(line) else "" for line in lines]
        longest = self._record.source.positions - 2  # bos and eos
        return [
            Source([self._source_vocabulary[index] for index in ids[:longest]], len(ids) > longest)
            for ids in self._source_tokenizer.encode(texts)
        ]

    def _limit(self, source: Source, settings: SearchSettings) -> int:
        """Returns the maximum number of tokens in a hypothesis, including its end."""
        positions = self._record.target.positions
        return positions if settings.max_delta is None else min(positions, len(source.tokens) + 2 + settings.max_delta)

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

    def _never(self, settings: SearchSettings) -> list[list[str]]:
        """Returns what is not generated, a list of tokens each: padding, and unknown words unless they are allowed."""
        special = self._record.target.special_ids
        unknown = [special["unk"], *range(self._record.target.pieces, len(self._target_vocabulary))]
        never = {special["pad"], *([] if settings.allow_unknown else unknown)} - {special["eos"]}
        return [[self._target_vocabulary[index]] for index in sorted(never)]

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

    def _hypothesis(self, tokens: list[str], score: float, settings: SearchSettings) -> Hypothesis:
        special = self._record.target.special_ids
        ids = [self._target_ids[token] for token in tokens]
        ids = [index if index < self._record.target.pieces else special["unk"] for index in ids]
        if not settings.is_beam_search:
            score /= settings.penalty(len(ids))
        finished = ids[-1] == special["eos"]
        text = self._target_tokenizer.decode(ids[:-1] if finished else ids)
        if self._target_processor is not None:
            text = self._target_processor.detokenize(text.split(" "))
        return Hypothesis(text, score, finished)


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
    return int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0] or len(os.sched_getaffinity(0)))


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
