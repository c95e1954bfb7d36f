"""What all engines with CTranslate2 have in common; test_all_engines.py compares their searches."""

import pytest

from nemo_distill.decoding import ctranslate2_search
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.storage import made_with


@pytest.mark.parametrize(
    ("cpu", "use_mkl", "coarse"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx avx2\n", None, True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx avx2\n", "0", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx avx2\n", "1", False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx avx2\n", None, False),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", None, False),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx_vnni\n", None, False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm\n", None, False),
        ("", None, False),
    ],
)
def test_int8_is_coarse_where_nothing_sums_its_products_exactly(cpu, use_mkl, coarse, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(cpu)
    monkeypatch.setattr(made_with, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("CT2_USE_MKL", raising=False)
    if use_mkl is not None:
        monkeypatch.setenv("CT2_USE_MKL", use_mkl)
    assert ctranslate2_search.int8_is_coarse() == coarse


@pytest.mark.parametrize(("quantization", "coarse"), [("int8", True), ("int8", False), ("float32", True)])
def test_coarse_int8_is_told(quantization, coarse, trained_path, monkeypatch, caplog):
    monkeypatch.setattr(ctranslate2_search, "int8_is_coarse", lambda: coarse)
    ctranslate2_search.warn_of_coarse_int8.cache_clear()
    CTranslate2Engine.from_nemo(trained_path, quantization)
    assert ("CT2_USE_MKL=1" in caplog.text) == (coarse and quantization == "int8")
