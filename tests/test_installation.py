"""What pip installs works by itself: outside of the repository, with nothing of it in reach."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nemo_distill.commands.jobs import CONF
from tests.conftest import REPOSITORY

OURS = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built of a copy of the sources, since a build leaves folders beside them."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("nemo_distill", "examples"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs the installed command, in an environment that has all that this one has but nemo_distill."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    bin_folder = environment / "bin"
    (site_packages,) = environment.glob("lib/python*/site-packages")
    others = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (site_packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    pip("--python", bin_folder / "python", "install", "--no-deps", "--no-index", "--force-reinstall", wheel)
    found = subprocess.run(
        [bin_folder / "python", "-c", "import nemo_distill; print(nemo_distill.__file__)"],
        cwd=environment, env=OURS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(site_packages)

    def run(*arguments, cwd):
        command = [bin_folder / "nemo-distill", *arguments]
        return subprocess.run(command, cwd=cwd, env=OURS, capture_output=True, text=True)

    return run


def pip(*arguments):
    ended = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments)], capture_output=True, text=True, env=OURS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_whatever_is_needed_has_its_version_in_the_exact_set():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    exact = {canonicalize_name(name): found for name, _, found in (line.partition("==") for line in lines) if found}
    needed, seen = [("nemo_distill", frozenset({"dev", "docs", "plots"}))], set()
    while needed:
        name, extras = needed.pop()
        for line in requires(name) or ():
            package = Requirement(line)
            wanted = canonicalize_name(package.name), frozenset(package.extras)
            applies = package.marker is None or any(package.marker.evaluate({"extra": one}) for one in ("", *extras))
            if applies and wanted not in seen:
                seen.add(wanted)
                needed.append(wanted)
    installed = {name: version(name).partition("+")[0] for name, _ in seen}
    if any(installed[name] != exact[name] for name in ("lightning", "torch", "transformers")):
        pytest.skip("other versions are installed than those of constraints.txt")
    assert len(installed) > 150 and {name: exact.get(name) for name in installed} == installed


def test_a_wheel_holds_the_configs_as_files_and_of_the_studies_nothing(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"nemo_distill/conf/{path.relative_to(CONF)}" for path in CONF.rglob("*.yaml")}
    studies = {f"nemo_distill/conf/{path.name}" for path in CONF.glob("study*.yaml")}
    assert "nemo_distill/conf/schedule/study.yaml" in configs and len(studies) == 9
    assert {name for name in names if name.endswith(".yaml")} == configs - studies
    pages = {"export/translator.html", "export/translator.js", "report/page.html", "report/reader.html"}
    assert {f"nemo_distill/{name}" for name in ("py.typed", *pages)} <= names
    assert not [name for name in names if name.startswith(("examples", "tests"))]


def test_an_installation_tells_a_mistake(installed, tmp_path):
    ended = installed("distill", "model.distillation.model_path=nowhere.nemo", "student=slim_1x1", cwd=tmp_path)
    assert ended.returncode == 2 and "there is no file 'nowhere.nemo'" in ended.stderr, ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_installation_trains(installed, corpus, tokenizer, tmp_path):
    (tmp_path / "nemo_distill.py").write_text("raise SystemExit('imported from the working folder')")
    ended = installed(
        "train", f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        f"model.validation_ds.src_file_name={corpus}/val.de", f"model.validation_ds.tgt_file_name={corpus}/val.en",
        "~model.test_ds", "+student=slim_1x1", "model.encoder.hidden_size=16", "model.decoder.hidden_size=16",
        "model.encoder.num_attention_heads=2", "model.decoder.num_attention_heads=2", "model.beam_size=1",
        f"model.encoder_tokenizer.tokenizer_model={tokenizer}", "model.train_ds.num_workers=0",
        f"model.decoder_tokenizer.tokenizer_model={tokenizer}", "trainer.accelerator=cpu", "+trainer.max_steps=1",
        "+trainer.limit_val_batches=0", "+exp_manager.explicit_log_dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "checkpoints" / "AAYNBase.nemo").is_file()
