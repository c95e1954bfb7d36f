"""Fixtures that tests of commands share with those of what the commands use."""

import pytest

from tests.models.conftest import job
from tests.pseudo_labels.fakes import write_model, write_source
from tests.report.conftest import evaluation_folder, sweep_folder

__all__ = ["evaluation_folder", "job", "sweep_folder"]


@pytest.fixture
def files(tmp_path):
    write_source(tmp_path / "text.de", 130)
    (tmp_path / "text.en").write_text("a reference\n" * 130)
    write_model(tmp_path / "teacher.nemo")
    return tmp_path
