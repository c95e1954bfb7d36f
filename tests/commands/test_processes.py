import os
import signal
import time
from types import SimpleNamespace

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from nemo_distill.commands.processes import LAUNCH_VARIABLES, Process, UngroupedStrategy, processes

TORCHRUN = {
    "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "TORCHELASTIC_RUN_ID": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
}  # fmt: skip
SLURM = {
    "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1", "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "labels", "SLURM_NODELIST": "127.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize("environment", [TORCHRUN, SLURM])
def test_launchers_tell_each_process_which_it_is_without_a_meeting(environment, monkeypatch):
    """Nobody listens at the address: a process group would wait there for the other three."""
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with processes("cpu", devices=2, num_nodes=2) as process:
        assert process == Process(rank=3, world_size=4, device="cpu")


def test_one_process_is_alone(monkeypatch):
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with processes("cpu") as process:
        assert process == Process(rank=0, world_size=1, device="cpu")
        assert not set(LAUNCH_VARIABLES) & set(os.environ)  # by which a later job would start no other processes


def test_the_main_process_ends_the_others_if_it_is_stopped_while_it_waits_for_them(monkeypatch):
    class Other:
        ended = False

        def wait(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

        def terminate(self):
            Other.ended = True

    monkeypatch.setattr(UngroupedStrategy, "launcher", SimpleNamespace(procs=[Other()], launch=lambda *_, **__: None))
    with pytest.raises(SystemExit), processes("cpu"):
        pass
    assert Other.ended
