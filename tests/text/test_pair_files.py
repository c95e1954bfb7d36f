import bz2
import gzip
import tracemalloc
from collections import Counter
from zipfile import ZIP_DEFLATED, ZipFile

import pyarrow
import pyarrow.parquet
import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.text.pair_files import field_problems, read_pairs

TMX = """<?xml version="1.0" encoding="{encoding}"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US" datatype="PlainText" segtype="sentence"/>
<body>
  <tu tuid="1"><note>a note</note>
    <tuv xml:lang="en-US"><seg>The <hi type="x">big <bpt i="1">&lt;b&gt;</bpt>dog<ept i="1">&lt;/b&gt;</ept></hi>&#8217;s</seg></tuv>
    <tuv xml:lang="de-DE"><seg>Der große
Hund<ph>{{1}}</ph> bellt &amp; beißt.</seg></tuv>
    <tuv xml:lang="fr"><seg>Le chien</seg></tuv>
  </tu>
  <tu><tuv lang="DE"><seg>Nur deutsch</seg></tuv></tu>
  <tu><tuv xml:lang="EN"><seg>first</seg></tuv><tuv xml:lang="EN"><seg>second</seg></tuv>
    <tuv xml:lang="de"><seg></seg></tuv></tu>
</body></tmx>
"""  # fmt: skip


def pairs(path, *fields):
    return [tuple(side.decode() for side in pair) for pair in read_pairs(path, fields, Counter())]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_tmx_is_read_by_its_languages_without_the_codes_of_other_formats(tmp_path, encoding):
    path = tmp_path / "memory"
    path.write_text(TMX.format(encoding=encoding.removesuffix("-sig")), encoding=encoding)
    expected = [("Der große\nHund bellt & beißt.", "The big dog’s"), ("Nur deutsch", ""), ("", "first")]
    assert pairs(path, "de", "en") == expected
    assert pairs(path, "de-DE", "fr")[0] == ("Der große\nHund bellt & beißt.", "Le chien")


@pytest.mark.parametrize("start", ['<tmx xmlns="http://www.lisa.org/tmx14"><body>', "<tmx><units>"])
def test_units_are_found_in_a_namespace_and_outside_of_a_body(tmp_path, start):
    unit = "<tu><tuv lang='de'><seg>a <hi>b</hi></seg></tuv><tuv lang='en'><seg>c</seg></tuv></tu>"
    (tmp_path / "memory").write_text(f"{start}{unit}{unit}</{start.rpartition('<')[2]}</tmx>")
    assert pairs(tmp_path / "memory", "de", "en") == [("a b", "c")] * 2


@pytest.mark.parametrize(("pack", "ending"), [(gzip.compress, "gz"), (bz2.compress, "bz2")])
def test_packed_files_are_read_alike(tmp_path, pack, ending):
    path = tmp_path / f"memory.tmx.{ending}"
    path.write_bytes(pack(TMX.format(encoding="utf-8").encode()))
    assert pairs(path, "en", "de")[2] == ("first", "")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="memory.tmx.* is damaged"):
        pairs(path, "en", "de")


@pytest.mark.parametrize("encoding", ["shift_jis", "big5", "unheard-of"])
def test_a_tmx_in_an_encoding_that_cannot_be_read_is_told(tmp_path, encoding):
    path = tmp_path / "memory.tmx"
    path.write_bytes(TMX.format(encoding=encoding).encode("ascii", "replace"))
    (problem, *_) = field_problems(path, ["de", "en"])
    assert problem.startswith(f"names a file that cannot be read: '{path}' is damaged or in an unknown encoding")


def test_json_lines_are_read_by_their_keys(tmp_path):
    path = tmp_path / "wmt.jsonl"
    path.write_text(
        '\ufeff{"id": 1, "translation": {"de": "Größe\\n", "en": "size"}}\n{"translation": {"de": "allein"}}\n'
    )
    assert pairs(path, "translation.de", "translation.en") == [("Größe\n", "size"), ("allein", "")]
    assert field_problems(path, ["de", "translation.en"]) == [
        f"names '{path}', which has no field 'de'; it has translation.de, translation.en"
    ]
    path.write_text('{"a": {"b": {"de": "tief", "en": "deep"}}}\n')
    assert pairs(path, "a.b.de", "a.b.en") == [("tief", "deep")]
    path.write_text('\n \n{"de": "a", "en": "b"}\n')
    assert pairs(path, "de", "en") == [("a", "b")]
    path.write_text('{"de": "a"}\n["b"]\n')
    with pytest.raises(DataError, match="line 2: is no JSON object"):
        pairs(path, "de", "en")
    assert "line 2: is no JSON object" in field_problems(path, ["de", "en"])[0]


@pytest.mark.parametrize("text", ['[{"de": "a", "en": "b"}]', '[\n  {\n    "de": "a"\n  }\n]\n'])
def test_a_json_array_is_told_with_the_remedy(tmp_path, text):
    (tmp_path / "all.json").write_text(text)
    assert "all.json' is a JSON array; write each" in field_problems(tmp_path / "all.json", ["de", "en"])[0]


def archive_of(path, **members):
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        archive.writestr("README", "about")
        for ending, text in members.items():
            archive.writestr(f"corpus/Books.de-en.{ending}", text)
    return path


def test_an_archive_of_opus_is_read_by_the_endings_of_its_files(tmp_path):
    path = archive_of(tmp_path / "de-en.txt.zip", de=b"gr\xf6\xdfe\nzwei\n", en="size\ntwo\n", xml="<links/>")
    assert list(read_pairs(path, ["de", "en"], Counter())) == [(b"gr\xf6\xdfe", b"size"), (b"zwei", b"two")]
    assert list(read_pairs(path, ["eng", "deu"], Counter()))[1] == (b"two", b"zwei")
    assert field_problems(path, ["de", "fr"]) == [f"names '{path}', which has no field 'fr'; it has de, en, xml"]


def test_an_archive_that_is_not_parallel_or_damaged_is_told(tmp_path):
    path = archive_of(tmp_path / "short.zip", de="eins\nzwei\n", en="one\n")
    with pytest.raises(DataError, match="Books.de-en.de and .*Books.de-en.en have different numbers of lines"):
        pairs(path, "de", "en")
    with ZipFile(path, "a") as archive:
        archive.writestr("more/News.de-en.en", "one\n")
        archive.writestr("__MACOSX/._Books.de-en.de", "")
        archive.writestr("folder.de/", "")
    with pytest.raises(DataError, match="several files of the ending 'en': corpus/Books.de-en.en, more/News.de-en.en"):
        pairs(path, "de", "en")
    whole = archive_of(tmp_path / "whole.zip", de="eins\n" * 999, en="one\n" * 999).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-9])
    assert "cut.zip' is damaged" in field_problems(tmp_path / "cut.zip", ["de", "en"])[0]
    (tmp_path / "bits.zip").write_bytes(whole[:90] + b"????" + whole[94:])
    with pytest.raises(DataError, match="bits.zip"):
        pairs(tmp_path / "bits.zip", "de", "en")
    (tmp_path / "less.zip").write_bytes(whole[:4] + whole[64:])  # so that files seem to begin before the archive
    with pytest.raises(DataError, match="less.zip"):
        pairs(tmp_path / "less.zip", "de", "en")


def test_parquet_is_read_by_its_columns_and_their_keys(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    rows = [{"de": "Größe", "en": "size"}, {"de": "allein", "en": None}]
    table = pyarrow.table({"id": ["1", "2"], "translation": rows, "score": [0.5, 0.25]})
    pyarrow.parquet.write_table(table, path)
    assert pairs(path, "translation.de", "translation.en") == [("Größe", "size"), ("allein", "")]
    assert field_problems(path, ["de", "translation.en"]) == [
        f"names '{path}', which has no field 'de'; it has id, translation.de, translation.en"
    ]
    path.write_bytes(path.read_bytes()[:-9])
    assert "is damaged" in field_problems(path, ["de", "en"])[0]


def test_a_table_is_read_by_its_columns_or_their_names(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b'id\tde\ten\r\n1\tSie sagt: "Ja\tshe says "yes\r\n2\tkurz\r\n')
    named = [('Sie sagt: "Ja', 'she says "yes'), ("kurz", "")]
    assert pairs(path, "de", "en") == named
    assert pairs(path, "2", "3") == [("de", "en"), *named]
    assert field_problems(path, ["2", "4"]) == [f"names '{path}', which has no field '4'; it has 1, 2, 3"]
    assert pairs(path, "en", "de") == [(target, source) for source, target in named]


def test_a_message_lists_the_beginning_of_long_names(tmp_path):
    path = tmp_path / "text"
    path.write_text("Das ist ein Satz und kein Name eines Feldes.\nNoch einer.\n")
    (problem, _) = field_problems(path, ["de", "en"])
    assert problem.endswith("which has no field 'de'; it has Das ist ein Satz und kein Name...")


def test_a_table_separated_by_commas_has_quotes(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b'de,en\n"Ja, ""gut""",yes\n"zwei\nZeilen",two\n'))
    assert pairs(path, "de", "en") == [('Ja, "gut"', "yes"), ("zwei\nZeilen", "two")]


def test_bytes_that_are_no_utf8_are_left_to_the_line_policy(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b"gr\xf6\xdfe\tsize\n")
    assert list(read_pairs(path, ["1", "2"], Counter())) == [(b"gr\xf6\xdfe", b"size")]


@pytest.mark.parametrize("content", ["<html><body><p>Text</p></body></html>", "<tmx><body></body></tmx>"])
def test_markup_without_units_has_no_fields(tmp_path, content):
    path = tmp_path / "page"
    path.write_text(content)
    assert field_problems(path, ["de", "en"])[0] == f"names '{path}', which has no field 'de'; it has none"


def test_entities_that_grow_without_end_are_refused(tmp_path):
    path = tmp_path / "bomb.tmx"
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    path.write_text(
        f'<!DOCTYPE tmx [<!ENTITY e0 "ha">{entities}]><tmx><body><tu><tuv><seg>&e11;</seg></tuv></tu></body></tmx>'
    )
    with pytest.raises(DataError, match="is damaged"):
        pairs(path, "de", "en")


def test_memory_does_not_grow_with_the_units(tmp_path):
    peaks = []
    for count in (1_000, 10_000):
        unit = '<tu><tuv xml:lang="de"><seg>eins</seg></tuv><tuv xml:lang="en"><seg>one</seg></tuv></tu>\n'
        path = tmp_path / f"{count}.tmx"
        path.write_text(f"<tmx><body>{unit * count}</body></tmx>")
        tracemalloc.start()
        assert sum(1 for _ in read_pairs(path, ["de", "en"], Counter())) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("tab.tsv", "de\ten\nEr sagte:\tHallo\tHe said: hello\nJa\tYes\n", [("Ja", "Yes")]),
        ("comma.CSV", "de,en\nJa, gut,Yes\nNein,No\n", [("Nein", "No")]),
        ("excel.csv", 'de;en\n"Ja; gut";Yes, fine\na;b;c\n', [("Ja; gut", "Yes, fine")]),
    ],
)
def test_rows_of_too_many_columns_are_left_out_and_counted(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    left_out = Counter()
    found = [(one.decode(), two.decode()) for one, two in read_pairs(tmp_path / name, ["de", "en"], left_out)]
    assert (found, left_out) == (expected, {"too_many_columns": 1})


def test_parquet_that_calls_its_text_bytes_is_read_and_text_that_is_none_is_told(tmp_path):
    path, sides = tmp_path / "table.parquet", [b"gut", b"M\xfcller"]
    binary = pyarrow.array(sides, pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"de": binary, "en": ["good", "Miller"]}), path)
    found = list(read_pairs(path, ["de", "en"], Counter()))
    assert found == [(b"gut", b"good"), (b"M\xfcller", b"Miller")]
    text = pyarrow.Array.from_buffers(pyarrow.string(), 2, binary.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"de": text, "en": ["good", "Miller"]}), path)
    with pytest.raises(DataError, match="table.parquet' is damaged: 'utf-8' codec"):
        list(read_pairs(path, ["de", "en"], Counter()))


def test_a_long_cell_is_a_row_like_any_other(tmp_path):
    (tmp_path / "table.csv").write_text(f"de,en\n{'x' * 200_000},y\nJa,Yes\n")
    assert pairs(tmp_path / "table.csv", "de", "en") == [("x" * 200_000, "y"), ("Ja", "Yes")]


def test_a_quotation_mark_that_would_swallow_rows_is_told(tmp_path):
    (tmp_path / "table.csv").write_text('de,en\n"unbal,y\nJa,Yes\nNein,No\n')
    with pytest.raises(DataError, match="table.csv' is no table"):
        pairs(tmp_path / "table.csv", "de", "en")


@pytest.mark.parametrize("first", ["<i>Hallo</i>", "{0} Dateien", "<!-- not"])
def test_a_table_may_begin_with_markup_or_a_brace(tmp_path, first):
    (tmp_path / "table.tsv").write_text(f"{first}\thello\n")
    if first.startswith("<!"):  # so does XML
        assert "is damaged" in field_problems(tmp_path / "table.tsv", ["1", "2"])[0]
    else:
        assert pairs(tmp_path / "table.tsv", "1", "2") == [(first, "hello")]


def test_half_an_emoji_and_blank_lines_do_no_harm_in_json(tmp_path):
    path = tmp_path / "cut.jsonl"
    path.write_text('{"de": "Gut \\ud83d", "en": "Good"}\n\n{"de": "Ja \\ud83d\\ude00", "en": "Yes"}\n \n')
    assert pairs(path, "de", "en") == [("Gut \ufffd", "Good"), ("Ja \U0001f600", "Yes")]


def test_of_two_segments_of_a_language_the_first_counts(tmp_path):
    unit = "".join(f"<tuv xml:lang='{code}'><seg>{code}</seg></tuv>" for code in ("de", "EN-US", "EN-GB"))
    (tmp_path / "memory.tmx").write_text(f"<tmx><body><tu>{unit}</tu></body></tmx>")
    assert pairs(tmp_path / "memory.tmx", "de", "en") == [("de", "EN-US")]
