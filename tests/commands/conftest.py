"""Fixtures that tests of commands share with those of what the commands use."""

from tests.models.conftest import job
from tests.report.conftest import evaluation_folder, sweep_folder

__all__ = ["evaluation_folder", "job", "sweep_folder"]
