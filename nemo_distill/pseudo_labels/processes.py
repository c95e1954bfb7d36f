"""The processes that share a job, as Lightning starts or finds them: on this machine, under torchrun or under SLURM.

They need nothing from each other, so that no process group is set up. Of those that Lightning starts, one that is lost
ends the others, and the same command makes what is missing; what SLURM and torchrun do then is theirs to say.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import sigterm_as_exception


@dataclass(frozen=True)
class Process:
    """One of `world_size` processes, and the device that is its own."""

    rank: int
    world_size: int
    device: str


class UngroupedStrategy(DDPStrategy):
    """DDP's launcher, ranks and devices without its process group."""

    def _setup_distributed(self) -> None:
        self._set_world_ranks()


@contextmanager
def processes(accelerator: str = "auto", devices: int | str = 1, num_nodes: int = 1) -> Iterator[Process]:
    """Starts the job's other processes, unless torchrun or SLURM has, and tells each which it is.

    The arguments are Lightning's. A process that has started others waits for them at the end.

    Raises:
        ConfigurationError: if there are no such devices.
        SystemExit: if one of them failed.
    """
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=UngroupedStrategy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigurationError([f"accelerator={accelerator}, devices={devices}: {error}"]) from error
    with sigterm_as_exception():
        fabric.launch()
        started = getattr(fabric.strategy.launcher, "procs", [])
        try:
            yield Process(fabric.global_rank, fabric.world_size, str(fabric.device))
        except BaseException:
            for process in started:
                process.terminate()
            raise
    if any([process.wait() for process in started]):
        raise SystemExit("A process of the job failed; the same command goes on from there.")
