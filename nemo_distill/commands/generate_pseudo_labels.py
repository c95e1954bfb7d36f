"""Labels text with a teacher: checks the configuration, translates, and writes training text."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.labelling_config import LabellingConfig
from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.section import read_config
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import load_engine
from nemo_distill.evaluation.fastest_engine import choose_engine, probed_lines
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.pseudo_labels.api_teacher import ANSWERS, ApiTeacher
from nemo_distill.pseudo_labels.assemble import Assembly, assemble
from nemo_distill.pseudo_labels.generate import Translate, Translator, generate, searching
from nemo_distill.pseudo_labels.shards import BILL, LabelFolder
from nemo_distill.pseudo_labels.teacher_section import API, FILE
from nemo_distill.pseudo_labels.text_teacher import TextTeacher
from nemo_distill.storage.files import locked
from nemo_distill.storage.records import read_json
from nemo_distill.text.batches import dropped_in_words
from nemo_distill.text.language_notes import other_language
from nemo_distill.text.lines import TextFiles
from nemo_distill.trainer.precision import AUTO


@dataclass(frozen=True)
class LabellingJob:
    """A valid configuration, and what is made of the translations."""

    config: LabellingConfig
    assembly: Assembly

    @property
    def folder(self) -> LabelFolder:
        """The folder of the translations."""
        return self.assembly.labels

    def build_translator(self, device: str, warns: bool = False) -> Translator:
        """Loads the teacher and the reverse model, if any. If `warns`, checks the text's language and sides."""
        config, policy, reverse = self.config, self.config.reading, None
        if warns:
            self._warn_of_language()
        translate: Translate
        if config.engine_name == FILE:
            translate = TextTeacher(list(map(Path, config.teachers)), policy, config.file).translate
        elif config.engine_name == API:
            translate = ApiTeacher(
                str(config.model), config.api, config.languages, self.folder.path, self.folder.digest
            ).translate
        else:
            engine = load_engine(
                name=config.engine_name, paths=config.teachers, device=device, dtype=config.dtype,
                weights=config.weights, source_language=config.source_language, target_language=config.target_language,
            )  # fmt: skip
            if warns:
                self._warn_if_reversed(engine)
            translate = searching(engine, config.searched)
        if config.reverse_model:
            from nemo_distill.models.scoring import load_scorer  # NeMo's import takes many seconds

            reverse = load_scorer(config.reverse_model, device, dtype=config.reverse_dtype)
        return Translator(translate, policy, reverse, config.noise)

    def _warn_of_language(self) -> None:
        """Warns of source text that is not in the language that the teacher reads, if it says."""
        language = self.config.source_language or self.config.model_languages()[0]
        for path in self.folder.sources:
            if other := other_language(path, language):
                console.warning(f"Warning: source: '{path}' seems to be {other}, but the teacher reads {language}.")

    def _warn_if_reversed(self, engine: Engine) -> None:
        """Checks for swapped files if the engine uses a NeMo model. Other engines cannot score references."""
        pairs = [pair for pair in zip(self.folder.sources, self.assembly.references) if pair[1]]
        teacher = getattr(engine, "model", None)
        if not pairs or not hasattr(teacher, "encoder_tokenizer"):
            return
        from nemo_distill.models.scoring import warn_of_reversed_section  # NeMo's import takes many seconds

        source, reference = pairs[0]
        where, files = f"source='{source}' with its reference", {"src_file_name": source, "tgt_file_name": reference}
        warn_of_reversed_section(where, teacher, files)


def check_labelling(cfg: DictConfig) -> LabellingJob:
    """Returns the job, after checking that the output folder holds no results with other settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    try:
        job = labelling_job(cfg)
        # An engine is chosen only for new labels.
        changes = [] if job.config.engine_name == AUTO else job.folder.conflicts()
    except DataError as error:
        raise ConfigurationError([f"output_dir: {error}."]) from error
    if changes and job.config.overwrite is not True:
        said = f"'{job.folder.path}' holds labels with other settings: {'; '.join(changes)}"
        remedy = "give another folder, or start over with overwrite=true"
        raise ConfigurationError([f"output_dir: {said}; {remedy}."])
    try:
        job.assembly.work.done(bool(job.config.overwrite))
    except DataError as error:
        remedy = "give another name, or replace it with overwrite=text"
        raise ConfigurationError([f"name: {error}; {remedy}."]) from error
    return job


def labelling_job(cfg: DictConfig) -> LabellingJob:
    """Returns the job of a configuration.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(LabellingConfig, cfg).resolved()
    sources = config.sources
    folder = LabelFolder(config.output_dir, config.depends_on(), sources)
    assembly = Assembly(
        folder, config.references, config.reading, config.criteria(),
        config.name, config.keep_dropped, config.workers,
        [LabelFolder.finished(path, sources) for path in config.more_labels], config.quality, config.keep_hypotheses,
        config.noise,
    )  # fmt: skip
    return LabellingJob(config, assembly)


def chosen_job(cfg: DictConfig, job: LabellingJob) -> LabellingJob:
    """Returns the job, with the engine that `engine=auto` chooses now if its labels were not begun with one."""
    if job.config.engine_name != AUTO:
        return job
    request = job.config.engine_request()
    choose_engine(request, probed_lines(TextFiles(job.config.sources), request.device), job.config.output_dir)
    return labelling_job(cfg)


@contextmanager
def asking_alone(job: LabellingJob) -> Iterator[None]:
    """Within this context, no other process asks a server for the same labels: each answer would be paid for twice.

    Raises:
        DataError: if another process is at it.
    """
    if job.config.engine_name != API:
        yield
        return
    answers = job.folder.path / ANSWERS
    answers.mkdir(parents=True, exist_ok=True)
    with locked(answers / ".lock", wait=False) as lock:
        if lock is None:
            raise DataError(f"another process asks the server for the labels in '{answers.parent}'; wait for its end")
        yield


def translate(job: LabellingJob, rank: int, world_size: int, device: str) -> bool:
    """Writes this process's shards. Returns whether all shards are finished."""
    total = sum(path.stat().st_size for path in job.folder.sources)
    with shown_progress("translating", total, shown=rank == 0) as on_progress:
        manifest = generate(
            job.folder,
            job.config.shard_lines,
            job.config.chunk_lines,
            partial(job.build_translator, device, warns=rank == 0),
            rank,
            world_size,
            job.config.overwrite is True,
            on_progress,
        )
    if (bill := job.folder.path / BILL).is_file() and job.config.engine_name == API:
        used = read_json(bill) or {}
        console.info("The server was used as follows: " + ", ".join(f"{key} {value:,}" for key, value in used.items()))
    if manifest is None:
        console.info("This process has made its shards; others have not yet.")
    else:
        print_counts(f"Translations in {job.folder.path}", manifest["counts"], manifest["lines"])
    return manifest is not None


def write_text(job: LabellingJob) -> None:
    """Selects, filters and writes the text.

    Raises:
        DataError: if no pair was kept, after the text and its record are written.
    """
    manifest = job.folder.manifest()
    lines = manifest["lines"] if manifest else 0  # then `assemble` says what is missing
    with shown_progress("selecting and filtering", lines) as on_progress:
        done = count(1)
        record = assemble(job.assembly, bool(job.config.overwrite), lambda: on_progress(next(done), 1))
    pairs = {"kept": record["kept"], **{f"dropped: {reason}": number for reason, number in record["dropped"].items()}}
    print_counts(f"{job.assembly.work.finished_path.with_suffix('')}.src and .tgt", pairs, sum(pairs.values()))
    if not record["kept"]:
        reasons = dropped_in_words(Counter(record["dropped"])) or "the source has no line"
        raise DataError(f"no pair was kept for training: {reasons}; other filters keep more, with overwrite=text")


def main(cfg: DictConfig) -> None:
    job = checked(cfg, check_labelling)
    with plain_errors(goes_on=True):
        job = chosen_job(cfg, job)
    config = job.config

    from nemo_distill.commands.processes import processes  # Lightning's import takes seconds: after the check

    where = (config.accelerator, config.devices, config.num_nodes)
    with plain_errors(goes_on=True), processes(*where) as process, asking_alone(job):
        if translate(job, process.rank, process.world_size, process.device):
            write_text(job)
