"""Where bfloat16 is chosen, and that what a user chooses stays."""

import pytest

from nemo_distill.commands.cache_teacher import caching_job
from nemo_distill.commands.training import choose_precision
from nemo_distill.decoding.engines import found_dtype
from nemo_distill.storage import made_with
from nemo_distill.trainer import precision
from nemo_distill.trainer.precision import bfloat16_unit, chosen_dtype, precision_for, torch_device, warn_of_emulation
from tests.conftest import composed

CPU_INFOS = {
    "flags\t\t: fpu avx512f avx512_bf16 amx_tile\n": "avx512_bf16",
    "processor: 0\nFeatures\t: fp asimd bf16 i8mm\n": "bf16",
    "flags\t\t: fpu avx2 avx512f\nmodel name\t: avx512_bf16\n": None,
    "": None,
}


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Says which flags this machine's CPU has."""

    def set_flags(content):
        (tmp_path / "cpuinfo").write_text(content)
        monkeypatch.setattr(made_with, "CPU_INFO", tmp_path / "cpuinfo")
        bfloat16_unit.cache_clear()
        warn_of_emulation.cache_clear()

    yield set_flags
    bfloat16_unit.cache_clear()


@pytest.mark.parametrize(("content", "unit"), CPU_INFOS.items())
def test_a_cpu_says_by_its_flags_whether_it_computes_bfloat16(content, unit, cpu):
    cpu(content)
    assert bfloat16_unit("cpu") == unit
    assert bfloat16_unit("auto") == unit  # the tests see no GPU
    assert bfloat16_unit("tpu") is None


@pytest.mark.parametrize(
    ("capability", "unit"), [((9, 0), "CUDA capability 9.0"), ((8, 0), "CUDA capability 8.0"), ((7, 5), None)]
)
def test_a_gpu_says_it_by_its_capability(capability, unit, cpu, monkeypatch):
    cpu("flags: avx512_bf16")
    monkeypatch.setattr(precision.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(precision.torch.cuda, "get_device_capability", lambda: capability)
    assert bfloat16_unit("auto") == unit
    assert bfloat16_unit("cpu") == "avx512_bf16"


@pytest.mark.parametrize(
    ("width", "unit", "chosen"),
    [(256, "amx_bf16", "bf16-mixed"), (255, "amx_bf16", "32-true"), (1024, None, "32-true")],
)
def test_narrow_models_and_devices_without_a_unit_stay_in_float32(width, unit, chosen):
    assert precision_for(width, unit) == chosen


def job(*overrides):
    return composed("aayn_base_distill", "trainer.accelerator=cpu", *overrides)


@pytest.fixture
def wide_teacher(tmp_path, tokenizer):
    """A teacher's archive of width 256; what is asked of it is only its config."""
    from nemo_distill import DistillableMTEncDecModel
    from tests.conftest import tiny_config

    size = {"hidden_size": 256, "num_attention_heads": 4}
    path = tmp_path / "wide.nemo"
    DistillableMTEncDecModel(tiny_config(tokenizer, seed_size=size)).save_to(str(path))
    return path


def test_teacher_and_student_are_chosen_for_by_their_own_widths(cpu, teacher_path, wide_teacher):
    cpu("flags: avx512_bf16")
    narrow = ("model.encoder.hidden_size=64", "model.decoder.hidden_size=64")
    for keys, teacher, expected in (
        ((), wide_teacher, ("bf16-mixed", "bfloat16")),
        (narrow, wide_teacher, ("32-true", "bfloat16")),
        ((), teacher_path, ("bf16-mixed", "float32")),
        (("model.distillation.same_size_as_teacher=true",), teacher_path, ("32-true", "float32")),
        (("model.distillation.teacher_precision=float32",), wide_teacher, ("bf16-mixed", "float32")),
        (("trainer.precision=32",), wide_teacher, ("32", "float32")),
        (("trainer.precision=16-mixed",), wide_teacher, ("16-mixed", "float32")),
    ):
        cfg = job(f"model.distillation.model_path={teacher}", *keys)
        assert tuple(choose_precision(cfg).values()) == expected, keys
        assert str(cfg.trainer.precision) == expected[0]
        assert (cfg.model.distillation.teacher_precision or "float32") == expected[1]


def test_without_a_unit_all_is_float32_and_a_training_without_a_teacher_names_none(cpu, wide_teacher):
    cpu("flags: avx2")
    cfg = job(f"model.distillation.model_path={wide_teacher}")
    assert choose_precision(cfg) == {"precision": "32-true", "teacher_precision": "float32"}
    cfg.trainer.precision = "bf16-true"
    assert choose_precision(cfg) == {"precision": "bf16-true", "teacher_precision": "bfloat16"}
    assert choose_precision(composed("aayn_base")) == {"precision": "32-true"}


def test_a_training_that_goes_on_elsewhere_keeps_its_precision(cpu, wide_teacher):
    cpu("flags: avx512_bf16")
    began = choose_precision(job(f"model.distillation.model_path={wide_teacher}"))
    cpu("flags: avx2")
    cfg = job(f"model.distillation.model_path={wide_teacher}")
    assert choose_precision(cfg, began) == began == {"precision": "bf16-mixed", "teacher_precision": "bfloat16"}
    assert cfg.trainer.precision == "bf16-mixed" and cfg.model.distillation.teacher_precision == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "value", "is_slow"),
    [("avx2", "bf16-mixed", True), ("avx2", "16-mixed", False), ("avx512_bf16", "bf16-mixed", False)],
)
def test_bfloat16_that_a_cpu_emulates_is_warned_of(flags, value, is_slow, cpu, caplog):
    cpu(f"flags: {flags}")
    choose_precision(composed("aayn_base", "trainer.accelerator=cpu", f"trainer.precision={value}"))
    assert (f"trainer.precision={value}: this device emulates bfloat16" in caplog.text) == is_slow
    assert found_dtype("bfloat16", [], "cpu") == "bfloat16"
    assert ("dtype=bfloat16: this device emulates" in caplog.text) == (flags == "avx2")


@pytest.mark.parametrize(
    ("flags", "width", "dtype"),
    [("avx512_bf16", 256, "bfloat16"), ("avx512_bf16", 128, "float32"), ("avx2", 512, "float32")],
)
def test_other_jobs_choose_as_trainings_do_and_say_so(flags, width, dtype, cpu, caplog):
    cpu(f"flags: {flags}")
    assert chosen_dtype("dtype", width, "cpu") == dtype
    assert f"dtype=auto: {dtype} for width {width}" in caplog.text
    assert torch_device("auto") == "cpu"  # the tests see no GPU


def test_a_cache_computes_as_chosen_and_goes_on_as_it_began(cpu, wide_teacher, corpus, tmp_path, caplog):
    cpu("flags: avx512_bf16")
    keys = [
        f"model.distillation.model_path={wide_teacher}", f"model.distillation.teacher_cache={tmp_path}/cache",
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        "cache.precision=auto", "cache.k=4", "trainer.accelerator=cpu",
    ]  # fmt: skip
    cfg = composed("cache_teacher", *keys)
    job = caching_job(cfg)
    assert job.settings.precision == job.folder.settings["precision"] == "bfloat16"
    job.folder.take()
    cpu("flags: avx2")
    assert caching_job(cfg).settings.precision == "bfloat16"
    assert "cache.precision=bfloat16: this device emulates bfloat16" in caplog.text
