"""Labels text with a teacher: checks the configuration, translates, and writes training text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.commands.translate import model_paths
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import (
    ENGINES,
    engine_problems,
    load_engine,
    model_languages,
    search_problems,
    written_language,
)
from nemo_distill.decoding.ensemble import share_problems
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.metrics.scores import bleu_tokenization, language_problems
from nemo_distill.nemo_files.translation_archive import translation_archive
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.pseudo_labels.assemble import ENDINGS, Assembly, assemble
from nemo_distill.pseudo_labels.filters import FilterSettings
from nemo_distill.pseudo_labels.folder import LabelFolder
from nemo_distill.pseudo_labels.generate import Generation, Translator, generate, searching
from nemo_distill.pseudo_labels.judge import Criteria
from nemo_distill.pseudo_labels.translated_elsewhere import TranslatedElsewhere
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.files import as_list, named_files, unequal_lengths
from nemo_distill.text.lines import LinePolicy, TextFiles

FILE = "file"  # instead of an engine: use existing translations
LABELLERS = (*ENGINES, FILE)
TEACHER = "teacher"  # instead of languages: use the teacher's
OVERWRITE = (False, "text", True)
RESERVED_NAMES = ("manifest", "settings")


@dataclass(frozen=True)
class LabellingJob:
    """A job with a valid configuration.

    Args:
        generation: the translation of the sources.
        assembly: the settings for writing text from the translations.
        search: the teacher's search settings.
        engine: the arguments of `load_engine`, except the device.
        reverse_model: the `.nemo` that scores the hypotheses; optional.
        overwrite: `text` replaces text with different settings; True also replaces labels with different settings.
    """

    generation: Generation
    assembly: Assembly
    search: SearchSettings
    engine: Mapping[str, Any]
    reverse_model: str | None
    overwrite: bool | str

    def build_translator(self, device: str, warns: bool = False) -> Translator:
        """Loads the teacher and the reverse model, if any. If `warns`, checks for swapped source and reference."""
        policy, reverse = self.assembly.policy, None
        if self.engine["name"] == FILE:
            translate = TranslatedElsewhere([Path(path) for path in self.engine["paths"]], policy).translate
        else:
            engine = load_engine(device=device, **self.engine)
            if warns:
                self._warn_if_reversed(engine)
            translate = searching(engine, self.search)
        if self.reverse_model:
            from nemo_distill.models.scoring import NeMoScorer  # NeMo's import takes many seconds

            reverse = NeMoScorer(self.reverse_model, device)
        return Translator(translate, policy, reverse)

    def _warn_if_reversed(self, engine: Engine) -> None:
        """Checks for swapped files if the engine uses a NeMo model. Other engines cannot score references."""
        pairs = [pair for pair in zip(self.assembly.sources, self.assembly.references) if pair[1]]
        teacher = getattr(engine, "model", None)
        if not pairs or not hasattr(teacher, "encoder_tokenizer"):
            return
        from nemo_distill.models.direction import warn_of_reversed_section  # NeMo's import takes many seconds

        source, reference = pairs[0]
        where, files = f"source='{source}' with its reference", {"src_file_name": source, "tgt_file_name": reference}
        warn_of_reversed_section(where, teacher, files)


def check_labelling(cfg: DictConfig) -> None:
    """Checks the configuration, and that the output folder holds no results with different settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    job = labelling_job(cfg)
    try:
        problems = _label_conflicts(job) or _text_conflicts(job)
    except DataError as error:
        problems = [f"output_dir: {error}."]
    if problems:
        raise ConfigurationError(problems)


def _label_conflicts(job: LabellingJob) -> list[str]:
    folder = job.generation.folder
    changes = folder.conflicts()
    if not changes or job.overwrite is True:
        return []
    said = f"'{folder.path}' holds labels of other settings: {'; '.join(changes)}"
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
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    problems = check_missing(cfg)
    if problems:
        raise ConfigurationError(problems)
    sources, references, problems = _files(values)
    sections, section_problems = _sections(values)
    problems += section_problems + _model_problems(values) + _scalar_problems(values)
    problems += _overwritten(values, [*sources, *filter(None, references)])
    if values["engine"] == FILE:
        problems += _translated_elsewhere_problems(values, sources)
    if not problems and values["selection"] == "interpolation":
        problems += _interpolation_problems(references, sections["search"])
    if not problems:
        values["metric_language"] = _metric_language(values)
        if values["metric"] == "bleu":
            problems = language_problems("metric_language", values["metric_language"])
    if problems:
        raise ConfigurationError(problems)
    return _build(values, sections, sources, references)


def _files(values: Mapping[str, Any]) -> tuple[list[Path], list[Path | None], list[str]]:
    sources, problems = named_files("source", values["source"])
    references: list[Path | None] = []
    wanted = as_list(values["reference"]) or [None] * len(sources)
    for reference in wanted:
        files, found = named_files("reference", reference) if reference is not None else ([None], [])
        references += files
        problems += found
    if len(sources) != len(references):
        problems.append(
            f"reference names {len(references)} files and source {len(sources)}; they go in pairs, with null for "
            "monolingual text."
        )
    if not problems:
        for source, reference in zip(sources, references):
            problems += unequal_lengths("reference", source, reference) if reference else []
    return sources, references, problems


def _sections(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    classes = {"search": SearchSettings, "reading": LinePolicy, "filters": FilterSettings}
    built = {name: read_section(kind, values[name] or {}, name) for name, kind in classes.items()}
    criteria = Criteria(values["selection"], values["metric"], values["metric_language"])
    problems = [problem for _, found in built.values() for problem in found] + criteria.problems()
    sections = {name: section for name, (section, _) in built.items()}
    return sections, problems + (search_problems(values["engine"], sections["search"]) if sections["search"] else [])


def _model_problems(values: Mapping[str, Any]) -> list[str]:
    paths = model_paths(values["model"])
    engine, problems = values["engine"], []
    if engine not in LABELLERS:
        problems.append(f"engine={engine}: must be one of {', '.join(LABELLERS)}.")
    elif engine != FILE:
        problems += engine_problems(engine, paths, values["dtype"])
    if values["reverse_model"]:
        problems += _archive_problems("reverse_model", values["reverse_model"])
    return problems + share_problems(values["weights"], len(paths))


def _translated_elsewhere_problems(values: Mapping[str, Any], sources: Sequence[Path]) -> list[str]:
    files, problems = named_files("model", values["model"])
    filters, search = values["filters"] or {}, values["search"] or {}
    if filters.get("score_quantile") or search.get("n_best", 1) > 1:
        problems.append("engine=file has one translation a line, and no scores: set n_best=1, score_quantile=null.")
    if problems or not sources:
        return problems
    counts = [sum(1 for _ in TextFiles(paths)) for paths in (sources, files)]
    return [] if counts[0] == counts[1] else [f"model has {counts[1]} lines, and source has {counts[0]}."]


def _archive_problems(key: str, path: str) -> list[str]:
    try:
        translation_archive(path)
    except ValueError as error:
        return [f"{key}: {error}."]
    return []


def _scalar_problems(values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{key}={values[key]}: must be a whole number of at least 1."
        for key in ("shard_lines", "chunk_lines", "workers")
        if not isinstance(values[key], int) or values[key] < 1
    ]
    moses = values["moses"]
    if moses not in (None, TEACHER) and (len(as_list(moses)) != 2 or isinstance(moses, str)):
        problems.append(f"moses={moses}: must be {TEACHER}, null, or the languages of source and target, as [de,en].")
    if values["overwrite"] not in OVERWRITE:
        problems.append(f"overwrite={values['overwrite']}: must be one of false, text, true.")
    name = str(values["name"])
    if not name or "/" in name or name.startswith(".") or name in RESERVED_NAMES:
        problems.append(f"name={name}: must be the beginning of a file name, and none of {', '.join(RESERVED_NAMES)}.")
    return problems


def _overwritten(values: Mapping[str, Any], read: list[Path]) -> list[str]:
    """Returns a sentence for each output file that would replace an input file or a file of unknown origin."""
    if values["engine"] == FILE:
        read = read + named_files("model", values["model"])[0]
    folder, name, known = user_path(values["output_dir"]), values["name"], {path.resolve() for path in read}
    written = [folder / f"{name}.{ending}" for ending in ENDINGS]
    ours = (folder / "settings.json").is_file()
    taken = [path for path in written if path.resolve() in known or (path.exists() and not ours)]
    return [f"name={name} would overwrite '{path}'; give another name, or another output_dir." for path in taken]


def _interpolation_problems(references: list[Path | None], search: SearchSettings) -> list[str]:
    problems = []
    if not any(references):
        problems.append("selection=interpolation compares hypotheses with a reference, but reference names no file.")
    if search.n_best < 2:
        problems.append(f"search.n_best={search.n_best}: selection=interpolation chooses from at least 2 hypotheses.")
    return problems


def _build(
    values: Mapping[str, Any], sections: Mapping[str, Any], sources: list[Path], references: list[Path | None]
) -> LabellingJob:
    engine = {key: values[key] for key in ("dtype", "weights", "source_language", "target_language")}
    teachers = model_paths(values["model"])
    if values["engine"] == FILE:
        teachers = [str(path) for path in named_files("model", values["model"])[0]]
    reverse_model = values["reverse_model"] and str(user_path(values["reverse_model"]))
    settings = {
        "engine": values["engine"],
        **engine,
        "teachers": [fingerprint(Path(path)) for path in teachers],
        "reverse_model": fingerprint(Path(reverse_model)) if reverse_model else None,
        "search": asdict(sections["search"]),
        "reading": asdict(sections["reading"]),
        "shard_lines": values["shard_lines"],
        "chunk_lines": values["chunk_lines"],
        "sources": [{"name": path.name, "bytes": path.stat().st_size} for path in sources],
    }
    folder = LabelFolder(user_path(values["output_dir"]), settings, sources)
    given = (values["selection"], values["metric"], values["metric_language"], sections["filters"])
    criteria = Criteria(*given, _moses(values, teachers))
    assembly = Assembly(
        folder, sources, references, sections["reading"], criteria,
        values["name"], values["keep_dropped"], values["workers"],
    )  # fmt: skip
    return LabellingJob(
        Generation(sources, folder, values["shard_lines"], values["chunk_lines"]),
        assembly,
        sections["search"],
        {"name": values["engine"], "paths": teachers, **engine},
        reverse_model,
        values["overwrite"],
    )


def _metric_language(values: Mapping[str, Any]) -> str | None:
    """Returns the given language, or the teacher's if BLEU needs it."""
    asked = values["selection"] == "interpolation" and values["metric"] == "bleu"
    if values["metric_language"] or not asked or values["engine"] == FILE:
        return values["metric_language"]
    language = written_language(values["engine"], model_paths(values["model"])[0], values["target_language"])
    return None if bleu_tokenization(language) == bleu_tokenization(None) else language


def _moses(values: Mapping[str, Any], teachers: Sequence[str]) -> list[str | None]:
    """Returns the languages for Moses tokenization of the text."""
    if values["moses"] != TEACHER:
        return values["moses"] or [None, None]
    if values["engine"] == FILE:
        return [None, None]
    return model_languages(values["engine"], teachers[0], values["source_language"], values["target_language"])


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
    if manifest is None:
        console.info("This process has made its shards; others have not yet.")
    else:
        print_counts(f"Translations in {job.generation.folder.path}", manifest["counts"], manifest["lines"])
    return manifest is not None


def write_text(job: LabellingJob) -> None:
    """Selects, filters and writes the text."""
    lines = job.generation.folder.manifest()["lines"]
    with shown_progress("selecting and filtering", lines) as on_progress:
        done = count(1)
        record = assemble(job.assembly, bool(job.overwrite), lambda: on_progress(next(done), 1))
    kept = {"kept": record["kept"], **{f"dropped: {reason}": number for reason, number in record["dropped"].items()}}
    print_counts(f"{job.assembly.work.finished_path.with_suffix('')}.src and .tgt", kept, record["lines"])


def main(cfg: DictConfig) -> None:
    check(cfg, check_labelling)
    job = labelling_job(cfg)

    from nemo_distill.pseudo_labels.processes import processes  # Lightning's import takes seconds: after the check

    with plain_errors(goes_on=True), processes(cfg.accelerator, cfg.devices, cfg.num_nodes) as process:
        if translate(job, process.rank, process.world_size, process.device):
            write_text(job)
