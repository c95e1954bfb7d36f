"""Records that a stranger has written or a disk has spoilt: told by a sentence, or what was written."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_distill.config.errors import DataError
from nemo_distill.evaluation.evaluation_record import EvaluationRecord
from nemo_distill.experiments.comparison_plan import Finished
from nemo_distill.export.record import ExportRecord
from nemo_distill.pseudo_labels.shards import Header, LabelManifest, Row
from nemo_distill.storage.files import write_json
from nemo_distill.storage.records import MAX_BYTES, parse_json, read_json
from nemo_distill.storage.run_record import RunRecord
from nemo_distill.teacher_cache.folder import CacheManifest
from tests.json_values import VALUES

RECORD = {"settings": {"lines": 10, "share": 0.1, "name": "ä"}, "shards": [{"name": "a", "sha256": "0" * 64}]}
SHAPES = [CacheManifest, LabelManifest, RunRecord, EvaluationRecord, ExportRecord, Finished, Header, Row]


def read_bytes(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_bytes(content)
        return read_json(path)


def written(record):
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "record.json", record)
        return (Path(folder) / "record.json").read_bytes()


@given(st.integers(0, 10**6))
def test_a_record_that_was_cut_is_told(place):
    content = written(RECORD).rstrip()
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(content[: place % len(content)])


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 100_000, b"[1]", b"3", b"", b"\xff", b'{"a": "\\ud800"}']
)
def test_what_is_no_record_is_told(content):
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(content)


def test_a_record_is_read_as_it_was_written():
    assert read_bytes(written(RECORD)) == RECORD


def test_a_record_of_a_gigabyte_is_refused_unread(tmp_path):
    with (tmp_path / "record.json").open("wb") as stream:
        stream.truncate(1 << 30)  # a hole, which takes no room
    with pytest.raises(DataError, match=f"more than {MAX_BYTES:,} bytes"):
        read_json(tmp_path / "record.json")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(data=st.data())
def test_any_json_is_of_the_shape_or_told(shape, data):
    names = sorted(shape.__annotations__)
    value = data.draw(VALUES | st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names)))
    try:
        parse_json(json.dumps(value).encode(), shape, "here")
    except DataError as error:
        assert str(error).startswith("here cannot be read: ")
