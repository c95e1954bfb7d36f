"""Runs a comparison: trains or takes a teacher, translates text with it, trains baselines and distilled students, and
compares them on a test set.

Every step is a normal `nemo-distill` command in its own process. Finished steps are skipped, and an interrupted step
resumes. Several comparisons in the same folder share the work.
"""

import fcntl
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hydra.errors import OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.progress import track

from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.decoding.engine import translate_stream
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.demo_corpus import write_demo_corpus
from nemo_distill.evaluation.results import Result
from nemo_distill.experiments.comparison_plan import KINDS, Run, flat_overrides, given_overrides, parsed, plan_runs
from nemo_distill.metrics.scores import bleu, language_problems
from nemo_distill.storage.files import whole_file, write_json
from nemo_distill.storage.ledger import differences, fingerprint
from nemo_distill.storage.records import read_json
from nemo_distill.storage.run_record import read_run
from nemo_distill.text.files import named_files
from nemo_distill.text.lines import TextFiles, clean_text

POLL_SECONDS = 5.0  # interval for checking which steps other processes have finished


def check_comparison(cfg: DictConfig) -> None:
    """Checks that the corpus exists or can be generated, and that no folder contains the result of another run.

    Raises:
        ConfigurationError: with every problem found.
    """
    if problems := check_missing(cfg):
        raise ConfigurationError(problems)
    problems = _plan_problems(cfg)
    if isinstance(cfg.teacher, str) and not Path(cfg.teacher).is_file():
        problems.append(f"teacher names '{cfg.teacher}', which does not exist.")
    if not problems:
        problems += _generated_problems(cfg.corpus) if cfg.corpus.get("generate") else _text_problems(cfg)
    if not problems:
        problems += [
            f"'{run.folder}' holds what another command made, or began; delete it, or set another output_dir."
            for run in plan_runs(cfg)
            if run.folder.is_dir() and any(begun != list(run.arguments) for begun in run.begun_with())
        ]
    if problems:
        raise ConfigurationError(problems)


def _plan_problems(cfg: DictConfig) -> list[str]:
    """Returns the problems of the keys that determine the plan."""
    problems = [
        f"{section}.{name}={overrides}: must be a list of overrides."
        for section in KINDS
        for name, overrides in cfg[section].items()
        if not isinstance(overrides, ListConfig)
    ]
    problems = problems or _unreadable_overrides(cfg)
    taken = {"teacher"}
    for section in ("baselines", "methods"):
        for group in cfg[section]:
            if group in taken:
                problems.append(f"{section}.{group}: another model of the comparison has this name; take another.")
            taken.add(group)
    seeds = cfg.seeds if isinstance(cfg.seeds, ListConfig) else []
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        problems.append(f"seeds={cfg.seeds}: must be a list of different whole numbers, at least one.")
    _, search_problems = read_section(SearchSettings, {"beam_size": cfg.beam_size}, "search")
    problems += [problem.removeprefix("search.") for problem in search_problems]
    return problems + language_problems("corpus.target", cfg.corpus.target)


def _unreadable_overrides(cfg: DictConfig) -> list[str]:
    problems = []
    for key, override in given_overrides(cfg):
        try:
            parsed(override)
        except OverrideParseException as error:
            problems.append(f"{key}: '{override}' is no override: {str(error).splitlines()[0]}.")
    return problems


def _generated_problems(corpus: DictConfig) -> list[str]:
    """Returns a sentence if the folder for the generated corpus contains something else."""
    written = _generated_with(corpus)
    if written is None and any(file.exists() for file in _generated_files(corpus)):
        return [f"corpus.folder={corpus.folder} holds other text; for that one, set corpus.generate=null."]
    if written not in (None, OmegaConf.to_container(corpus.generate)):
        remedy = "delete it, or set another output_dir"
        return [f"corpus.folder={corpus.folder} holds a corpus generated with {written}; {remedy}."]
    return []


def _text_problems(cfg: DictConfig) -> list[str]:
    """Returns a sentence for missing corpus files, and for missing files to label that no step creates."""
    missing = [str(file) for file in _corpus_files(cfg.corpus) if not file.is_file()]
    problems = [f"corpus.folder={cfg.corpus.folder} lacks {', '.join(missing)}."] if missing else []
    for name, overrides in cfg.labels.items():
        for key, value in map(parsed, flat_overrides(overrides)):
            if key == "source" and isinstance(value, str) and not Path(value).is_relative_to(cfg.output_dir):
                problems += named_files(f"labels.{name}: source", value)[1]
    return problems


def _generated_with(corpus: DictConfig) -> dict[str, int] | None:
    return read_json(Path(corpus.folder) / "generated_with.json")


def prepare_corpus(corpus: DictConfig) -> None:
    """Writes the demo corpus if the config asks for it and it does not exist yet."""
    settings = OmegaConf.to_container(corpus.generate) if corpus.get("generate") else None
    if settings and not all(file.is_file() for file in _generated_files(corpus)):
        console.info(f"Writing the demo corpus to {corpus.folder}")
        Path(corpus.folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(corpus.folder) / "generated_with.json", settings)  # first, to mark the folder as ours
        write_demo_corpus(corpus.folder, **settings)


def _generated_files(corpus: DictConfig) -> list[Path]:
    return [*_corpus_files(corpus), Path(corpus.folder) / f"mono.{corpus.source}"]


def _corpus_files(corpus: DictConfig) -> list[Path]:
    parts = ("train", corpus.validation, corpus.test)
    languages = (corpus.source, corpus.target)
    return [Path(corpus.folder) / f"{part}.{language}" for part in parts for language in languages]


def compare(cfg: DictConfig) -> list[Result]:
    """Runs all unfinished steps and scores the models.

    The same command can be started several times, on this machine or on others that see the same folder. Each process
    takes steps that no other process is running and whose requirements are finished. At the end, it waits for the
    rest.

    Returns:
        The results of the models, in the order of the plan.

    Raises:
        SystemExit: if a step fails or is interrupted. The message says what to do next.
    """
    waiting = list(plan_runs(cfg))
    console.info(f"{sum(run.is_done for run in waiting)} of {len(waiting)} steps have finished before.")
    while waiting := [run for run in waiting if not run.is_done]:
        if not any(_take(run, cfg) for run in waiting if run.is_ready):
            time.sleep(POLL_SECONDS)
    return finished_results(cfg)


def finished_results(cfg: DictConfig) -> list[Result]:
    """Returns the results of all models whose training is finished, in the order of the plan."""
    return [score(run, cfg) for run in plan_runs(cfg) if run.model_path and run.is_done]


def _take(run: Run, cfg: DictConfig) -> bool:
    """Runs a step and scores its model, unless another process is running it. Returns whether it ran the step."""
    with _claim(run) as claim:
        if claim is not None:
            execute(run, claim)
            if run.model_path:
                score(run, cfg)
    return claim is not None


@contextmanager
def _claim(run: Run) -> Iterator[int | None]:
    """Locks a step and yields the lock's file descriptor; None if another process has locked it.

    The lock ends with the last process that has the descriptor open. If this process is killed, the process of the
    step keeps the lock.
    """
    run.lock_path.parent.mkdir(parents=True, exist_ok=True)
    with open(run.lock_path, "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield stream.fileno()


def execute(run: Run, claim: int | None = None) -> float:
    """Runs a step unless it is finished, and returns its wall time in seconds.

    Args:
        run: the step.
        claim: a file descriptor that the step's process keeps open.

    Raises:
        SystemExit: if the step fails or is interrupted. The message says what to do next.
    """
    if not run.arguments:
        return 0.0
    if record := run.finished():
        return record["seconds"]
    console.info(f"\n{run.folder.name}:\n  python {' '.join(run.arguments)}\n")
    run.begun_path.parent.mkdir(parents=True, exist_ok=True)
    write_json(run.begun_path, {"arguments": list(run.arguments)})
    started = time.monotonic()
    process = subprocess.Popen(run.command, pass_fds=() if claim is None else (claim,))
    try:
        code = process.wait()
    except KeyboardInterrupt:  # the step receives Ctrl-C too and ends by itself
        code = process.wait() or signal.SIGINT
    if code:
        raise SystemExit(f"\n{run.folder.name} did not finish; the same command goes on from there.")
    seconds = max(time.monotonic() - started, (read_run(run.folder) or {}).get("seconds", 0.0))  # and earlier ones
    if run.model_path:
        (written,) = (run.folder / "checkpoints").glob("*.nemo")
        written.replace(run.model_path)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.record_path, {"arguments": list(run.arguments), "seconds": seconds})
    return seconds


def score(run: Run, cfg: DictConfig) -> Result:
    """Restores a run's model, translates the test set and scores it against the raw references.

    If the same model was already scored on the same test set, the stored result is returned.
    """
    test_set = [
        Path(cfg.corpus.folder) / f"{cfg.corpus.test}.{side}" for side in (cfg.corpus.source, cfg.corpus.target)
    ]
    scored = {"of": [fingerprint(path) for path in (run.model_path, *test_set)], "beam_size": cfg.beam_size}
    record_path = run.folder / "scored.json"
    record = read_json(record_path)
    if record is None or differences(record["scored"], scored):
        run.folder.mkdir(parents=True, exist_ok=True)
        record = {"scored": scored, "result": asdict(_score(run, test_set, cfg))}
        write_json(record_path, record)
    return Result(**record["result"])


def _score(run: Run, test_set: Sequence[Path], cfg: DictConfig) -> Result:
    from nemo_distill.decoding.engines import load_engine

    sources, references = map(_read_lines, test_set)
    engine = load_engine("nemo_distill", [run.model_path])
    settings = SearchSettings(beam_size=cfg.beam_size)
    started = time.monotonic()
    stream = track(
        translate_stream(engine, sources, settings, chunk=128), run.folder.name, len(sources), transient=True
    )
    translations = [translation.text for translation in stream]
    seconds = time.monotonic() - started
    with whole_file(run.folder / "test.translations") as file:
        file.write("".join(f"{line}\n" for line in translations).encode())
    result = bleu(translations, references, cfg.corpus.target)
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    distilled, training_seconds = run.group in cfg.methods, (run.finished() or {"seconds": 0.0})["seconds"]
    smoothing = float(engine.model.cfg.get("label_smoothing") or 0.0)
    times = (training_seconds, seconds)
    return Result(run.group, run.seed, distilled, parameters, result.value, result.signature, *times, smoothing)


def _read_lines(path: Path) -> list[str]:
    return [clean_text(line.decode("utf-8", "replace")) for line in TextFiles([path])]
