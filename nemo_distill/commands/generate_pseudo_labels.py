"""Labels text with a teacher: checks the configuration, translates, and writes training text."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from nemo_distill.commands.labelling_config import API, FILE, LabellingConfig
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.section import read_config
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.fastest_engine import choose_engine, probed_lines
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.pseudo_labels.api_teacher import ApiSettings, ApiTeacher
from nemo_distill.pseudo_labels.assemble import Assembly, assemble
from nemo_distill.pseudo_labels.generate import Generation, Translate, Translator, generate, searching
from nemo_distill.pseudo_labels.shards import LabelFolder
from nemo_distill.pseudo_labels.text_teacher import FileSettings, TextTeacher
from nemo_distill.storage.records import read_json
from nemo_distill.text.lines import TextFiles
from nemo_distill.trainer.precision import AUTO


@dataclass(frozen=True)
class LabellingJob:
    """A job with a valid configuration.

    Args:
        generation: what is translated.
        assembly: what is made of the translations.
        search: how the teacher searches.
        engine: what `load_engine` takes, apart from the device.
        model: the name of a server's model.
        file: how translations in files are read.
        api: how a server is asked.
        reverse_model: the `.nemo` that scores the hypotheses, if any.
        reverse_dtype: what it computes in.
        overwrite: `text` replaces text with other settings, True replaces labels with other settings as well.
        where: Lightning's accelerator, devices and number of machines.
    """

    generation: Generation
    assembly: Assembly
    search: SearchSettings
    engine: Mapping[str, Any]
    model: str
    file: FileSettings
    api: ApiSettings
    reverse_model: Path | None
    reverse_dtype: str
    overwrite: bool | str
    where: tuple[str, int | str | list[int], int]

    def build_translator(self, device: str, warns: bool = False) -> Translator:
        """Loads the teacher and the reverse model, if any. If `warns`, checks for swapped source and reference."""
        policy, reverse = self.assembly.policy, None
        translate: Translate
        if self.engine["name"] == FILE:
            translate = TextTeacher(list(map(Path, self.engine["paths"])), policy, self.file).translate
        elif self.engine["name"] == API:
            languages = self.engine["source_language"], self.engine["target_language"]
            folder = self.generation.folder
            translate = ApiTeacher(self.model, self.api, languages, folder.path, folder.digest).translate
        else:
            engine = load_engine(device=device, **self.engine)
            if warns:
                self._warn_if_reversed(engine)
            translate = searching(engine, self.search)
        if self.reverse_model:
            from nemo_distill.models.scoring import NeMoScorer  # NeMo's import takes many seconds

            reverse = NeMoScorer(self.reverse_model, device, dtype=self.reverse_dtype)
        return Translator(translate, policy, reverse, self.assembly.noise)

    def _warn_if_reversed(self, engine: Engine) -> None:
        """Checks for swapped files if the engine uses a NeMo model. Other engines cannot score references."""
        pairs = [pair for pair in zip(self.assembly.sources, self.assembly.references) if pair[1]]
        teacher = getattr(engine, "model", None)
        if not pairs or not hasattr(teacher, "encoder_tokenizer"):
            return
        from nemo_distill.models.scoring import warn_of_reversed_section  # NeMo's import takes many seconds

        source, reference = pairs[0]
        where, files = f"source='{source}' with its reference", {"src_file_name": source, "tgt_file_name": reference}
        warn_of_reversed_section(where, teacher, files)


def check_labelling(cfg: DictConfig) -> None:
    """Checks the configuration, and that the output folder holds no results with other settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    try:
        job = labelling_job(cfg)
        problems = _label_conflicts(job) or _text_conflicts(job)
    except DataError as error:
        problems = [f"output_dir: {error}."]
    if problems:
        raise ConfigurationError(problems)


def _label_conflicts(job: LabellingJob) -> list[str]:
    folder = job.generation.folder
    changes = [] if job.engine["name"] == AUTO else folder.conflicts()  # an engine is chosen only for new labels
    if not changes or job.overwrite is True:
        return []
    said = f"'{folder.path}' holds labels with other settings: {'; '.join(changes)}"
    return [f"output_dir: {said}; give another folder, or start over with overwrite=true."]


def _text_conflicts(job: LabellingJob) -> list[str]:
    try:
        job.assembly.work.done(bool(job.overwrite))
    except DataError as error:
        return [f"name: {error}; give another name, or replace it with overwrite=text."]
    return []


def labelling_job(cfg: DictConfig) -> LabellingJob:
    """Returns the job of a configuration.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(LabellingConfig, cfg).resolved()
    sources = config.sources
    folder = LabelFolder(config.output_dir, config.depends_on(), sources)
    assembly = Assembly(
        folder, sources, config.references, config.reading, config.criteria(),
        config.name, config.keep_dropped, config.workers,
        [LabelFolder.finished(path, sources) for path in config.more_labels], config.quality, config.keep_hypotheses,
        config.noise,
    )  # fmt: skip
    engine = {key: getattr(config, key) for key in ("dtype", "weights", "source_language", "target_language")}
    return LabellingJob(
        Generation(sources, folder, config.shard_lines, config.chunk_lines),
        assembly,
        config.search,
        {"name": config.engine, "paths": config.teachers, **engine},
        str(config.model),
        config.file,
        config.api,
        config.reverse_model,
        config.reverse_dtype,
        config.overwrite,
        (config.accelerator, config.devices, config.num_nodes),
    )


def chosen_job(cfg: DictConfig) -> LabellingJob:
    """Returns the job of a valid configuration, after `engine=auto` has chosen an engine, if that is wanted."""
    job = labelling_job(cfg)
    if job.engine["name"] != AUTO:
        return job
    config = read_config(LabellingConfig, cfg)
    request = config.engine_request()
    choose_engine(request, probed_lines(TextFiles(config.sources), request.device), config.output_dir)
    return labelling_job(cfg)


def translate(job: LabellingJob, rank: int, world_size: int, device: str) -> bool:
    """Writes this process's shards. Returns whether all shards are finished."""
    total = sum(path.stat().st_size for path in job.generation.sources)
    with shown_progress("translating", total, shown=rank == 0) as on_progress:
        manifest = generate(
            job.generation,
            partial(job.build_translator, device, warns=rank == 0),
            rank,
            world_size,
            job.overwrite is True,
            on_progress,
        )
    if (bill := job.generation.folder.path / "bill.json").is_file() and job.engine["name"] == API:
        used = read_json(bill) or {}
        console.info("The server was used as follows: " + ", ".join(f"{key} {value:,}" for key, value in used.items()))
    if manifest is None:
        console.info("This process has made its shards; others have not yet.")
    else:
        print_counts(f"Translations in {job.generation.folder.path}", manifest["counts"], manifest["lines"])
    return manifest is not None


def write_text(job: LabellingJob) -> None:
    """Selects, filters and writes the text."""
    manifest = job.generation.folder.manifest()
    lines = manifest["lines"] if manifest else 0  # then `assemble` says what is missing
    with shown_progress("selecting and filtering", lines) as on_progress:
        done = count(1)
        record = assemble(job.assembly, bool(job.overwrite), lambda: on_progress(next(done), 1))
    pairs = {"kept": record["kept"], **{f"dropped: {reason}": number for reason, number in record["dropped"].items()}}
    print_counts(f"{job.assembly.work.finished_path.with_suffix('')}.src and .tgt", pairs, sum(pairs.values()))


def main(cfg: DictConfig) -> None:
    check(cfg, check_labelling)
    with plain_errors(goes_on=True):
        job = chosen_job(cfg)

    from nemo_distill.commands.processes import processes  # Lightning's import takes seconds: after the check

    with plain_errors(goes_on=True), processes(*job.where) as process:
        if translate(job, process.rank, process.world_size, process.device):
            write_text(job)
