"""From a corpus to an evaluation: trains a teacher, or takes one, has it translate text, trains baselines and
distilled students, and evaluates them all on test sets.

Every step is a normal `nemo-distill` command in its own process. Finished steps are skipped, and an interrupted step
resumes. Several comparisons in the same folder share the work.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from joblib import cpu_count

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.overrides import parsed
from nemo_distill.console import console
from nemo_distill.cores import ARE_THREADS_GIVEN, THREADS
from nemo_distill.demo_corpus import write_demo_corpus
from nemo_distill.evaluation.evaluation_job import EvaluationJob
from nemo_distill.evaluation.evaluation_record import BASELINE, DISTILLED, Role
from nemo_distill.evaluation.systems import System
from nemo_distill.experiments.compared_teacher import ComparedTeacher
from nemo_distill.experiments.comparison_plan import Run, plan_runs
from nemo_distill.experiments.comparison_section import (
    TEACHER,
    ComparedCorpus,
    ComparedFailures,
    ComparisonConfig,
    GeneratedCorpus,
)
from nemo_distill.experiments.equal_steps import common_steps, length_problems, other_lengths
from nemo_distill.storage.files import folder_lock, locked
from nemo_distill.storage.ledger import Work
from nemo_distill.storage.run_record import read_run
from nemo_distill.text.files import as_list, named_files, unequal_lengths

_running: set[subprocess.Popen] = set()  # the steps of this process
_telling = threading.Lock()
SHOWN_LINES = 20  # of what a step printed, if it fails
POLL_SECONDS = 5.0  # interval for checking which steps other processes have finished


def check_comparison(config: ComparisonConfig) -> None:
    """Checks that the corpus is there or can be generated, and that no run's folder holds another run's result.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems, corpus = list(length_problems(config)), config.corpus
    problems += ComparedTeacher(config).problems() if isinstance(config.teacher, str) else []
    problems += _generated_problems(corpus, corpus.generate) if corpus.generate else _text_problems(config)
    if problems := problems or _other_work(plan_runs(config)):
        raise ConfigurationError(problems)


def _other_work(runs: Iterable[Run]) -> list[str]:
    return [
        f"'{run.folder}' holds other work: {'; '.join(changes)}; delete it, or set another output_dir."
        for run in runs
        if run.folder.is_dir() and (changes := run.changes())
    ]


def _generated_problems(corpus: ComparedCorpus, generate: GeneratedCorpus) -> list[str]:
    """Reports files in the corpus folder that were not generated with these settings."""
    work = _generation(corpus, generate)
    if not any(record and record.is_file() for record in (work.begun_path, work.finished_path)):
        if any(file.exists() for file in _generated_files(corpus)):
            return [f"corpus.folder={corpus.folder} holds other text; for that one, set corpus.generate=null."]
    elif changes := work.changes():
        remedy = "delete it, or set another output_dir"
        return [f"corpus.folder={corpus.folder} holds a corpus with other settings: {'; '.join(changes)}; {remedy}."]
    return []


def _text_problems(config: ComparisonConfig) -> list[str]:
    """Reports missing files of the corpus, and missing texts and models of `labels` that no step makes."""
    corpus = config.corpus
    missing = [str(file) for file in _corpus_files(corpus) if not file.is_file()]
    if missing:
        problems = [f"corpus.folder={corpus.folder} lacks {', '.join(missing)}."]
    else:
        problems = []
        for test_set in corpus.test_sets():
            problems += unequal_lengths(f"corpus.test: {test_set.name}", test_set.source, test_set.reference)
    for name, overrides in config.labels.items():
        for key, value in map(parsed, overrides):
            if not isinstance(value, str) or Path(value).is_relative_to(config.output_dir):
                continue
            if key == "source":
                problems += named_files(f"labels.{name}: source", value)[1]
            elif key == "model" and value.endswith(".nemo") and not Path(value).is_file():
                problems.append(f"labels.{name}: model names '{value}', which does not exist.")
    return problems


def prepare_corpus(corpus: ComparedCorpus) -> None:
    """Writes the demo corpus, where the config asks for one and it is not there yet."""
    if not corpus.generate:
        return
    folder, work = Path(corpus.folder), _generation(corpus, corpus.generate)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder):
        if work.done(files=_generated_files(corpus)):
            return
        console.info(f"Writing the demo corpus to {folder}")
        work.begin()  # first: what is there of it is ours
        write_demo_corpus(folder, **work.settings)
        work.finish({})


def _generation(corpus: ComparedCorpus, generate: GeneratedCorpus) -> Work:
    folder = Path(corpus.folder)
    return Work(folder / "generated.json", asdict(generate), folder / "generated_with.json")


def _generated_files(corpus: ComparedCorpus) -> list[Path]:
    return [*_corpus_files(corpus), _written_monolingual(corpus)]


def _written_monolingual(corpus: ComparedCorpus) -> Path:
    return Path(corpus.folder) / f"mono.{corpus.source}"


def _corpus_files(corpus: ComparedCorpus) -> list[Path]:
    parts = ("train", corpus.validation, *corpus.tests)
    languages = (corpus.source, corpus.target)
    return [Path(corpus.folder) / f"{part}.{language}" for part in parts for language in languages]


def do_steps(config: ComparisonConfig) -> None:
    """Does all steps that have not been done before, `config.at_a_time` of them at a time.

    The same command can be started several times, on this machine or on others that see the same folder. Each process
    takes steps that no other process is running and whose requirements are finished. At the end, it waits for the
    rest.

    Within `sigterm_as_exception`, SIGTERM ends the steps that this process has started, each in its own way.

    Raises:
        SystemExit: if a step fails or is interrupted. The message says what to do next.
        ConfigurationError: if another process has meanwhile done a step with other settings.
    """
    runs = list(plan_runs(config))
    console.info(f"{sum(run.is_done for run in runs)} of {len(runs)} jobs have finished before.")
    console.info(f"Each student is trained for {common_steps(config):,} steps.")
    for group, values in other_lengths(config).items():
        named = ", ".join(f"{key}={value}" for key, value in values.items())
        console.info(
            f"{group} is trained for a different length ({named}), so evaluations do not compare it with the others."
        )
    has_ended = threading.Event()
    with ThreadPoolExecutor(config.at_a_time) as pool:
        told: set[str] = set()
        workers = [pool.submit(_do_waiting, runs, config.at_a_time, has_ended, told) for _ in range(config.at_a_time)]
        try:
            wait(workers)
        except KeyboardInterrupt:  # the steps receive Ctrl-C too, and end by themselves
            has_ended.set()
            raise
        except SystemExit as ended:  # within `sigterm_as_exception`
            has_ended.set()
            for process in list(_running):
                process.terminate()
            raise SystemExit("\nTerminated; the same command goes on from there.") from ended
    for worker in workers:
        worker.result()
    if problems := _other_work(runs):
        raise ConfigurationError(problems)


def _do_waiting(runs: Sequence[Run], at_a_time: int, has_ended: threading.Event, told: set[str]) -> None:
    """Does one step after another until all are done, or until `has_ended`, which is set if one fails.

    Args:
        runs: the steps.
        at_a_time: how many threads do this.
        has_ended: as above.
        told: the names of the steps of other processes that have been told, which the threads share.
    """
    has_waited = False  # else a step may be one that another thread is about to start
    try:
        while (waiting := [run for run in runs if not run.is_done]) and not has_ended.is_set():
            if any(take(run, at_a_time) for run in waiting if run.is_ready):
                has_waited = False
                continue
            if not _running and (has_waited or at_a_time == 1):
                with _telling:
                    if others := {run.folder.name for run in waiting if run.is_ready} - told:
                        console.info(f"Waiting for other processes, which are at {', '.join(sorted(others))}.")
                        told |= others
            has_waited = True
            has_ended.wait(POLL_SECONDS)
    except BaseException:
        has_ended.set()
        raise


def evaluation_of(config: ComparisonConfig) -> EvaluationJob:
    """Returns the evaluation of those models whose trainings have finished, in the order of the plan.

    Unless the config names others, differences from all baselines are tested.
    """
    compared = {TEACHER, *config.baselines, *config.methods}
    systems = [
        _system(run, run.model_path, config)
        for run in plan_runs(config)
        if run.group in compared and run.model_path and run.is_done
    ]
    names = {system.name: system.role for system in systems}
    significance = config.evaluation.significance
    chosen = significance.baselines or [name for name, role in names.items() if role == BASELINE]
    baselines = [name for name in chosen if name in names] or None
    settings = replace(
        config.evaluation,
        significance=replace(significance, baselines=baselines),
        failures=_with_training_text(config.evaluation.failures, config.corpus),
    )
    folder = config.output_dir / "evaluation"
    return EvaluationJob(systems, config.corpus.test_sets(), folder, config.search, settings)


def _with_training_text(failures: ComparedFailures | None, corpus: ComparedCorpus) -> ComparedFailures | None:
    """Returns the settings with the corpus that the models are trained on, unless they name another text.

    Not with pseudo-labels: what a teacher made up would count as words that there are.
    """
    if failures is None or failures.training_source or failures.training_target:
        return failures
    source, target = ([str(Path(corpus.folder) / f"train.{side}")] for side in (corpus.source, corpus.target))
    return replace(failures, training_source=[*source, *_monolingual(corpus)], training_target=target)


def _monolingual(corpus: ComparedCorpus) -> list[str]:
    if corpus.generate and corpus.generate.monolingual:
        return [str(_written_monolingual(corpus))]
    return as_list(corpus.monolingual)


def _system(run: Run, model_path: Path, config: ComparisonConfig) -> System:
    name = run.folder.name
    if run.group == TEACHER:
        teacher = ComparedTeacher(config)
        return System(name, model_path, teacher.engine, None, *teacher.languages)
    role: Role = DISTILLED if run.group in config.methods else BASELINE
    return System(name, model_path, "nemo_distill", role=role, preparation_seconds=preparation_seconds(run))


def preparation_seconds(run: Run) -> float:
    """Returns the seconds of the jobs that a training needed besides its teacher's: labels, caches, other students."""
    needed, found = list(run.needs), set()
    while needed:
        if (one := needed.pop()).group != TEACHER and one not in found:
            found.add(one)
            needed += one.needs
    return sum((one.work.finished() or {}).get("seconds", 0.0) for one in found)


def take(run: Run, at_a_time: int = 1) -> bool:
    """Does a step, unless another process is at it; returns whether it did.

    The lock is held until this process and the step's have both ended, so that a step whose parent is killed keeps it.
    """
    run.lock_path.parent.mkdir(parents=True, exist_ok=True)
    with locked(run.lock_path, wait=False) as lock:
        if lock is not None:
            execute(run, lock, at_a_time)
    return lock is not None


def execute(run: Run, lock: int | None = None, at_a_time: int = 1) -> float:
    """Does a step unless it has been done before, and returns its wall time in seconds.

    This includes earlier attempts: of a training those that it resumed, of other steps all.

    Args:
        run: the step.
        lock: a file descriptor that the step's process keeps open.
        at_a_time: how many steps run at the same time. With several, each prints into a file.

    Raises:
        SystemExit: if the step fails or is interrupted. The message says what to do next.
        DataError: if a training has not left one `.nemo`.
    """
    if not run.arguments:
        return 0.0
    if run.is_done and (record := run.work.finished()):
        return record["seconds"]
    earlier, work = run.earlier_seconds, run.work  # with the files that the step reads, before it reads them
    work.begin(seconds=earlier)
    started, name = time.monotonic(), run.folder.name
    console.info(f"{name}: started" + (f"; what it prints is in {run.log_path}" if at_a_time > 1 else ""))
    code, printed = _printed(run, lock, at_a_time) if at_a_time > 1 else (_exit_code(run, lock), "")
    seconds = earlier + time.monotonic() - started
    if code:
        work.begin(seconds=seconds)
        raise SystemExit(f"\n{printed}{name} did not finish; the same command goes on from there.")
    if training := read_run(run.folder):  # it counts earlier attempts only if it went on from their checkpoints
        seconds = max(seconds - earlier, training.get("seconds", 0.0))
    if run.model_path:
        written = list((run.folder / "checkpoints").glob("*.nemo"))
        if len(written) != 1:
            raise DataError(f"'{run.folder}/checkpoints' has {len(written)} .nemo files, and must have one")
        # It is whole already. The step that makes it is done again if this is not reached.
        written[0].replace(run.model_path)
    work.finish({"seconds": seconds})
    console.info(f"{name}: finished after {timedelta(seconds=round(seconds))}")
    return seconds


def _printed(run: Run, lock: int | None, at_a_time: int) -> tuple[int, str]:
    """Runs a step beside others, and returns its exit code and the end of what it printed.

    It has its share of the cores. The teacher has all of them: it runs alone, because all other steps need it.
    """
    takes_all = run.group == TEACHER or ARE_THREADS_GIVEN
    share = {} if takes_all else {THREADS: str(max(1, cpu_count() // at_a_time))}
    run.log_path.parent.mkdir(exist_ok=True)
    with run.log_path.open("ab") as log:
        begin = log.tell()
        code = _exit_code(run, lock, stdout=log, stderr=log, env={**os.environ, **share, "PYTHONUNBUFFERED": "1"})
    lines = run.log_path.read_bytes()[begin:].decode(errors="replace").splitlines(keepends=True)
    return code, "".join(lines[-SHOWN_LINES:])


def _exit_code(run: Run, lock: int | None, **options: Any) -> int:
    process = subprocess.Popen([sys.executable, *run.arguments], pass_fds=() if lock is None else (lock,), **options)
    _running.add(process)
    try:
        return process.wait()
    except KeyboardInterrupt:  # the step receives Ctrl-C too and ends by itself
        return process.wait() or signal.SIGINT
    finally:
        _running.discard(process)
