import gzip
import tracemalloc

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.pseudo_labels.generate import Failure, Translator
from nemo_distill.pseudo_labels.text_teacher import FileSettings, TextTeacher, survey
from tests.pseudo_labels.fakes import POLICY


@pytest.fixture
def files(tmp_path):
    lines = [f"line {number}" for number in range(1, 31)]
    lines[4] = ""
    paths = tmp_path / "a.en", tmp_path / "b.en"
    for path, part in zip(paths, (lines[:20], lines[20:])):
        path.write_text("".join(f"{line}\n" for line in part))
    return paths


@pytest.mark.parametrize("starts", [(1, 11, 21), (11,), (21, 1), (1, 21)])
def test_lines_are_found_by_their_numbers_in_whatever_order(files, starts):
    teacher = TextTeacher(files, POLICY)
    for start in starts:
        texts = [found.text for found in teacher.translate(start, ["?"] * 10)]
        assert texts == ["" if number == 5 else f"line {number}" for number in range(start, start + 10)]


def test_files_that_end_too_early_are_refused(files):
    with pytest.raises(DataError, match="hold no translation of source line 31"):
        TextTeacher(files, POLICY).translate(25, ["?"] * 10)


def test_a_source_line_that_is_left_out_has_no_translation(files):
    rows = Translator(TextTeacher(files, POLICY).translate, POLICY).rows(1, [b"eins", b"", b"drei"])
    assert [row.hypotheses and row.hypotheses[0].text for row in rows] == ["line 1", (), "line 3"]


def teacher(tmp_path, content, **settings):
    path = tmp_path / "translations"
    path.write_bytes(gzip.compress(content.encode()))
    return TextTeacher([path], POLICY, FileSettings(**settings))


def read(tmp_path, content, lines, **settings):
    """The text and score of each hypothesis of each line, or why there are none."""
    found = teacher(tmp_path, content, **settings).translate(1, ["?"] * lines)
    return [
        one.reason if isinstance(one, Failure) else [(hypothesis.text, hypothesis.score) for hypothesis in one.hypotheses]
        for one in found
    ]  # fmt: skip


def test_blocks_are_successive_lines(tmp_path):
    assert read(tmp_path, "a\nb\n\nd\n", 2, format="blocks", per_line=2) == [
        [("a", 0.0), ("b", 0.0)], [("", 0.0), ("d", 0.0)],
    ]  # fmt: skip
    with pytest.raises(DataError, match="ends within the block of source line 2"):
        read(tmp_path, "a\nb\nc\n", 2, format="blocks", per_line=2)


def test_each_system_has_a_file(files, tmp_path):
    settings = FileSettings(format="systems")
    found = TextTeacher([files[0], files[0]], POLICY, settings).translate(3, ["?"] * 2)
    assert [[hypothesis.text for hypothesis in one.hypotheses] for one in found] == [["line 3"] * 2, ["line 4"] * 2]
    with pytest.raises(DataError, match=r"b.en' has 10 lines, and other files have more"):
        survey(TextTeacher(files, POLICY, settings))


MOSES = """0 ||| the dog ||| LM0= -12.5 -3 TM: 0 ||| -0.5
0 ||| a dog ||| LM0= -13 ||| -0.25
1 ||| a ||| b ||| c ||| F= 1 ||| -2
3 ||| plain
4 ||| only a score ||| -1.5
5 |||  ||| F0= 1 ||| -3
6 ||| aligned ||| F0= 1 ||| -3 ||| 0-0 1-2
7 ||| no features |||  ||| -3
8 ||| phrases ||| F0= 1 ||| -3 ||| 0-1=0 2=1-2 ||| 0-0 1-2
9 ||| Marian ||| 0-0 1-1 ||| WordScores= -1.5 -0.2 ||| F0= -1.7 F1= -1.9 ||| -3
10 ||| soft ||| 0.5,1e-05 0.2,0.8 ||| F0=-1.2 ||| -3
"""


def test_a_moses_list_has_scores_gaps_and_texts_with_its_separator(tmp_path):
    assert read(tmp_path, MOSES, 12, format="moses") == [
        [("a dog", -0.25), ("the dog", -0.5)],  # the highest score first
        [("a ||| b ||| c", -2.0)],
        "missing",
        [("plain", 0.0)],
        [("only a score", -1.5)],
        [("", -3.0)],
        [("aligned", -3.0)],
        [("no features", -3.0)],
        [("phrases", -3.0)],
        [("Marian", -3.0)],
        [("soft", -3.0)],
        "missing",
    ]


def test_a_table_has_line_numbers_and_scores_where_there_are_any(tmp_path):
    content = "1\ta\t0.5\r\n1\tb\n2\t\n4\tERROR 500\n5\tERROR\n5\tc\n"
    assert read(tmp_path, content, 5, format="tsv", failed="ERROR.*") == [
        [("a", 0.5), ("b", 0.0)], [("", 0.0)], "missing", "failed", [("c", 0.0)],
    ]  # fmt: skip
    assert read(tmp_path, "0\ta\n", 1, format="tsv", first_line=0) == [[("a", 0.0)]]


def test_json_lines_say_what_failed(tmp_path):
    content = (
        '{"line": 1, "translations": ["a", "b"], "scores": [1, 2.5]}\n{"line": 2, "error": {"code": 500}}\n'
        '{"line": 2, "translations": [null, "zwei\\nZeilen"]}\n{"line": 4, "translations": [null]}\n'
    )
    assert read(tmp_path, content, 5, format="json") == [
        [("b", 2.5), ("a", 1.0)], [("zwei Zeilen", 0.0)], "missing", "failed", "missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "settings", "sentence"),
    [
        ("the dog\n", {"format": "moses"}, "line 1: is not '0 ||| text"),
        ("one ||| the dog\n", {"format": "moses"}, "line 1: 'one' is not the number of a source line"),
        ("1 ||| a\n0 ||| b\n", {"format": "moses"}, "source line 1 come after those of line 2; sort them"),
        ("0\ta\n", {"format": "tsv"}, "line 1: 0 is not the number of a source line, which begin with first_line=1"),
        ("1\ta\tgood\n", {"format": "tsv"}, "line 1: 'good' is not a score"),
        ("1\ta\tnan\n", {"format": "tsv"}, "line 1: 'nan' is not a score"),
        ("1\ta\tb\tc\n", {"format": "tsv"}, "line 1: has 4 columns"),
        ('{"line": 1, "translation": "a"}\n', {"format": "json"}, "line 1 cannot be read: translation"),
        ('{"line": 1, "translations": ["a"], "scores": []}\n', {"format": "json"}, "has 1 translations and 0 scores"),
        ("[]\n", {"format": "json"}, "line 1 cannot be read"),
    ],
)
def test_what_is_not_in_the_format_is_refused_with_its_line(tmp_path, content, settings, sentence):
    with pytest.raises(DataError) as error:
        survey(teacher(tmp_path, content, **settings))
    assert sentence in str(error.value)


def test_a_survey_finds_the_last_line_the_most_translations_and_the_first_without_a_score(tmp_path):
    found = survey(teacher(tmp_path, MOSES, format="moses"))
    assert (found.lines, found.most, found.unscored) == (11, 2, 4)
    content = "2\ta\t1\n3\tERROR 429\n4\tERROR\n4\tb\t2\n"
    assert survey(teacher(tmp_path, content, format="tsv", failed="ERROR.*")).unscored is None


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for lines in (1_000, 10_000):
        made = teacher(tmp_path, "".join(f"{number}\ttext\t-1\n" for number in range(1, lines)), format="tsv")
        tracemalloc.start()
        survey(made)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"format": "blocks"}, "file.per_line=1: must be at least 2 with format=blocks, and otherwise 1"),
        ({"per_line": 4}, "file.per_line=4: must be at least 2 with format=blocks, and otherwise 1"),
        ({"first_line": 0}, "file.first_line=0: format=lines has no line numbers"),
        ({"failed": "("}, "file.failed=(: is not a regular expression"),
        ({"format": "csv"}, "file.format=csv: must be one of lines, systems, blocks, moses, tsv, json"),
    ],
)
def test_settings_that_contradict_each_other_are_told(values, sentence):
    assert any(sentence in problem for problem in read_section(FileSettings, values, "file")[1])
