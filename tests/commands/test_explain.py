import json
from dataclasses import replace

import pytest

from nemo_distill.commands.explain import explain_job
from nemo_distill.commands.report import ReportConfig, write_report
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.evaluation import systems as systems_module
from nemo_distill.evaluation.explanation_tables import EXPLANATION_NAME
from nemo_distill.export.record import ExportRecord, Shortlist, read_tokens
from nemo_distill.export.settings import ExportSettings
from tests.conftest import composed, reversing_sentences


def config(*overrides, name="explain"):
    return composed(name, *overrides)


@pytest.fixture(scope="module")
def explained(trained_path, teacher_path, tmp_path_factory):
    """The overrides that explain an untrained student of a trained teacher, and the explanation."""
    folder = tmp_path_factory.mktemp("explained")
    for name, seed in (("test", 999), ("train", 0)):
        for side, lines in zip(("de", "en"), reversing_sentences(100, seed)):
            (folder / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines))
    overrides = [
        f"output_dir={folder / 'out'}", f"teacher={trained_path}", f"model=[{teacher_path},{teacher_path}]",
        f"test.source={folder / 'test.de'}", f"test.reference={folder / 'test.en'}",
        f"train.source={folder / 'train.de'}", f"train.target={folder / 'train.en'}",
        "search.beam_size=1", "search.max_delta=3", "wide_beam_size=2", "sample=100",
    ]  # fmt: skip
    return folder, overrides, explain_job(config(*overrides)).run()


def test_every_part_is_measured_and_the_parts_add_up(explained):
    folder, _, record = explained
    assert record["gap"]["high"] < 0 and record["scores"]["teacher"]["value"] > 50
    parts = record["parts"]
    assert list(parts) == ["quantization", "search", "capacity", "generalisation"]
    assert sum(part["value"] for part in parts.values()) == pytest.approx(record["gap"]["value"])
    assert parts["capacity"]["high"] < 0  # an untrained student fails on training labels too
    assert record["losses"]["labels"]["student"]["value"] > record["losses"]["labels"]["teacher"]["value"]
    assert record["search_errors"]["sentences"] == 100 and record["seeds"]["standard_deviation"] == 0
    assert json.loads((folder / "out" / EXPLANATION_NAME).read_text()) == json.loads(json.dumps(record))
    page = (folder / "out" / "explanation.md").read_text()
    assert "First, capacity or too few steps" in page and "| student minus teacher |" in page


def test_the_same_command_runs_no_model_again(explained, monkeypatch):
    _, overrides, record = explained
    monkeypatch.setattr(systems_module, "load_engine", lambda *arguments: pytest.fail("a model is loaded again"))
    monkeypatch.setattr("nemo_distill.models.scoring.load_scorer", None)
    assert explain_job(config(*overrides)).run() == json.loads(json.dumps(record))
    again = explain_job(config(*overrides, "labels=teacher", "rare=3")).run()
    assert again["scores"] == record["scores"]


def test_another_language_of_the_test_set_is_scored_again(explained):
    _, overrides, record = explained
    again = explain_job(config(*overrides, "test.language=th")).run()
    assert "tok:char" in again["signature"] and "tok:char" not in record["signature"]


def test_an_export_that_is_served_is_measured_without_its_shortlist_too(explained, teacher_path, tmp_path):
    from nemo_distill.export.export_model import export_model

    _, overrides, _ = explained
    folder = tmp_path / "ct2"
    export_model(ExportSettings(teacher_path, folder, quantization="int8"))
    parts = explain_job(config(*overrides, f"export={folder}")).run()["parts"]
    assert list(parts)[:2] == ["quantization", "search"]
    pieces = read_tokens(folder, "target")
    (folder / "vmap.txt").write_text(f"\t{' '.join(pieces[:5])}\n")
    replace(ExportRecord.read(folder), shortlist=Shortlist([], [], 1, 1, 1, 1.0)).write(folder)
    parts = explain_job(config(*overrides, f"export={folder}")).run()["parts"]
    assert list(parts)[:2] == ["shortlist", "quantization"]


def test_the_report_shows_the_explanation(explained, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    folder, _, _ = explained
    cfg = config(f"explanation={folder / 'out'}", f"output_dir={tmp_path}", name="report")
    write_report(read_config(ReportConfig, cfg))
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Why the gap</h2>" in page and "<p>First, capacity or too few steps" in page
    with pytest.raises(ConfigurationError, match="explanation=.*holds no explanation.json"):
        read_config(ReportConfig, config(f"explanation={tmp_path}", name="report"))


def test_all_mistakes_are_told_at_once_before_anything_is_written(explained, trained_path, teacher_path, tmp_path):
    from nemo_distill.export.export_model import export_model

    folder, overrides, _ = explained
    wrong = [
        f"output_dir={tmp_path / 'new'}", "teacher=none.nemo", "test.reference=null", "metric=TER", "sample=5",
        f"train.target={folder / 'test.de'}", "export=int9", "wide_beam_size=2", "beam_size=4",
    ]  # fmt: skip
    (folder / "test.de").write_text((folder / "test.de").read_text() + "der Hund\n")
    with pytest.raises(ConfigurationError) as raised:
        explain_job(config(*overrides, *wrong))
    for start in (
        "teacher.model names 'none.nemo'", "test.source: a test set has", "metric=TER", "sample=5", "train.source: ",
        "export=int9", "wide_beam_size=2: must be more",
    ):  # fmt: skip
        assert any(problem.startswith(start) for problem in raised.value.problems), start
    assert not (tmp_path / "new").exists()
    export_model(ExportSettings(trained_path, tmp_path / "ct2"))
    with pytest.raises(ConfigurationError, match="was made from another model than"):
        explain_job(config(*overrides, f"export={tmp_path / 'ct2'}"))
