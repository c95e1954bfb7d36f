"""What a result says of the machine that it was made on."""

import pytest

from nemo_distill.storage import made_with
from nemo_distill.storage.made_with import device_name

CPU_INFOS = {
    "model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma\n": "AMD EPYC (avx2)",
    "model name\t: AMD EPYC\nflags\t\t: fpu avx512_vnni avx2 avx512f\n": "AMD EPYC (avx2, avx512f, avx512_vnni)",
    "processor: 0\nFeatures\t: fp asimd i8mm\n": "machine (asimd, i8mm)",
    "": "machine",
}


@pytest.mark.parametrize(("content", "name"), CPU_INFOS.items())
def test_processors_of_one_name_and_other_instructions_are_told_apart(content, name, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(content)
    monkeypatch.setattr(made_with, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(made_with.platform, "machine", lambda: "machine")
    assert device_name("cpu") == name
