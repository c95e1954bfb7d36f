"""Translates with CTranslate2 from an exported folder, without NeMo."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.ctranslate2_search import CTranslate2Search, Source, read_record
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import read_tokens
from nemo_distill.export.settings import ExportSettings, Quantization
from nemo_distill.nemo_files.processors import load_processors, tokenized
from nemo_distill.storage.files import user_path
from nemo_distill.text.lines import is_blank
from nemo_distill.text.token_ids import load_tokenizer


class CTranslate2Engine(CTranslate2Search):
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

        temporary = TemporaryDirectory(prefix="nemo_distill_")
        folder = Path(temporary.name) / "model"
        export_model(ExportSettings(Path(model), folder, quantization=cast(Quantization, quantization)))
        engine = cls(folder, **options)
        engine._temporary = temporary
        return engine

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
            max_input_length=0,
        )
        found = dict(zip(wanted, (list(result.log_probs) for result in results)))
        return [(sum(log_probs), len(log_probs)) for log_probs in (found.get(index, []) for index in range(len(read)))]

    def _read(self, lines: Sequence[str]) -> list[Source]:
        texts = [tokenized(line.rstrip("\n"), self._source_processor) if not is_blank(line) else "" for line in lines]
        longest = self._record.source.positions - 2  # bos and eos
        return [
            Source([self._source_vocabulary[index] for index in ids[:longest]], len(ids) > longest)
            for ids in self._source_tokenizer.encode(texts)
        ]

    def _limit(self, source: Source, settings: SearchSettings) -> int:
        positions = self._record.target.positions
        return positions if settings.max_delta is None else min(positions, len(source.tokens) + 2 + settings.max_delta)

    def _never(self, settings: SearchSettings) -> list[list[str]]:
        special = self._record.target.special_ids
        unknown = [special["unk"], *range(self._record.target.pieces, len(self._target_vocabulary))]
        never = {special["pad"], *([] if settings.allow_unknown else unknown)} - {special["eos"]}
        return [[self._target_vocabulary[index]] for index in sorted(never)]

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
