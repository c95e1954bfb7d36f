import errno
import fcntl
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import unsafe_reasons
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from nemo_distill.storage.files import (
    file_problems,
    folder_lock,
    locked,
    missing_content,
    new_folder,
    remove_leftovers,
    whole_file,
    whole_path,
    write_json,
    writing,
)
from nemo_distill.storage.ledger import fingerprint, sha256_of
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import unreadable_files


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    with whole_file(path) as stream:
        stream.write(b"text")
        assert not path.exists()
    assert path.read_bytes() == b"text" and list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_another_library_writes_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "model.nemo"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_path(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with whole_path(path):
        pass  # a process that leaves the writing to another
    assert path.read_bytes() == b"old"
    with whole_path(path) as unfinished:
        unfinished.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a" * 255, f"{'ä' * 127}b", "猫" * 85])
def test_a_name_may_be_as_long_as_linux_allows(name, tmp_path):
    with whole_file(tmp_path / name) as stream:
        leftover = Path(stream.name)
    leftover.touch()
    remove_leftovers(tmp_path, name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OSError, match=f"File name too long: '{tmp_path}/{name}a'"), whole_file(tmp_path / f"{name}a"):
        pytest.fail("what cannot be written is told before the work")


def test_what_keeps_a_file_from_being_written_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    assert file_problems(tmp_path / "new", overwrite=False) == file_problems(tmp_path / "taken", overwrite=True) == []
    assert file_problems(tmp_path / "taken", False) == ["which exists; set overwrite=true, or name another"]
    assert file_problems(tmp_path, True) == ["which is a folder; name a file"]
    assert file_problems(tmp_path / "no" / "new", True) == [f"but there is no folder '{tmp_path}/no'"]


def test_leftovers_of_a_name_are_removed_and_nothing_else(tmp_path):
    others = [".a.b.src.0123456789ab.tmp", ".a.src.0123.tmp", ".b.src.0123456789ab.tmp", ".hidden", "a.src"]
    for name in (".a.src.0123456789ab.tmp", ".a.7.tar.ba9876543210.tmp", *others):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "a.src", re.compile(r"a\.\d\.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == others
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.src.0123.tmp", ".hidden", "a.src"]


def test_json_is_read_as_it_was_written(tmp_path):
    write_json(tmp_path / "x.json", {"ä": [1, None]})
    assert read_json(tmp_path / "x.json") == {"ä": [1, None]}
    assert read_json(tmp_path / "y.json") is None


@pytest.mark.parametrize("content", ["{", "[1]", "3"])
def test_a_file_that_is_no_record_is_told(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match="x.json'"):
        read_json(tmp_path / "x.json")


def test_a_folders_hash_depends_on_names_and_contents(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    first = sha256_of(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = sha256_of(tmp_path)
    (tmp_path / "b").write_bytes(b"2")
    assert len({first, second, sha256_of(tmp_path), sha256_of(tmp_path / "b")}) == 4


def test_a_fingerprint_follows_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    assert fingerprint(path) == {"name": "a", "sha256": sha256_of(path)}
    path.write_bytes(b"22")
    assert fingerprint(path) == {"name": "a", "sha256": sha256_of(path)}


def _hold(folder, seconds):
    with folder_lock(folder):
        (folder / "held").touch()
        time.sleep(seconds)
        (folder / "held").unlink()


def test_one_process_at_a_time_holds_a_folder(tmp_path):
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, 0.5))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with folder_lock(tmp_path):
        assert not (tmp_path / "held").exists()
    holder.join()


def test_a_lock_that_another_has_is_waited_for_or_not(tmp_path):
    with locked(tmp_path / "lock") as mine, locked(tmp_path / "lock", wait=False) as theirs:
        assert mine is not None and theirs is None
    with locked(tmp_path / "lock", wait=False) as mine:
        assert mine is not None


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DataError, match="lock' cannot be locked: Function not implemented"), locked(tmp_path / "lock"):
        pass


def test_a_file_is_written_where_folders_cannot_be_synchronized(tmp_path, monkeypatch):
    synchronize = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        synchronize(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "record.json", {"a": 1})
    assert read_json(tmp_path / "record.json") == {"a": 1}


@pytest.mark.parametrize(
    ("named", "told"), [((), "out"), ((".out.0a1b.tmp",), "out"), (("elsewhere",), "elsewhere")], ids=str
)
def test_a_disks_error_names_the_file_that_was_to_be_written(tmp_path, named, told):
    with pytest.raises(OSError, match="No space") as error, writing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device", *(str(tmp_path / name) for name in named))
    assert error.value.filename == str(tmp_path / told)


def test_other_errors_pass_as_they_are(tmp_path):
    raised = ValueError("wrong")
    with pytest.raises(ValueError, match="wrong") as error, writing(tmp_path / "out"):
        raise raised
    assert error.value is raised


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 2460457\n"


def read_text(path):
    raise ValueError(" ".join(unreadable_files(str(path))))


def open_folder(path):
    raise ValueError(" ".join(unsafe_reasons(path.parent)))


@pytest.mark.parametrize("reader", [NemoArchive, read_vocabulary, read_text, open_folder])
def test_a_pointer_that_git_lfs_left_is_told_by_all_who_read_files(reader, tmp_path):
    path = tmp_path / "file"
    path.write_text(POINTER)
    with pytest.raises(ValueError, match=f"'{path}' is a pointer of Git LFS.*git lfs pull"):
        reader(path)
    path.write_text("version")
    assert missing_content(path) is None and missing_content(tmp_path / "nothing") is None


def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        assert file_problems(path, overwrite=True) == ["which is a pipe or a device; name a file"]


KILLED_IN_THE_MIDDLE = """
import os, signal, sys
from pathlib import Path
from nemo_distill.storage.files import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("a model")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_appears_in_the_end(tmp_path):
    output = tmp_path / "deep" / "output"
    with new_folder(output) as folder:
        (folder / "file").write_text("new")
        assert not output.exists()
    assert (output / "file").read_text() == "new"
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_the_folder_that_was_there(error, tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "file").write_text("old")
    with pytest.raises(error), new_folder(output) as folder:
        (folder / "file").write_text("new")
        raise error
    assert (output / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [output]


def test_a_folder_takes_the_place_of_what_was_there(tmp_path):
    output = tmp_path / "output"
    output.mkdir()
    (output / "old").write_text("old")
    with new_folder(output) as folder:
        (folder / "new").write_text("new")
    assert [file.name for file in output.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [output]


def test_a_second_process_does_not_spoil_the_folder_that_the_first_is_writing(tmp_path):
    with new_folder(output := tmp_path / "output") as folder:
        (folder / "file").write_text("first")
        with pytest.raises(DataError, match=f"another process is writing '{output}'"), new_folder(output):
            pass
    assert [file.read_text() for file in output.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [output]


def test_a_kill_in_the_middle_leaves_no_folder_and_does_not_hinder_the_next(tmp_path):
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
