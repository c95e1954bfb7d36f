"""What is told of the files that a config names."""

import pytest

from nemo_distill.data import text_files
from nemo_distill.data.text_files import unread_files


@pytest.fixture
def train_ds(tmp_path, monkeypatch):
    """A section of a large source and a small target."""
    monkeypatch.setattr(text_files, "LINE_COUNT_LIMIT", 100)
    (tmp_path / "large").write_text("x" * 99 + "\n")
    (tmp_path / "small").write_text("x\n")
    return {"src_file_name": str(tmp_path / "large"), "tgt_file_name": [str(tmp_path / "small")]}


def test_a_file_that_is_too_large_to_be_looked_through_is_warned_of(train_ds):
    (warning,) = unread_files({"train_ds": train_ds})
    assert warning.startswith(f"model.train_ds.src_file_name: '{train_ds['src_file_name']}' has 0.0 GB and was not")


def test_of_small_files_and_of_none_nothing_is_said(train_ds):
    assert unread_files({"train_ds": train_ds | {"src_file_name": train_ds["tgt_file_name"]}}) == []
    assert unread_files({}) == unread_files({"train_ds": {"metadata_file": "x"}}) == []
