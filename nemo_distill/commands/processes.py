"""Starts or finds the processes of a job through Lightning: on this machine, with torchrun or with SLURM.

The processes do not communicate, so no process group is set up. If Lightning started the processes and one fails, the
others are stopped, and the same command continues later. With SLURM or torchrun, their own rules apply.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import sigterm_as_exception

# What Lightning's launcher sets for the processes that it starts.
LAUNCH_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Process:
    """One of `world_size` processes, with its device."""

    rank: int
    world_size: int
    device: str


class UngroupedStrategy(DDPStrategy):
    """DDP's launcher, ranks and devices, without a process group."""

    def _setup_distributed(self) -> None:
        self._set_world_ranks()


@contextmanager
def processes(
    accelerator: str = "auto", devices: int | str | list[int] = 1, num_nodes: int = 1, section: str = ""
) -> Iterator[Process]:
    """Starts the other processes of the job, unless torchrun or SLURM has, and yields this process.

    The arguments are Lightning's, but for `section`, the beginning of their keys in the job's configuration, such as
    `trainer.`. At the end, the main process waits for the processes that it started.

    Raises:
        ConfigurationError: if the devices are not available.
        SystemExit: if another process failed.
    """
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=UngroupedStrategy())
    except (TypeError, ValueError, RuntimeError) as error:
        keys = f"{section}accelerator={accelerator}, {section}devices={devices}"
        raise ConfigurationError([f"{keys}: {error}"]) from error
    with sigterm_as_exception():
        unset = [name for name in LAUNCH_VARIABLES if name not in os.environ]
        fabric.launch()
        # Left set, a later job of this program, or one that it starts, would take itself for one of these processes.
        for name in unset:
            os.environ.pop(name, None)
        started = getattr(fabric.strategy.launcher, "procs", [])
        try:
            yield Process(fabric.global_rank, fabric.world_size, str(fabric.device))
            codes = [process.wait() for process in started]
        except BaseException:
            for process in started:
                process.terminate()
            raise
    if any(codes):
        raise SystemExit("A process of the job failed; the same command goes on from there.")
