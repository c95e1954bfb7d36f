import json
from dataclasses import replace

import pytest

from nemo_distill.console import console
from nemo_distill.decoding.engine import EMPTY
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation import translations
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.translations import Texts
from tests.evaluation.fakes import FakeSystem, Shouting


@pytest.fixture
def one(tmp_path):
    (tmp_path / "a.de").write_text("eins\n\nzwei\n")
    (tmp_path / "a.en").write_text("one\n\ntwo\n")
    return EvaluationSet("a", tmp_path / "a.de", tmp_path / "a.en")


@pytest.fixture
def system(tmp_path):
    (tmp_path / "model.nemo").write_text("weights")
    return FakeSystem("student", tmp_path / "model.nemo", "nemo_distill")


@pytest.fixture
def loads(monkeypatch):
    """Grows with every system that is loaded."""
    loads = []
    monkeypatch.setattr(FakeSystem, "load", lambda self, device: loads.append(self.name) or Shouting())
    return loads


def translate(folder, system, one, **settings):
    texts = Texts(folder / "texts", SearchSettings(**settings), chunk=2)
    texts.write_set(one)
    texts.translate(system, [one], "cpu")
    return texts.read(one, "student.txt")


def test_each_line_is_translated_into_one_line_and_only_once(tmp_path, system, one, loads):
    assert translate(tmp_path, system, one) == ["EINS", "", "ZWEI"]
    assert translate(tmp_path, system, one) == ["EINS", "", "ZWEI"]
    assert loads == ["student"]


def test_lines_that_are_read_in_part_are_counted(tmp_path, system, one, monkeypatch):
    class Cutting(Shouting):
        def translate(self, lines, settings):
            return [replace(made, source_cut=made.text == "ZWEI") for made in super().translate(lines, settings)]

    told = []
    monkeypatch.setattr(console, "warning", told.append)
    monkeypatch.setattr(FakeSystem, "load", lambda self, device: Cutting())
    translate(tmp_path, system, one)
    (warning,) = told
    assert "student reads only the beginning of 1 lines of a" in warning
    assert json.loads((tmp_path / "texts" / "a.student.json").read_text())["source_cut"] == 1


def test_lines_without_text_are_counted(tmp_path, system, one, monkeypatch):
    class Careful(Shouting):
        def translate(self, lines, settings):
            return [found if line else EMPTY for line, found in zip(lines, super().translate(lines, settings))]

    said = []
    monkeypatch.setattr(FakeSystem, "load", lambda self, device: Careful())
    monkeypatch.setattr(translations.console, "warning", said.append)
    assert translate(tmp_path, system, one) == ["EINS", "", "ZWEI"]
    assert said == ["test_sets.a has 1 lines without text; their translations are empty."]


def test_a_line_separator_in_a_translation_parts_no_line(tmp_path, system, one, monkeypatch):
    class Parting(Shouting):
        def translate(self, lines, settings):
            return super().translate([f"{line}\u2028{line}" for line in lines], settings)

    monkeypatch.setattr(FakeSystem, "load", lambda self, device: Parting())
    assert translate(tmp_path, system, one) == ["EINS EINS", "", "ZWEI ZWEI"]


def test_another_model_other_settings_another_text_and_a_changed_translation_are_translated_again(
    tmp_path, system, one, loads
):
    translate(tmp_path, system, one)
    system.model.write_text("other weights")
    translate(tmp_path, system, one)
    translate(tmp_path, system, one, beam_size=1)
    one.source.write_text("drei\n\nvier\n")
    assert translate(tmp_path, system, one, beam_size=1) == ["DREI", "", "VIER"]
    (tmp_path / "texts" / "a.student.txt").write_text("changed\n")
    assert translate(tmp_path, system, one, beam_size=1) == ["DREI", "", "VIER"]
    assert len(loads) == 5


def test_they_are_translated_again_where_another_library_computes(tmp_path, system, one, loads, monkeypatch):
    """With Intel's library, CTranslate2's int8 can be a point of BLEU better."""
    monkeypatch.delenv("CT2_USE_MKL", raising=False)
    translate(tmp_path, system, one)
    monkeypatch.setenv("CT2_USE_MKL", "1")
    translate(tmp_path, system, one)
    translate(tmp_path, system, one)
    assert len(loads) == 2
    record = json.loads((tmp_path / "texts" / "a.student.json").read_text())
    assert record["settings"]["versions"]["ctranslate2"].endswith(" (CT2_USE_MKL=1)")


def test_a_killed_translation_leaves_no_text(tmp_path, system, one, monkeypatch):
    class Killed(Shouting):
        def translate(self, lines, settings):
            if "zwei" in lines:
                raise KeyboardInterrupt
            return super().translate(lines, settings)

    monkeypatch.setattr(FakeSystem, "load", lambda self, device: Killed())
    with pytest.raises(KeyboardInterrupt):
        translate(tmp_path, system, one)
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == ["a.ref", "a.src"]
