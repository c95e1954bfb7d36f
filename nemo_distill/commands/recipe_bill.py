"""What a recipe costs before any of it is done: hours and bytes of labelling, of caching and of training.

Each cost comes from a probe: the job itself, for `recipe.seconds`, on a sample of the user's text, with the user's
teacher and device. Its repeats say how much it varies. Probes are kept, so that each runs once on a machine.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from nemo_distill.commands.cache_teacher import caching_job
from nemo_distill.commands.generate_pseudo_labels import LabellingJob, chosen_job, labelling_job
from nemo_distill.commands.recipe import Pair, Recipe, RecipeConfigs, RecipeText
from nemo_distill.commands.training import build_trainer, choose_precision
from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.evaluation.student_sizes import StudentShape
from nemo_distill.models.student_config import complete_student
from nemo_distill.pseudo_labels.assemble import assemble
from nemo_distill.pseudo_labels.generate import Translator, generate
from nemo_distill.storage.files import versions
from nemo_distill.storage.ledger import Work, digest_of, fingerprint
from nemo_distill.storage.made_with import device_name, made_with
from nemo_distill.teacher_cache.build import TeacherOfPairs, build
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.text.files import input_files
from nemo_distill.trainer.precision import torch_device

REPEATS, FIRST_LINES, FIRST_STEPS = 3, 8, 2  # the first ones are not measured: they allocate memory
TRAINED_PAIRS = 12_000  # at least, so that a small sample makes full batches, too
ENDLESS = 10**9  # steps, more than any training has
CHECKPOINTS = 4  # NeMo keeps the three best ones and the last
HOUR = 3600.0
JOBS = ("label", "cache", "distill")  # a job may read what those before it have made


@dataclass(frozen=True)
class Cost:
    """Hours of a job, with those by the fastest and the slowest repeat of its probe, and its bytes on disk."""

    hours: float = 0.0
    least: float = 0.0
    most: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(mine + theirs for mine, theirs in zip(asdict(self).values(), asdict(other).values())))


@dataclass(frozen=True)
class RecipeBill:
    """The costs of a recipe.

    Args:
        configs: of a recipe with a text.
        folder: where probes are kept.
    """

    configs: RecipeConfigs
    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.configs.recipe

    @cached_property
    def text(self) -> RecipeText:
        """The text."""
        return RecipeText(self.recipe)

    @property
    def pairs(self) -> list[Pair]:
        """Pairs to train on: sampled ones, or those that the probe of labelling has made."""
        if self.text.pairs:
            return self.text.pairs
        pairs = [(source, target) for source, target in self._kept("label", self._label)["pairs"] if source and target]
        if not pairs:
            raise DataError(
                "recipe: no label of the probe was kept, so nothing can be trained on; give recipe.target."
            )
        return pairs

    def labelling(self) -> Cost:
        """Returns the cost of labelling the whole text."""
        return Cost() if self.recipe.label is None else _cost(self._kept("label", self._label), self.text.lines)

    def caching(self) -> Cost:
        """Returns the cost of a cache of the whole text."""
        return Cost() if self.recipe.cache is None else _cost(self._kept("cache", self._cache), self.text.lines)

    def training(self, shape: StudentShape) -> Cost:
        """Returns the cost of training a student of this shape."""
        if self.recipe.distill is None:
            return Cost()
        probe = self._kept("distill", partial(self._train, shape), shape=shape.overrides(), shared=self.configs.shared)
        return _cost(probe, probe["steps"]) + Cost(bytes=probe["bytes"])

    @property
    def _device(self) -> str:
        return torch_device(self.recipe.accelerator)

    @property
    def _cached(self) -> Path:
        """The cache of the probe, which trainings are probed with."""
        return self._work("cache").finished_path.with_suffix("")

    def _work(self, job: str, **more: Any) -> Work:
        files = (*input_files(self.recipe.source), *input_files(self.recipe.target))
        settings = {
            "teacher": fingerprint(self.configs.teacher),
            "text": [fingerprint(path) for path in files],
            "recipe": {key: getattr(self.recipe, key) for key in (*JOBS[: JOBS.index(job) + 1], "seconds")},
            "device": f"{self._device}: {device_name(self._device)}",
            "threads": torch.get_num_threads(),
            "versions": versions(["nemo_distill", "torch", "ctranslate2"]),
            **more,
        }
        return Work(self.folder / f"{job}.{digest_of(settings)}.json", settings)

    def _kept(self, job: str, probe: Callable[[], dict[str, Any]], **more: Any) -> Mapping[str, Any]:
        def make() -> dict[str, Any]:
            console.info(f"probing {job} {' '.join(more.get('shape', ()))}".rstrip())
            return probe() | {"made_with": made_with(self._device, torch.get_num_threads())}

        return self._work(job, **more).kept(make)

    def _label(self) -> dict[str, Any]:
        lines = self.text.sources
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            cfg = self.configs.label_sample(_written(folder, lines)[0], folder / "chosen")
            chosen = chosen_job(cfg, labelling_job(cfg))
            began = time.perf_counter()
            translator = chosen.build_translator(self._device)
            setup = time.perf_counter() - began
            label = partial(self._labelled, folder, chosen, translator)
            first, *_ = label(lines[:FIRST_LINES])
            size = _share(first / FIRST_LINES, self.recipe.seconds, len(lines))
            parts = [lines[start : start + size] for start in range(0, len(lines), size)][:REPEATS]
            found = [(len(part), *label(part)) for part in parts]
        return {
            "setup": setup,
            "repeats": [seconds / count for count, seconds, _, _ in found],
            "bytes_each": sum(size for _, _, size, _ in found) / sum(count for count, *_ in found),
            "pairs": [pair for *_, pairs in found for pair in pairs],
            "engine": {"name": chosen.config.engine_name, "dtype": chosen.config.dtype},
        }

    def _labelled(
        self, folder: Path, chosen: LabellingJob, translator: Translator, lines: Sequence[str]
    ) -> tuple[float, int, list[Pair]]:
        """Returns the seconds, the bytes and the pairs of labelling some lines, by an engine that was chosen."""
        with TemporaryDirectory(dir=folder) as temporary:
            cfg = self.configs.label_sample(_written(Path(temporary), lines)[0], Path(temporary) / "labels")
            cfg.engine, cfg.dtype = chosen.config.engine_name, chosen.config.dtype
            job = labelling_job(cfg)
            began = time.perf_counter()
            generate(job.folder, job.config.shard_lines, job.config.chunk_lines, lambda: translator)
            assemble(job.assembly)
            seconds = time.perf_counter() - began
            sides = [job.assembly.path(side).read_text("utf-8").split("\n")[:-1] for side in ("src", "tgt")]
            return seconds, _bytes(job.folder.path), list(zip(*sides))

    def _cache(self) -> dict[str, Any]:
        pairs = self.pairs
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            _, batches, tokens = self._built(folder, pairs[:FIRST_LINES], folder / "cache")
            pairs = pairs[: REPEATS * _share(_each(batches), self.recipe.seconds, len(pairs))]
            most = max(1, int(2 * tokens * len(pairs) / REPEATS))  # of both sides, so that there are several batches
            setup, batches, _ = self._built(folder, pairs, self._cached, most)
        order = np.random.default_rng(0).permutation(len(batches))
        parts = np.array_split(order, min(REPEATS, len(batches)))
        return {
            "setup": setup,
            "repeats": [_each([batches[index] for index in part]) for part in parts],
            "bytes_each": _bytes(self._cached) / len(pairs),
            "pairs": pairs,
        }

    def _built(
        self, folder: Path, pairs: Sequence[Pair], output: Path, tokens: int | None = None
    ) -> tuple[float, list[tuple[float, int]], float]:
        """Builds a cache for the training on these pairs.

        Returns:
            The seconds until its first batch, the seconds and pairs of each batch, and the target tokens of a pair.
        """
        cfg = self.configs.cache([[file] for file in _written(folder, *zip(*pairs))], output)
        cfg.cache.tokens_in_batch = min(cfg.cache.tokens_in_batch, tokens or cfg.cache.tokens_in_batch)
        job, began = caching_job(cfg), time.perf_counter()
        read = {"data": [fingerprint(file) for file in _training_files(folder, pairs)]}  # the same pairs, repeated
        cache = CacheFolder(output, job.folder.settings | read, self.configs.teacher)
        teacher: TeacherOfPairs = job.load_teacher(self._device)
        marks = [(time.perf_counter(), 0)]

        def mark(position: float, count: int) -> None:
            marks.append((time.perf_counter(), count))

        manifest = build(cache, job.settings, lambda: teacher, overwrite=True, on_progress=mark) or {}
        spans = [(now - before, count) for (before, _), (now, count) in pairwise(marks)]
        rest = sum(seconds for seconds, count in spans if not count) / len(pairs)  # writing shards and the index
        batches = [(seconds + rest * count, count) for seconds, count in spans if count]
        return marks[0][0] - began, batches, manifest["tokens"] / manifest["pairs"]

    def _train(self, shape: StudentShape) -> dict[str, Any]:
        from nemo_distill import DistillableMTEncDecModel, DistillationModelPT  # NeMo's import takes many seconds
        from nemo_distill.trainer.training_length import Stopwatch

        cached = self.recipe.cache is not None
        pairs = self._kept("cache", self._cache)["pairs"] if cached else self.pairs
        watch = Stopwatch(self.recipe.seconds, FIRST_STEPS, REPEATS)
        with TemporaryDirectory() as temporary:
            files = [[file] for file in _training_files(Path(temporary), pairs)]
            cfg = self.configs.distill(shape, files, self._cached if cached else None)
            steps = cfg.trainer.max_steps
            # On one device, and until the probe is over: a short training would end before. Its text is too short for
            # most intervals between validations, of which it has none.
            alone = {"devices": 1, "num_nodes": 1, "max_epochs": -1, "max_steps": max(steps, ENDLESS)}
            alone |= {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}
            cfg.trainer.update({"enable_progress_bar": False, "enable_model_summary": False, **alone})
            began = time.perf_counter()
            choose_precision(cfg)
            trainer = build_trainer(cfg)
            trainer.callbacks.append(watch)
            complete_student(cfg.model, temporary)
            model = DistillationModelPT(cfg.model, trainer, model_class=DistillableMTEncDecModel)
            try:
                trainer.fit(model)
            except SystemExit as interruption:  # raised by Lightning on Ctrl-C and, with exit code 0, on SIGTERM
                raise KeyboardInterrupt from interruption
            checkpoint = Path(temporary) / "student.ckpt"
            trainer.save_checkpoint(checkpoint)
            size = CHECKPOINTS * checkpoint.stat().st_size + 4 * model.student.number_of_parameters()
        return {
            "setup": watch.began - began,
            "repeats": watch.repeats,
            "bytes_each": 0.0,
            "bytes": size,
            "steps": steps,
        }


def _cost(probe: Mapping[str, Any], count: int) -> Cost:
    each = probe["repeats"]
    hours, least, most = (
        (probe["setup"] + count * value) / HOUR for value in (float(np.median(each)), min(each), max(each))
    )
    return Cost(hours, least, most, count * probe["bytes_each"])


def _each(batches: Sequence[tuple[float, int]]) -> float:
    """Returns the seconds of a pair in batches of some seconds and pairs."""
    return sum(seconds for seconds, _ in batches) / sum(count for _, count in batches)


def _share(each: float, seconds: float, available: int) -> int:
    """Returns the lines per repeat, so that all repeats together take `seconds`, if one takes `each` seconds."""
    return max(1, min(available // REPEATS, max(FIRST_LINES, int(seconds / each / REPEATS))))


def _written(folder: Path, *sides: Sequence[str]) -> list[Path]:
    """Writes a file for each side and returns their paths."""
    files = [folder / f"side{index}" for index in range(len(sides))]
    for file, lines in zip(files, sides):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return files


def _training_files(folder: Path, pairs: Sequence[Pair]) -> list[Path]:
    """Writes pairs as often as full batches need them."""
    (folder / "training").mkdir(exist_ok=True)
    return _written(folder / "training", *zip(*([*pairs] * -(-TRAINED_PAIRS // len(pairs)))))


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
