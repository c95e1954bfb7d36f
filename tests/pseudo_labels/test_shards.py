import gzip
import json
import random

import pytest

from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.pseudo_labels.shards import (
    Header,
    Row,
    count_rows,
    ordered_shards,
    read_rows,
    shard_path,
    write_shard,
)
from nemo_distill.storage.shard_folder import ShardError


def make_rows(first, count, seed=0):
    generator = random.Random(seed)
    return [
        Row(
            line,
            f"{generator.getrandbits(64):016x}",
            tuple(
                Hypothesis(f'text {line} {k} ä\u2028\x85\n\t"', -generator.random(), generator.random() < 0.5)
                for k in range(generator.randint(0, 3))
            ),
            generator.choice([None, "empty"]),
            generator.random() < 0.5,
            (0.25,) * generator.randint(0, 1),
        )
        for line in range(first, first + count)
    ]


def write(path, index, rows, first=None):
    write_shard(path, Header(index, first or rows[0].line, len(rows), "settings", count_rows(rows)), rows)


def rewrite(path, change):
    """Applies `change` to the list of a shard's lines."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    change(lines)
    path.write_bytes(gzip.compress(b"".join(lines)))


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 5 and 3 rows."""
    for index, count in enumerate((5, 5, 3)):
        write(shard_path(tmp_path, index), index, make_rows(5 * index + 1, count))
    return tmp_path


def test_the_same_rows_are_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, 0, make_rows(1, 10))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_whole_shards_are_read_in_order(folder):
    assert [row.line for row in read_rows(folder)] == list(range(1, 14))


def test_shards_are_ordered_by_number_and_not_by_name(tmp_path):
    """`shard-10` sorts before `shard-2`; a merge by name would keep every line and misalign most."""
    for index in range(12):
        write(tmp_path / f"shard-{index}.jsonl.gz", index, make_rows(2 * index + 1, 2))
    assert [path.name for path in sorted(tmp_path.iterdir())][2] == "shard-10.jsonl.gz"
    assert [row.line for row in read_rows(tmp_path)] == list(range(1, 25))


def test_a_million_shards_outgrow_their_digits(tmp_path):
    assert shard_path(tmp_path, 1_000_000).name < shard_path(tmp_path, 999_999).name
    names = [f"shard-{index}.jsonl.gz" for index in range(11)]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in ordered_shards(tmp_path)] == names


def swap(lines):
    lines[2], lines[3] = lines[3], lines[2]


def double(lines):
    lines.insert(3, lines[2])


def lose(lines):
    del lines[3]


def lose_last(lines):
    del lines[-1]


def one_more(lines):
    lines.append(lines[-1].replace(b'"line": 10,', b'"line": 11,'))


def no_header(lines):
    del lines[0]


def no_row(lines):
    lines[2] = b'{"line": 7}\n'


def no_json(lines):
    lines[2] = b"{\n"


def no_text(lines):
    lines[2] = b"\xff\n"


def a_list(lines):
    lines[2] = b"[1]\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (swap, "line 3: source line 7 is missing; this is 8"),
        (double, "line 4: source line 7 is doubled or out of order; line 8 should stand here"),
        (lose, "line 4: source line 8 is missing; this is 9"),
        (lose_last, "ends before source line 10; its header promises all up to 10"),
        (one_more, "line 7: source line 11 does not belong into this shard"),
        (no_header, "line 1, cannot be read: shard: field required"),
        (no_row, "line 3, cannot be read: hash: field required"),
        (a_list, "line 3, cannot be read: input should be an object"),
        (no_json, "line 3, cannot be read"),
        (no_text, "line 3, cannot be read"),
    ],
)
def test_disorder_in_a_shard_is_refused_with_file_and_line(folder, change, sentence):
    path = shard_path(folder, 1)
    rewrite(path, change)
    with pytest.raises(ShardError) as error:
        list(read_rows(folder))
    assert str(path) in str(error.value) and sentence in str(error.value)


def test_a_shard_cut_short_is_refused(folder):
    path = shard_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ShardError, match="shard-000001.jsonl.gz' cannot be unpacked after line"):
        list(read_rows(folder))


def test_a_missing_shard_is_refused(folder):
    shard_path(folder, 1).unlink()
    with pytest.raises(ShardError, match="shard 1 is missing; the next there is 'shard-000002"):
        list(read_rows(folder))


def test_a_doubled_shard_is_refused(folder):
    (folder / "shard-1.jsonl.gz").write_bytes(shard_path(folder, 1).read_bytes())
    with pytest.raises(ShardError, match="shard 1 is there twice"):
        list(read_rows(folder))


def test_shards_that_changed_places_are_refused(folder):
    first, second = shard_path(folder, 0), shard_path(folder, 1)
    first.rename(folder / "between")
    second.rename(first)
    (folder / "between").rename(second)
    with pytest.raises(ShardError, match="shard-000000.jsonl.gz', line 1: is shard 1 and begins with source line 6"):
        list(read_rows(folder))


def test_a_short_shard_in_the_middle_is_refused(folder):
    write(shard_path(folder, 1), 1, make_rows(6, 4))
    with pytest.raises(ShardError, match="shard-000002.jsonl.gz', line 1: .* from line 10 on, should stand here"):
        list(read_rows(folder))


def test_a_score_that_is_no_number_is_refused_with_its_line(tmp_path):
    rows = [Row(1, "0" * 16, (Hypothesis("x", float("-inf")),))]
    with pytest.raises(ValueError, match="line 1 a score that is no number"):
        write(tmp_path / "shard-0.jsonl.gz", 0, rows)
    assert list(tmp_path.iterdir()) == []


def test_counts_tell_what_became_of_each_line():
    hypothesis, cut = Hypothesis("x", 0.0), Hypothesis("x", 0.0, finished=False)
    rows = [
        Row(1, "", (hypothesis, cut)),
        Row(2, "", (cut, hypothesis), source_cut=True),
        Row(3, "", (hypothesis, cut), "control_characters"),
        Row(4, "", (), "empty"),
        Row(5, "", (), "empty"),
        Row(6, "", (), "over_long"),
    ]
    counts = {"translated": 3, "empty": 2, "over_long": 1, "cleaned": 1, "source_cut": 1, "unfinished": 1}
    assert count_rows(rows) == counts


def test_a_row_is_readable_json(tmp_path):
    path = tmp_path / "shard-0.jsonl.gz"
    write(path, 0, [Row(1, "7d3c5a0f2b1e9846", (Hypothesis("Größe", -0.5200000001),))])
    header, row = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert json.loads(header)["counts"] == {"translated": 1}
    assert row == '{"line": 1, "hash": "7d3c5a0f2b1e9846", "hypotheses": [{"text": "Größe", "score": -0.52}]}'
