"""What is told of the files that a config names."""

import errno
import gzip
import os
from pathlib import Path

import pytest

from nemo_distill.text import files as text_files
from nemo_distill.text import lines
from nemo_distill.text.files import (
    copied_text,
    data_problems,
    not_parallel,
    unread_files,
    unreadable_files,
    untokenized_text,
)


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


def test_ids_that_nemo_kept_of_an_older_text_are_told(tmp_path):
    section = {"src_file_name": str(tmp_path / "a"), "tgt_file_name": str(tmp_path / "b"), "use_cache": True}
    for name, changed in {"a": 2, "a.pkl": 1, "b": 1, "b.pkl": 2}.items():
        (tmp_path / name).write_text("dog\n")
        os.utime(tmp_path / name, (changed, changed))
    (problem,) = data_problems("model.train_ds", section)
    assert problem.startswith(f"model.train_ds.use_cache=true: '{tmp_path}/a.pkl' is older than '{tmp_path}/a'")
    assert data_problems("model.train_ds", section | {"use_cache": False}) == []


def test_no_set_may_have_the_name_of_the_mean_of_all(corpus):
    files = {f"{key}_file_name": [f"{corpus}/{name}.{end}" for name in ("val", "test")] for key, end in (("src", "de"), ("tgt", "en"))}  # fmt: skip
    (problem,) = data_problems("model.test_ds", files | {"names": ["avg", "b"]})
    assert problem.startswith("model.test_ds.names has ['avg', 'b']; 'avg' is")
    assert data_problems("model.test_ds", files | {"names": ["a", "b"]}) == []


def problems_of(path):
    """What each kind of check says of a file."""
    section = {"src_file_name": str(path), "tgt_file_name": str(path)}
    return [
        [f"source {problem}." for problem in unreadable_files(str(path))],
        data_problems("model.train_ds", section)[:1],
        data_problems("model.train_ds", {"use_tarred_dataset": True, "metadata_file": str(path)}),
    ]


def test_a_file_without_read_permission_is_told(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "secret.de").write_text("der Hund\n")
    monkeypatch.setattr(Path, "open", refuse)  # for root, all files are readable
    for (problem,) in problems_of(tmp_path / "secret.de"):
        assert problem.endswith(f"names '{tmp_path}/secret.de', which cannot be read: Permission denied.")


def test_what_is_no_file_or_holds_no_line_is_told_as_what_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b""))
    told = {
        "folder": "is a folder", "f*r": "is a folder", "fifo": "is a pipe or a device", "none": "does not exist",
        "none*": "does not exist", "packed.gz": "is empty",
    }  # fmt: skip
    for name, what in told.items():
        (problem,) = unreadable_files(f"{tmp_path}/{name}")
        assert problem.endswith(f", which {what}")
    assert unreadable_files(f"{tmp_path}/packed.gz", may_be_empty=True) == []
    section = {"src_file_name": f"{tmp_path}/folder", "tgt_file_name": f"{tmp_path}/none"}
    said = " ".join(data_problems("train_ds", section))
    assert "folder', which is a folder." in said and "none', which does not exist." in said


def test_a_file_whose_name_no_record_can_hold_is_told(tmp_path):
    path = tmp_path / os.fsdecode(b"h\xfcnde.de")
    path.write_text("der Hund\n")
    for (problem,) in problems_of(path):
        assert problem.endswith("h\ufffdnde.de', whose name is not UTF-8; rename it.")


def test_a_line_beyond_the_limit_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_BYTES", 10)
    for name, text in {"long": "x" * 20, "short": "x"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    (problem,) = not_parallel([tmp_path / "long"], [tmp_path / "short"])
    assert problem == f"source: '{tmp_path}/long', line 1: has 10 bytes without a line end, so it is no text."


def test_raw_text_is_warned_of_where_a_models_languages_mean_moses(tmp_path):
    for name, line in {"raw": "a dog barks.\n", "tokenized": "a dog barks .\n"}.items():
        (tmp_path / name).write_text(3 * line)
    raw, tokenized = str(tmp_path / "raw"), str(tmp_path / "tokenized")
    model = {
        "src_language": "de", "tgt_language": "en",
        "train_ds": {"src_file_name": tokenized, "tgt_file_name": [raw]},
        "distillation": {"mix": {"corpora": {"real": {"share": 1}, "pseudo": {"source": raw, "target": tokenized}}}},
    }  # fmt: skip
    warnings = untokenized_text(model)
    assert [warning.partition(":")[0] for warning in warnings] == [
        "model.distillation.mix.corpora.pseudo.source", "model.train_ds.tgt_file_name",
    ]  # fmt: skip
    assert untokenized_text(model | {"src_language": "ignore", "tgt_language": None}) == []
    backwards = model | {"train_ds": model["train_ds"] | {"reverse_lang_direction": True}, "src_language": "ignore"}
    (warning,) = untokenized_text(backwards)  # the model writes what the corpora have as sources
    assert warning.startswith(f"model.distillation.mix.corpora.pseudo.source: '{raw}'")
    assert "model.tgt_language=en" in warning


TABLE = "Hund\tdog\n" * 10


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04", "a zip archive"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n', "XML, SGML or HTML"),
        (b'<srcset setid="newstest2014">\n', "XML, SGML or HTML"),
        ("Hund\n".encode("utf-16"), "UTF-16"),
        (b"PAR1\x15\x04", "a Parquet table"),
        (b'{"translation": {"de": "Hund", "en": "dog"}}\n' * 10, "of JSON lines"),
        (b"\n" + b'{"de": "Hund", "en": "dog"}\n' * 10, "of JSON lines"),
        (TABLE.encode(), "a table of 2 columns"),
        (gzip.compress(TABLE.encode(), mtime=0), "a table of 2 columns"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "file",
)
def test_what_people_take_for_text_is_told_by_name(content, told, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(content)
    (problem,) = unreadable_files(str(path))
    assert problem.startswith(f"names '{path}', which is {told}")
    if not content.startswith(b"\x1f"):
        section = {"src_file_name": str(path), "tgt_file_name": str(path)}
        assert any(f"'{path}', which is {told}" in one for one in data_problems("model.train_ds", section)), told


def test_a_tab_here_and_there_makes_no_table_and_numbers_may_be_one(tmp_path):
    path = tmp_path / "file"
    for content in (TABLE.replace("\t", " ", 1), TABLE.replace("\t", "\t\t", 1), "a\tb\n" * 9, "{a} b\n" * 10):
        path.write_text(content)
        assert unreadable_files(str(path)) == []
    path.write_text(TABLE)
    assert unreadable_files(str(path), is_text=False) == []


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("latin-1", "of whose first 30 lines 20 are not UTF-8"), ("utf-16-le", "which is UTF-16"), ("utf-8", None)],
)
def test_text_in_another_encoding_is_told_before_its_lines_are_left_out(encoding, told, tmp_path):
    path = tmp_path / "file"
    path.write_bytes("Hund\nB\u00e4r\nF\u00fcchse\n".encode(encoding) * 10)
    problems = unreadable_files(str(path))
    assert [told in problem for problem in problems] == [True] * bool(told)
    assert unreadable_files(str(path), is_text=False) == []


def test_single_invalid_lines_are_left_to_the_policy_of_lines(tmp_path):
    path = tmp_path / "file"
    for content in (b"B\xe4r\n" * 9, b"B\xe4r\n" * 20 + "B\u00e4r\n".encode() * 20):
        path.write_bytes(content)
        assert unreadable_files(str(path)) == []


def test_commas_make_a_table_only_of_a_file_with_such_a_name(tmp_path):
    for name, told in (("a.csv", 1), ("a.csv.gz", 1), ("a.de", 0), ("csv", 0)):
        path = tmp_path / name
        line = b"Hund,dog\n"
        path.write_bytes(gzip.compress(line, mtime=0) if name.endswith("gz") else line)
        assert ["a table of comma-separated values" in one for one in unreadable_files(str(path))] == [True] * told


def test_text_that_is_source_and_target_is_warned_of(tmp_path):
    path = tmp_path / "text"
    path.write_text("Hund\n")
    corpora = {
        "copied": {"source": str(path), "target": [str(path)]},
        "real": {"source": str(path), "target": "other"},
    }
    model = {
        "train_ds": {"src_file_name": str(path), "tgt_file_name": str(path)},
        "distillation": {"mix": {"corpora": corpora}},
    }
    wheres = ["model.train_ds", "model.distillation.mix.corpora.copied"]
    assert copied_text(model) == [
        f"{one}: '{path}' is source and target, so a model would learn to copy." for one in wheres
    ]
    assert copied_text({"train_ds": None}) == []
