import gzip

import pytest

from nemo_distill.evaluation.seen_text import seen_sentences


@pytest.fixture
def files(tmp_path):
    """Test sets and training text."""

    def write(name, *lines):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / name

    first = {
        "sources": write("a.src", "Ein Hund.", "Eine Katze.", "Ein Hund.", "", "Ein Haus."),
        "references": write("a.ref", "A dog.", "A cat.", "A dog.", "", "A house."),
    }
    second = {"sources": write("b.src", "Ein Hund"), "references": write("b.ref", "One dog.")}
    training = {
        "sources": [write("1.de", "ein  hund!", ""), write("2.de", "A house.")],
        "references": [write("1.en", "The dog.", ""), write("2.en", "A house.", "a cat")],
    }
    return {"a": first, "b": second}, training


def test_sentences_count_that_the_same_side_of_the_training_text_has(files, tmp_path):
    sets, training = files
    assert seen_sentences(sets, training, tmp_path / "seen.json") == {
        "a": {"sources": 2, "references": 2},  # each line counts, and an empty one does not
        "b": {"sources": 1, "references": 0},
    }


def test_a_side_that_no_text_is_known_of_is_not_counted(files, tmp_path):
    sets, training = files
    found = seen_sentences(sets, {"references": training["references"]}, tmp_path / "seen.json")
    assert found == {"a": {"references": 2}, "b": {"references": 0}}


def test_packed_training_text_is_read(files, tmp_path):
    sets, _ = files
    packed = tmp_path / "train.de.gz"
    packed.write_bytes(gzip.compress(b"EINE KATZE\n"))
    assert seen_sentences(sets, {"sources": [packed]}, tmp_path / "seen.json")["a"] == {"sources": 1}


def test_the_training_text_is_read_again_only_if_it_has_changed(files, tmp_path):
    sets, training = files
    record = tmp_path / "seen.json"
    first = seen_sentences(sets, training, record)
    written = record.stat().st_mtime_ns
    assert seen_sentences(sets, training, record) == first
    assert record.stat().st_mtime_ns == written
    training["sources"][1].write_text("Ein Haus\n")
    assert seen_sentences(sets, training, record)["a"]["sources"] == 3
