import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.speed import SpeedSettings, TimedSystem, measure
from tests.evaluation.fakes import FakeSystem, ThreadCounting

LINES = ["eins zwei.", "drei"] * 3


def test_every_system_is_measured_in_a_process_of_its_own(tmp_path):
    systems = [FakeSystem(name, tmp_path, "nemo_distill") for name in ("a", "b")]
    ours = b"x" * 600_000_000  # must not be counted as theirs
    speeds = measure(
        systems, LINES, SpeedSettings(sentences=4, latency_sentences=2, rounds=2), SearchSettings(), "cpu", threads=1
    )
    assert len(speeds) == 2
    for speed in speeds:
        assert all(value > 0 for value in asdict(speed).values())
        assert speed.peak_memory_mb < len(ours) / 1e6
        assert speed.latency_ms_median <= speed.latency_ms_p95
        assert speed.tokens_per_second / speed.sentences_per_second == 2  # "EINS ZWEI ." and "DREI"


def test_pytorch_has_the_threads_that_were_asked_for_whatever_mkl_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    system = ThreadCounting("a", tmp_path, "nemo_distill")
    (speed,) = measure([system], LINES, SpeedSettings(rounds=1), SearchSettings(), "cpu", threads=2)
    assert os.environ["MKL_NUM_THREADS"] == "1"
    assert speed.tokens_per_second / speed.sentences_per_second == 2


ENDLESS = """
import sys
from pathlib import Path
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.speed import SpeedSettings, measure
from tests.evaluation.fakes import Telling

system = Telling("a", Path(sys.argv[1]), "nemo_distill")
measure([system], ["eins"], SpeedSettings(rounds=10**9), SearchSettings(), "cpu", threads=1)
"""


def test_the_processes_of_a_killed_evaluation_end(tmp_path):
    told = tmp_path / "process"
    evaluation = subprocess.Popen([sys.executable, "-c", ENDLESS, told])
    wait_for(told.is_file)
    evaluation.kill()
    evaluation.wait()
    wait_for(lambda: has_ended(told.read_text()))


def has_ended(process):
    status = Path("/proc", process, "status")
    return not status.exists() or "State:\tZ" in status.read_text()  # a container may collect no ended processes


def wait_for(done, seconds=120):
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_system_is_warm_before_it_is_timed_and_latency_is_of_lines_alone(tmp_path):
    timed = TimedSystem(FakeSystem("a", tmp_path, "nemo_distill"), LINES, 2, SearchSettings(), "cpu")
    assert timed._engine.calls == [6]
    assert timed.together()[1] == 12
    assert len(timed.latencies()) == 2
    assert timed._engine.calls == [6, 6, 1, 1]


def test_tokens_are_counted_in_the_language_that_is_written(tmp_path):
    system = FakeSystem("a", tmp_path, "nemo_distill")
    assert TimedSystem(system, ["我喜欢狗。"], 1, SearchSettings(), "cpu", "zh").together()[1] == 5
