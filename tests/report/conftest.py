"""A small evaluation and a small sweep."""

from pathlib import Path

import pytest

from tests.report.fakes import write_evaluation, write_run


@pytest.fixture(scope="session")
def evaluation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluation(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over temperature and size; one training of it has failed."""
    folder = tmp_path_factory.mktemp("sweep")
    for size, scores in (("slim", ([20.0, 25.0], [28.0, 27.0], [])), ("wide", ([30.0], [31.0], [32.0]))):
        for temperature, of_run in zip(("1", "2", "10"), scores):
            name = f"model.distillation.temperature={temperature},student={size}"
            write_run(folder / name, [f"student={size}", f"model.distillation.temperature={temperature}"], of_run)
    return folder
