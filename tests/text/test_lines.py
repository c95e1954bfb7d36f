import bz2
import gzip
import lzma
import tracemalloc
from collections import Counter
from random import Random

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.text import lines as text_lines
from nemo_distill.text.lines import (
    Line,
    LinePolicy,
    TextFiles,
    clean_line,
    clean_text,
    count_plain_lines,
    counted_sample,
    expand_paths,
    is_blank,
    normalized,
    parallel_lines,
)

POLICY = LinePolicy(max_characters=10, invalid_utf8="skip", control_characters="clean")
REPLACE = LinePolicy(max_characters=10, invalid_utf8="replace", control_characters="clean")
STRICT = LinePolicy(max_characters=10, invalid_utf8="skip", control_characters="skip")

# A line's bytes, the policy, what a model sees of it, why it is odd.
CASES = [
    (b"Der Hund", POLICY, "Der Hund", None),
    ("Größe 東京".encode(), POLICY, "Größe 東京", None),
    (b" spaces ", POLICY, " spaces ", None),
    (b"", POLICY, "", "empty"),
    (b"   ", POLICY, "", "empty"),
    (b"\r", POLICY, "", "empty"),
    ("\ufeff".encode(), POLICY, "", "empty"),
    ("\u200b \u00ad\u3000".encode(), POLICY, "", "empty"),
    ("\u2800\ufe0f\u3164".encode(), POLICY, "", "empty"),  # no engine translates them either
    ("\u200b.".encode(), POLICY, "\u200b.", None),
    (b"\x00\x00", STRICT, "", "empty"),
    (b"a" * 10, POLICY, "a" * 10, None),
    (b"a" * 11, POLICY, "", "over_long"),
    ("ä".encode() * 10, POLICY, "ä" * 10, None),
    (b"ab\r", POLICY, "ab", "control_characters"),
    (b"a\tb", POLICY, "a b", "control_characters"),
    (b"a\x00b\x07", POLICY, "ab", "control_characters"),
    ("\ufeffab".encode(), POLICY, "ab", "control_characters"),
    ("a\u2028b".encode(), POLICY, "a b", "control_characters"),
    ("a\x85b\x0cc\x1dd".encode(), POLICY, "a b c d", "control_characters"),
    (b"ab\r", STRICT, "", "control_characters"),
    (b"a\tb", STRICT, "", "control_characters"),
    (b"caf\xe9", POLICY, "", "invalid_utf8"),
    (b"caf\xe9", REPLACE, "caf\ufffd", "invalid_utf8"),
    (b"caf\xe9\r", REPLACE, "caf\ufffd", "invalid_utf8"),
    (b"\xed\xa0\x80", POLICY, "", "invalid_utf8"),
    (b"\xe9" * 11, REPLACE, "", "over_long"),
]


@pytest.mark.parametrize(("raw", "policy", "text", "oddity"), CASES)
def test_each_odd_line_has_one_policy_and_one_reason(raw, policy, text, oddity):
    assert clean_line(raw, policy) == Line(text, oddity)


def test_a_line_with_a_visible_character_is_not_blank():
    visible = ["-", ".", "1", "🙂", "\u0301a", "\ue000", "我", "\u200ba", "\ufeff!", "e\u200d", "⁇", "\u00a9"]
    assert not any(map(is_blank, visible))


def test_clean_text_is_one_line_and_one_column_for_every_character_there_is():
    every = "".join(map(chr, (code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)))
    cleaned = clean_text(every)
    assert cleaned.splitlines() == [cleaned] and "\t" not in cleaned
    assert len(cleaned) > 0x10F000


@pytest.mark.parametrize(("content", "lines"), [("", 0), ("a\nb\n", 2), ("a\nb", 2), ("a\n\n", 2)])
def test_a_last_line_counts_without_its_end_too(content, lines, tmp_path):
    (tmp_path / "text").write_text(content)
    assert count_plain_lines(tmp_path / "text") == (lines, None)


def test_lines_end_at_newlines_alone(tmp_path):
    path = tmp_path / "text"
    lines = ["a\u2028b", "c\rd", "e\x85f\x0bg\x1ch", "", "last"]
    path.write_bytes("\n".join(lines).encode())
    assert [raw.decode() for raw in TextFiles([path])] == lines


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_bzip2_and_xz_are_unpacked_too_and_damage_is_told(pack, tmp_path):
    path = tmp_path / "text"
    path.write_bytes(pack(b"ein Hund\nzwei\n"))
    assert list(TextFiles([path])) == [b"ein Hund", b"zwei"]
    assert "is compressed" in count_plain_lines(path)[1]
    content = bytearray(pack(bytes(range(256)) * 400))
    content[-len(content) // 2] ^= 255
    for damaged in (bytes(content), bytes(content[:-20])):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=f"'{path}' cannot be unpacked after line"):
            list(TextFiles([path]))


def test_gzip_is_told_by_content_and_files_follow_each_other(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b"1\n2\n"))
    (tmp_path / "b.gz").write_bytes(b"3\n4")
    (tmp_path / "c").write_bytes(gzip.compress(b"5\n") + gzip.compress(b"6\n"))
    files = TextFiles([tmp_path / name for name in ("a", "b.gz", "c")])
    assert list(files) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert files.position == files.size


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "MAX_BYTES", 1000)
    path = tmp_path / "blob"
    path.write_bytes(b"fine\n" + b"x" * 5000)
    with pytest.raises(ValueError, match="blob', line 2: has 1000 bytes without a line end"):
        list(TextFiles([path]))


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"some words of a line\n" * 200_000))
    tracemalloc.start()
    assert sum(1 for _ in TextFiles([path])) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_the_position_grows_to_the_size(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"12345678\n" * 10)
    files = TextFiles([path])
    positions = [files.position for _ in files]
    assert positions == sorted(positions) and positions[0] == 9 and files.position == files.size == 90


@pytest.mark.parametrize(("source", "target"), [(3, 4), (4, 3), (0, 1)])
def test_files_of_unequal_length_are_refused(tmp_path, source, target):
    (tmp_path / "s").write_bytes(b"x\n" * source)
    (tmp_path / "t").write_bytes(b"x\n" * target)
    longer = "s" if source > target else "t"
    with pytest.raises(ValueError, match=f"{longer}' has more lines than .*ends after line {min(source, target)}"):
        list(parallel_lines(tmp_path / "s", tmp_path / "t"))


def test_many_files_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("part.10", "part.2", "part.1", "part.²"):
        (tmp_path / name).touch()
    assert [path.name for path in expand_paths(f"{tmp_path}/part.*")] == ["part.1", "part.2", "part.10", "part.²"]
    assert expand_paths(f"{tmp_path}/none.*") == []
    (tmp_path / "part.[2]").touch()
    assert expand_paths(f"{tmp_path}/part.[2]") == [tmp_path / "part.[2]"]  # the very name before the pattern
    assert expand_paths(f"{tmp_path}/part.[1]") == [tmp_path / "part.1"]
    assert expand_paths("~/x")[0].is_absolute()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Guten Tag!", "guten  tag"),
        ("don't", "DONT"),
        ("日本。", "日本"),
        ("…", "…"),
        ("für", "fu\u0308r"),
        ("ＡＢ", "ab"),
        ("ﬁne Straße", "FINE, strasse"),
    ],
)
def test_texts_that_differ_in_case_punctuation_and_spaces_are_normalized_alike(text, same):
    assert normalized(text) == normalized(same) != ""


@pytest.mark.parametrize(("text", "other"), [("…", "!"), ("1,5", "1,6"), ("für", "fur"), ("कि", "का")])
def test_other_texts_are_not(text, other):
    assert normalized(text) != normalized(other)


def test_each_item_is_as_likely_in_a_sample():
    assert counted_sample(iter("abc"), 5, Random(0)) == (3, ["a", "b", "c"])
    assert counted_sample("", 5, Random(0)) == (0, [])
    drawn = Counter(item for seed in range(2000) for item in counted_sample(range(10), 3, Random(seed))[1])
    assert all(count == pytest.approx(600, abs=75) for count in drawn.values()) and len(drawn) == 10
