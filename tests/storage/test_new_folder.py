"""A folder appears whole or not at all."""

import signal
import subprocess
import sys

import pytest

from nemo_distill.storage.files import new_folder

KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from nemo_distill.storage.files import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("a model")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_appears_in_the_end(tmp_path):
    output = tmp_path / "deep" / "output"
    with new_folder(output) as folder:
        (folder / "file").write_text("new")
        assert not output.exists()
    assert (output / "file").read_text() == "new"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_what_was_there(error, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "file").write_text("old")
    with pytest.raises(error), new_folder(output) as folder:
        (folder / "file").write_text("new")
        raise error
    assert (output / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_it_takes_the_place_of_what_was_there(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "old").write_text("old")
    with new_folder(output) as folder:
        (folder / "new").write_text("new")
    assert [file.name for file in output.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [output]


def test_a_kill_in_the_middle_leaves_no_output_and_does_not_hinder_the_next(tmp_path):
    output = tmp_path / "output"
    result = subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(output)])
    assert result.returncode == -signal.SIGKILL
    assert not output.exists()
    with new_folder(output) as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [output]


def test_a_link_stays_one_and_its_folder_is_replaced_as_often_as_wanted(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    link = tmp_path / "output"
    link.symlink_to(disk)
    for name in ("first", "second"):
        with new_folder(link) as folder:
            (folder / name).write_text(name)
        assert link.is_symlink() and [file.name for file in disk.iterdir()] == [name]
    assert sorted(tmp_path.iterdir()) == [disk, link]
