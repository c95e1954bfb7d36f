"""Fixtures that tests of reports share with those of the command."""

from tests.report.conftest import evaluation_folder, sweep_folder

__all__ = ["evaluation_folder", "sweep_folder"]
