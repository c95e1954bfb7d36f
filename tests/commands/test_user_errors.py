import errno
import re
import tempfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_distill import commands
from nemo_distill.commands.jobs import JOBS
from nemo_distill.commands.user_errors import checked, plain_errors
from tests.conftest import SCRIPTS


@pytest.mark.parametrize(("goes_on", "again"), [(True, "goes on"), (False, "starts over")])
def test_the_end_of_a_job_says_whether_the_same_command_goes_on(goes_on, again):
    with pytest.raises(SystemExit, match=f"the same command {again}( from there)?[.]$"), plain_errors(goes_on):
        raise KeyboardInterrupt
    for number, said in ((errno.ENOSPC, "No space left on device"), (errno.EFBIG, "File too large")):
        with pytest.raises(SystemExit, match=f"^\n{said}.* the same command {again} once"), plain_errors(goes_on):
            raise OSError(number, said)


def test_a_full_disk_of_temporary_files_is_told_by_the_check_too(capsys):
    def check(cfg):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit, match="2"):
        checked(OmegaConf.create(), check)
    assert capsys.readouterr().err == f"'{tempfile.gettempdir()}': No space left on device.\n"


def test_a_name_that_is_too_long_is_told_in_a_sentence(capsys):
    path = Path("a" * 256)
    with pytest.raises(SystemExit, match=f"'{path}': File name too long[.]"), plain_errors():
        path.touch()
    with pytest.raises(SystemExit, match="2"):
        checked(OmegaConf.create(), lambda cfg: path.exists() or path.touch())
    assert capsys.readouterr().err == f"'{path}': File name too long.\n"


THAT_GO_ON = (
    "cache_teacher", "compare", "evaluate", "explain", "generate_pseudo_labels", "prepare", "size_student", "study",
)  # fmt: skip
STUDY = SCRIPTS / "study" / "study.py"
JOB_FILES = [
    STUDY,
    *(Path(commands.__path__[0]) / f"{module}.py" for module in sorted({job.module for job in JOBS.values()})),
]


@pytest.mark.parametrize("path", JOB_FILES, ids=lambda path: path.stem)
def test_a_job_promises_to_go_on_only_if_it_does(path):
    promised = re.search(r"with plain_errors\((.*?)\)[,:]", path.read_text())[1]
    trains = path.stem in ("train", "distill")
    assert promised == ("resumes(cfg)" if trains else "goes_on=True" if path.stem in THAT_GO_ON else "")
