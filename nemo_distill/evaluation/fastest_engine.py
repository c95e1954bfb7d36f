"""Chooses the fastest engine that is faithful to the model's own search in float32: `engine=auto`.

That is our search for a `.nemo`, and Hugging Face's for its folders. Engines and types of weights translate some lines
of the user's own text. One is faithful if it finds the same words in `LEAST_SAME` of the lines, or if the model, in
float32, finds its translations as probable: at most `MOST_LOST` nats a token less. The second rule is for types that
find other words which are as good.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from nemo_distill.config.errors import ConfigurationError, NotFiniteError
from nemo_distill.console import console, markdown_table
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import (
    ModelSection,
    engine_of,
    engine_problems,
    load_engine,
    model_width,
    search_problems,
)
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.files import folder_lock
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.made_with import made_with
from nemo_distill.text.lines import decoded, is_blank
from nemo_distill.trainer.precision import DTYPES, bfloat16_unit, precision_for

CTRANSLATE2 = "ctranslate2"
PROBED_LINES = {"cpu": 48, "cuda": 512}  # a GPU is fast only with large batches
SAMPLED_FROM = 20_000
WARM_UP = 4  # lines
LEAST_SAME, MOST_LOST = 0.98, 0.01
EXPORTED_TYPES = {"cpu": ("float32", "int8"), "cuda": ("float32", "float16", "int8_float16")}
RECORD = "engine.json"


@dataclass(frozen=True)
class EngineRequest:
    """What has to be translated, and by which models.

    Args:
        models: the `.nemo` files, or a Hugging Face folder; their `dtype` is not read.
        search: how they search.
        device: `cpu`, `cuda` or `cuda:1`.
    """

    models: ModelSection
    search: SearchSettings
    device: str

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return self.device.partition(":")[0]

    @property
    def judged_search(self) -> SearchSettings:
        """The search of the probe. Samples differ by chance, so that the beam stands for them."""
        beam = SearchSettings(beam_size=self.search.beam_size, max_delta=self.search.max_delta)
        if self.search.method == "sample":
            return replace(beam, length_penalty=0.0)
        return replace(self.search, n_best=1)

    def load(self, engine: str, dtype: str) -> Engine:
        """Loads the models."""
        return load_engine(engine, self.models.paths, self.device, dtype, self.models.weights, *self.models.languages)

    def work(self, folder: Path) -> Work:
        """Returns the choice that is kept in a folder. It does not depend on the machine."""
        settings: dict[str, Any] = {"search": asdict(self.search)}
        settings |= {key: getattr(self.models, key) for key in ("weights", "source_language", "target_language")}
        return Work(folder / RECORD, settings | {"models": [fingerprint(Path(path)) for path in self.models.paths]})

    def candidates(self) -> tuple[list[tuple[str, str]], list[str]]:
        """Returns the engines and types to try, the reference first, and why others are left out."""
        own = engine_of(self.models.paths[0])
        found = [(own, "float32")]
        unit, width = bfloat16_unit(self.kind), min(map(model_width, self.models.paths))
        if (dtype := DTYPES[precision_for(width, unit)]) != "float32":
            found.append((own, dtype))
        if problems := self._export_problems():
            return found, problems
        return found + [(CTRANSLATE2, dtype) for dtype in EXPORTED_TYPES[self.kind]], []

    def _export_problems(self) -> list[str]:
        if self.search.method == "sample":
            return ["search.method=sample: CTranslate2 loads the model again for each line that it samples."]
        problems = engine_problems(CTRANSLATE2, self.models.paths, None, *self.models.languages)
        return problems or search_problems(CTRANSLATE2, self.search)


@dataclass(frozen=True)
class ProbedEngine:
    """What a probe has measured.

    Args:
        engine: the engine.
        dtype: the type of the weights.
        lines_per_second: its speed.
        same: the share of lines with the same words as the model's own search in float32.
        lost: how much less probable the model in float32 finds its translations, in nats a token; None if unknown.
    """

    engine: str
    dtype: str
    lines_per_second: float
    same: float
    lost: float | None

    @property
    def is_faithful(self) -> bool:
        """True if one of the rules holds."""
        return self.same >= LEAST_SAME or (self.lost is not None and self.lost <= MOST_LOST)


def probed_lines(raw: Iterable[bytes], device: str) -> list[str]:
    """Returns lines of a text for a probe, evenly spaced over its first `SAMPLED_FROM` lines.

    Args:
        raw: the lines of the text.
        device: as in `EngineRequest`.
    """
    texts = (decoded(line) for line in islice(raw, SAMPLED_FROM))
    lines = [text for text in texts if not is_blank(text)]
    wanted = min(len(lines), PROBED_LINES[device.partition(":")[0]])
    return [lines[place * len(lines) // wanted] for place in range(wanted)]


def choose_engine(request: EngineRequest, lines: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """Returns `engine` and `dtype` of the fastest faithful engine, and `probed`, what was measured. Prints both.

    Args:
        request: what has to be translated.
        lines: some lines of it.
        folder: keeps the choice, so that a job that goes on keeps its engine, also on another machine. Other processes
            that ask for the same wait. None: nothing is kept.
    """
    if folder is None:
        return _chosen(request, lines)
    folder.mkdir(parents=True, exist_ok=True)
    work = request.work(folder)
    with folder_lock(folder):
        if kept := work.done(overwrite=True):
            console.info(f"engine=auto: {kept['engine']} in {kept['dtype'] or 'float32'}, as chosen before.")
        return dict(kept or work.finish(_chosen(request, lines)))


def _chosen(request: EngineRequest, lines: Sequence[str]) -> dict[str, Any]:
    candidates, left_out = request.candidates()
    probed = _probe(request, candidates, lines) if len(candidates) > 1 and lines else []
    best = max((one for one in probed if one.is_faithful), key=lambda one: one.lines_per_second, default=None)
    engine, dtype = (best.engine, best.dtype) if best else candidates[0]
    if probed:
        _print(probed)
    for reason in left_out:
        console.info(f"engine=auto leaves out ctranslate2: {reason}")
    console.info(f"engine=auto: {engine} in {dtype}.")
    made = made_with(request.device, torch.get_num_threads())
    is_default = (engine, dtype) == candidates[0]  # whose labels are those without engine=auto
    choice = {"engine": engine, "dtype": None if is_default else dtype}
    return choice | {"probed": [asdict(one) for one in probed], "left_out": left_out, "made_with": made}


def _probe(request: EngineRequest, candidates: Sequence[tuple[str, str]], lines: Sequence[str]) -> list[ProbedEngine]:
    """Translates the lines by all candidates. The first of them is what the others are compared with."""
    reference = request.load(*candidates[0])
    speed, expected = _timed(reference, lines, request.judged_search)
    found, scorer = [ProbedEngine(*candidates[0], speed, 1.0, 0.0)], _scorer(request, reference)
    for engine, dtype in candidates[1:]:
        console.info(f"engine=auto tries {engine} in {dtype}")
        try:
            speed, texts = _timed(request.load(engine, dtype), lines, request.judged_search)
        except (ConfigurationError, NotFiniteError) as error:
            console.info(f"engine=auto leaves out {engine} in {dtype}: {error}")
            continue
        same = mean(text == other for text, other in zip(texts, expected))
        found.append(ProbedEngine(engine, dtype, speed, same, _lost(scorer, lines, expected, texts)))
    return found


def _timed(engine: Engine, lines: Sequence[str], search: SearchSettings) -> tuple[float, list[str]]:
    engine.translate(lines[:WARM_UP], search)
    began = time.perf_counter()
    translations = engine.translate(lines, search)
    return len(lines) / (time.perf_counter() - began), [translation.text for translation in translations]


def _scorer(request: EngineRequest, engine: Any) -> Any:
    """Returns what tells how probable the model finds a translation; None for models that it cannot be told of."""
    from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher  # NeMo's import takes many seconds
    from nemo_distill.models.scoring import PairScorer

    if isinstance(engine, HuggingFaceEngine):
        with suppress(ValueError):  # of families that are no teachers word by word, such as T5
            teacher = HuggingFaceTeacher(request.models.paths[0], request.models.languages)
            teacher.model = engine.model  # the same weights, which may be large, are kept once
            return PairScorer(teacher.to(request.device).eval())
        return None
    if engine.model.multilingual or hasattr(engine.decoder, "decoders"):
        return None
    return PairScorer(engine.model)


def _lost(scorer: Any, lines: Sequence[str], expected: Sequence[str], texts: Sequence[str]) -> float | None:
    """Returns by how much the model finds `texts` less probable than `expected`; None without a scorer."""
    if scorer is None:
        return None
    return mean(scorer.score(lines, expected)) - mean(scorer.score(lines, texts))


def _print(probed: Sequence[ProbedEngine]) -> None:
    rows = [
        (
            f"{one.engine} {one.dtype}",
            f"{one.lines_per_second:.2f}",
            f"{one.same:.0%}",
            "" if one.lost is None else f"{one.lost:.4f}",
            "yes" if one.is_faithful else "no",
        )
        for one in probed
    ]
    columns = ("engine", "lines/s", "same words", "nats a token lost", "faithful")
    console.info(markdown_table(columns, rows))  # where messages go: standard output may be for translations
