"""Hydra's callback for sweeps, and the names of their folders.

All configs refer to it, even those without training, so it imports little.
"""

import atexit
import hashlib
import json
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.overrides import read_override
from nemo_distill.console import Interrupted, print_table
from nemo_distill.storage.files import numeric_order, write_json
from nemo_distill.storage.records import read_json

OWN_FOLDER = (
    "exp_manager.explicit_log_dir={}: the trainings of a sweep would share it; leave it out, and say with "
    "hydra.sweep.dir where the sweep's folders go."
)
LONGEST_NAME = 255  # bytes; what most file systems take
READABLE = 120  # bytes of a long name that are kept
# Separators, and what a Hydra override cannot hold between quotes.
UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f]+")
DIGEST = re.compile(r"~[0-9a-f]{12}\Z")


def folder_name(values: str) -> str:
    """Returns the name of one folder for the values of a job; conf/console.yaml calls it `sweep_folder`.

    A name that file systems take stays as it is. Of any other one, such as with a path as a value, the beginning is
    kept, with `_` in place of separators. A digest of the whole follows, so that different values differ.

    Args:
        values: Hydra's `override_dirname`, such as `student=slim_1x1,temperature=2`.
    """
    encoded = values.encode("utf-8", "surrogateescape")
    beginning = UNSAFE.sub("_", values)
    is_safe = beginning == values and values not in (".", "..") and len(encoded) <= LONGEST_NAME
    if is_safe and not DIGEST.search(values):
        return values
    readable = beginning.encode("utf-8", "surrogateescape")[:READABLE].decode("utf-8", "ignore")
    return f"{readable}~{hashlib.sha256(encoded).hexdigest()[:12]}"


# Hydra imports this module in every process that runs a job of a sweep, because the callback is in its config.
OmegaConf.register_new_resolver("sweep_folder", folder_name, replace=True)


class SweepFolders(Callback):
    """Names the folders of a sweep's jobs after the swept values, and prints the outcomes at the end.

    A name is for example `student=slim_1x1,temperature=2`. Hydra's `override_dirname` would also contain the overrides
    that all jobs share. Hydra passes the return values of jobs to no callback, and jobs may run on other machines.
    Therefore each job writes its outcome to a folder of this sweep.

    Args:
        checks: by the names of jobs, functions that raise `ConfigurationError` if the config of one cannot be used.
            With them, all jobs of a sweep are checked before the first one starts.
    """

    def __init__(self, checks: Mapping[str, str] | None = None) -> None:
        self.outcomes: Path | None = None
        self._checks = checks or {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if folder := (config.get("exp_manager") or {}).get("explicit_log_dir"):
            print(OWN_FOLDER.format(folder), file=sys.stderr)
            sys.exit(2)
        if check := self._checks.get(config.hydra.job.name):
            from nemo_distill.experiments.sweep import check_sweep  # jobs without a sweep do not need it

            check_sweep(config, get_method(check))
        given: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # jobs set what they refer to
        are_swept: dict[str, bool] = {}
        for override in map(read_override, given):  # of several for one key, the last one counts
            are_swept[override.key_or_group] = override.is_sweep_override()
        shared = [key for key, is_swept in are_swept.items() if not is_swept]
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={json.dumps(shared)}")
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.outcomes = Path(tempfile.mkdtemp(prefix=".outcomes_", dir=folder))
        atexit.register(shutil.rmtree, self.outcomes, ignore_errors=True)
        signal.signal(signal.SIGINT, _interrupt)  # otherwise launchers print a stack trace

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self.outcomes and job_return.status is JobStatus.COMPLETED and job_return.return_value:
            write_json(self.outcomes / f"{config.hydra.job.num}.json", job_return.return_value)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        paths = sorted(self.outcomes.glob("*.json"), key=numeric_order) if self.outcomes else []
        found = [outcome for path in paths if (outcome := read_json(path))]
        if not found:  # the job is not a training
            return
        print_table(("training", "outcome", "best"), [[one["training"], one["outcome"], one["best"]] for one in found])
        counts = Counter(one["outcome"] for one in found)
        print(f"{len(found)} trainings: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}.")
        reasons = [f"{one['training']} {one['reason']}." for one in found if one["reason"]]
        if reasons:
            print(*reasons, "The same command does again what is missing.", sep="\n", file=sys.stderr)
            sys.exit(1)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted("\nInterrupted; the same command goes on from there.")
