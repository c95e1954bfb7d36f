import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.pseudo_labels.generate import Translator
from nemo_distill.pseudo_labels.text_teacher import TranslatedElsewhere
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
    elsewhere = TranslatedElsewhere(files, POLICY)
    for start in starts:
        texts = [found.text for found in elsewhere.translate(start, ["?"] * 10)]
        assert texts == ["" if number == 5 else f"line {number}" for number in range(start, start + 10)]


def test_files_that_end_too_early_are_refused(files):
    elsewhere = TranslatedElsewhere(files, POLICY)
    with pytest.raises(DataError, match="hold no translation of source line 31"):
        elsewhere.translate(25, ["?"] * 10)


def test_a_source_line_that_is_left_out_has_no_translation(files):
    rows = Translator(TranslatedElsewhere(files, POLICY).translate, POLICY).rows(1, [b"eins", b"", b"drei"])
    assert [row.hypotheses and row.hypotheses[0].text for row in rows] == ["line 1", (), "line 3"]
