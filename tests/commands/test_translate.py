import gzip
import io
import sys

import pytest

from nemo_distill.commands import translate as translation_job
from nemo_distill.commands.translate import TranslationConfig, format_translation, run_translation
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.text.lines import is_blank
from tests.conftest import composed
from tests.pseudo_labels.fakes import write_model

TEXT = "der Hund\n\nein\u2028Mann\x85\nkaputt \ufffd\nohne Ende"


class Echo:
    """Gives each line back, in capital letters and as it is."""

    def translate(self, lines, settings):
        both = [(Hypothesis(line.upper(), -0.5), Hypothesis(line, -1.0)) for line in lines]
        return [
            Translation(hypotheses[: settings.n_best], source_cut=len(hypotheses[0].text) > 8) for hypotheses in both
        ]


@pytest.fixture
def translate(tmp_path, monkeypatch):
    """Runs the job with given overrides over `TEXT`, and returns what it wrote."""
    monkeypatch.setattr(translation_job, "load_engine", lambda *args: Echo())
    source, model = tmp_path / "in", write_model(tmp_path / "model.nemo")
    source.write_bytes(TEXT.encode().replace("\ufffd".encode(), b"\xff"))

    def run(*overrides, output="out", **streams):
        cfg = config(f"model={model}", f"input={source}", f"output={tmp_path / output}", "chunk=2", *overrides)
        run_translation(read_config(TranslationConfig, cfg))
        return (tmp_path / output).read_text()

    return run


def config(*overrides):
    return composed("translate", *overrides)


def test_every_line_gets_one_line_whatever_it_holds(translate):
    assert translate() == "DER HUND\n\nEIN MANN\nKAPUTT \ufffd\nOHNE ENDE\n"


def test_scores_and_several_hypotheses_are_written(translate):
    assert translate("scores=true").splitlines()[0] == "-0.5000\tDER HUND"
    lines = translate("search.n_best=2", output="other").split("\n")
    assert lines[:3] == ["0 ||| DER HUND ||| -0.5000", "0 ||| der Hund ||| -1.0000", "1 |||  ||| -0.5000"]


def test_a_line_end_in_a_translation_shifts_no_line():
    translation = Translation((Hypothesis("a\nb", -1.0),))
    assert format_translation(0, translation, SearchSettings(), scores=False) == ["a b"]
    assert format_translation(3, translation, SearchSettings(n_best=2), scores=False) == ["3 ||| a b ||| -1.0000"]


def test_cut_lines_are_counted(translate, capsys):
    translate()
    assert (
        "Lines that were longer than the model reads, and not translated to their ends: 1" in capsys.readouterr().err
    )


def test_lines_without_text_are_counted(translate, monkeypatch, capsys):
    class Careful(Echo):
        def translate(self, lines, settings):
            found = super().translate(lines, settings)
            return [EMPTY if is_blank(line) else translation for line, translation in zip(lines, found)]

    monkeypatch.setattr(translation_job, "load_engine", lambda *args: Careful())
    assert translate().split("\n")[1] == ""
    assert "Lines without text, whose translations are empty: 1" in capsys.readouterr().err


def test_lines_that_are_not_utf8_are_counted(translate, capsys):
    translate()
    assert "Lines that were not UTF-8, whose invalid bytes were read as U+FFFD: 1" in capsys.readouterr().err


def test_gzip_and_standard_streams(translate, tmp_path, monkeypatch, capsys):
    with gzip.open(tmp_path / "in.gz", "wt", encoding="utf-8") as stream:
        stream.write("der Hund\n")
    assert translate(f"input={tmp_path / 'in.gz'}") == "DER HUND\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"der Hund\nzwei\n")))
    run_translation(TranslationConfig(model="x", chunk=1))
    assert capsys.readouterr().out == "DER HUND\nZWEI\n"


def test_translations_are_utf_8_in_any_locale(translate, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("łódź für\n".encode())))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    run_translation(TranslationConfig(model="x"))
    assert sys.stdout.buffer.getvalue().decode() == "ŁÓDŹ FÜR\n"


def test_several_files_are_translated_one_after_the_other(translate, tmp_path):
    for part, line in {"part.2": "zwei", "part.10": "zehn"}.items():
        (tmp_path / part).write_text(f"{line}\n")
    assert translate(f"input={tmp_path}/part.*") == "ZWEI\nZEHN\n"
    assert translate(f"input=[{tmp_path}/part.10,{tmp_path}/part.2]", "overwrite=true") == "ZEHN\nZWEI\n"


def test_an_interrupted_job_leaves_no_output(translate, tmp_path, monkeypatch):
    class Broken(Echo):
        def translate(self, lines, settings):
            if "kaputt" in lines[0] + lines[-1]:
                raise KeyboardInterrupt
            return super().translate(lines, settings)

    monkeypatch.setattr(translation_job, "load_engine", lambda *args: Broken())
    with pytest.raises(KeyboardInterrupt):
        translate()
    assert not (tmp_path / "out").exists()


def test_all_mistakes_are_told_at_once_and_an_output_is_not_overwritten(tmp_path):
    (tmp_path / "out").touch()
    cfg = config(
        "model=[a.nemo,b.nemo]", "engine=nemo", "dtype=int4", "input=in", f"output={tmp_path / 'out'}",
        "search.n_best=9", "search.top_p=2.0",
    )  # fmt: skip
    with pytest.raises(ConfigurationError) as raised:
        read_config(TranslationConfig, cfg)
    starts = ("input names 'in'", "search.top_p=2.0", "search.n_best=9: engine=nemo", "search.n_best=9: must",
              "model names 'a.nemo'", "model names 'b.nemo'", "model names 2 files", "dtype=int4", "output names")  # fmt: skip
    problems = sorted(raised.value.problems)
    assert [problem.startswith(start) for problem, start in zip(problems, sorted(starts), strict=True)] == [True] * 9


@pytest.mark.parametrize("output", ["in", "model.nemo"])
def test_what_is_read_is_never_overwritten(translate, tmp_path, output):
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigurationError, match=f"output names '{tmp_path}/{output}', which is read"):
        translate("overwrite=true", output=output)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_restored_model_translates_as_nemo_does(teacher_path, tmp_path):
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    (tmp_path / "in").write_text("der Hund\nMann und Haus\n")
    job = config(f"model={teacher_path}", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}")
    job_delta = MTEncDecModel.restore_from(str(teacher_path), return_config=True).max_generation_delta
    job.search = {"beam_size": 1, "length_penalty": 0.0, "max_delta": job_delta}
    run_translation(read_config(TranslationConfig, job))
    nemo = MTEncDecModel.restore_from(str(teacher_path)).eval()
    assert (tmp_path / "out").read_text().splitlines() == [
        nemo.translate([line])[0]  # NeMo's length limit is that of the batch's longest source
        for line in ("der Hund", "Mann und Haus")
    ]


def test_an_engine_is_chosen_by_lines_of_the_input(translate, monkeypatch):
    asked = []

    def choose(request, lines):
        asked.append(lines)
        return {"engine": "ctranslate2", "dtype": "int8"}

    monkeypatch.setattr(translation_job, "choose_engine", choose)
    monkeypatch.setattr(translation_job, "load_engine", lambda *args: asked.append((args[0], args[3])) or Echo())
    assert translate("engine=auto").startswith("DER HUND\n")
    assert asked == [["der Hund", "ein Mann", "kaputt \ufffd", "ohne Ende"], ("ctranslate2", "int8")]


def test_standard_input_has_no_lines_to_choose_by(tmp_path):
    with pytest.raises(ConfigurationError, match="engine=auto tries engines on lines of input"):
        read_config(TranslationConfig, config(f"model={write_model(tmp_path / 'model.nemo')}", "engine=auto"))
