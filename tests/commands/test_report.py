"""The whole page, from folders to what a browser makes of it."""

import json
import re
import shutil
import subprocess

import pytest

from benchmarks.browser import BROWSER
from nemo_distill.commands.report import ReportConfig, write_report
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.section import read_config
from nemo_distill.report.sections import render_page
from nemo_distill.text import languages
from tests.conftest import composed


def config(*overrides):
    return composed("report", *overrides)


@pytest.fixture(scope="module")
def report(evaluation_folder, sweep_folder, tmp_path_factory):
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed")
    folder = tmp_path_factory.mktemp("report")
    cfg = config(f"runs={sweep_folder}", f"evaluation={evaluation_folder}", f"output_dir={folder}", "title='A & B'")
    write_report(read_config(ReportConfig, cfg))
    return folder


def test_the_page_has_tables_fronts_curves_sentences_and_needs_nothing_else(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    for text in (
        "A &amp; B",
        "<p>Ship student (PyTorch): ",
        "<p>It has -5.50 BLEU against teacher (95 %: -24.60 to +13.60, over 2 seeds); it closes 45 % (20 to 70 %)",
        "<p>Compared with teacher (both PyTorch), student is 10.0 times smaller on disk and 5.8 times as fast.</p>",
        "Not exported to int8: teacher. Some reason.",
        "34.50 ± 2.12*",
        "Quality against speed",
        "Quality by temperature",
        "on cpu: small with 2 thread(s)",
        "val_sacreBLEU",
        "failed",
        '<a href="#set=flickr&amp;failure=tags&amp;system=baseline">333.3</a>',
        "flickr: Not applicable: words left untranslated (needs training_source and training_target).",
        "flickr: Not found in any system: loops.",
    ):
        assert text in page
    assert ">student</text>" in page and ">student_seed0</text>" not in page  # fronts show the mean of seeds
    assert not re.findall(r"(?:src|href)=[\"']?[^#\"'][^>]*|@import|url\([^#][^)]*", page)
    assert sorted(path.name for path in (report / "plots").iterdir()) == [
        "curve_val_sacreBLEU.png", "front_bytes.png", "front_parameters.png", "front_sentences_per_second.png",
        "sweep_1_temperature.png",
    ]  # fmt: skip


def test_a_package_that_sentence_scores_need_is_told_before_any_work(evaluation_folder, tmp_path, monkeypatch):
    """The evaluation may have been made on another machine."""
    monkeypatch.setattr(languages, "_is_installed", lambda tokenizer: False)
    folder = shutil.copytree(evaluation_folder, tmp_path / "evaluation")
    record = folder / "evaluation.json"
    japanese = record.read_text().replace("tok:13a", "tok:ja-mecab-0.996-IPA")
    assert japanese != record.read_text()
    record.write_text(japanese)
    with pytest.raises(ConfigurationError) as raised:
        read_config(ReportConfig, config(f"evaluation={folder}"))
    assert raised.value.problems == [
        "sentences=200: BLEU by ja-mecab needs pip install 'sacrebleu[ja]'; or set sentences=0."
    ]
    read_config(ReportConfig, config(f"evaluation={folder}", "sentences=0"))


def test_text_of_a_translation_is_never_the_pages_own(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" in page and "<script>alert(1)" not in page
    assert page.count("</script>") == 2


def browse(folder, script, width=1280, place=""):
    """Returns the page as Chromium has it after some JavaScript."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed")
    page = folder / "script.html"
    page.write_text((folder / "report.html").read_text(encoding="utf-8") + f"<script>{script}</script>")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        f"--window-size={width},900",
    ]
    done = subprocess.run(
        [BROWSER, *options, "--dump-dom", page.as_uri() + place], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(page):
    return re.findall(r"<dt>source (\d+)</dt>", page)


def test_a_browser_shows_first_where_the_student_falls_shortest(report):
    page = browse(report, "")
    assert (
        shown(page) == ["3", "2", "1"] and "<mark>It rains</mark>.</dd>" in page
    )  # of the student that is to be shipped
    assert "3 sentences" in page


def test_the_reader_of_an_evaluation_that_ships_the_teacher_begins_with_a_student(evaluation_folder, tmp_path):
    folder = shutil.copytree(evaluation_folder, tmp_path / "evaluation")
    record = json.loads((folder / "evaluation.json").read_text())
    record["verdict"]["ship"] = "teacher"
    (folder / "evaluation.json").write_text(json.dumps(record))
    write_report(read_config(ReportConfig, config(f"evaluation={folder}", f"output_dir={tmp_path}")))
    assert len(shown(browse(tmp_path, ""))) == 3


def test_the_reader_shows_the_student_and_the_words_that_are_asked_for(report):
    choose = """
    student.value = "baseline"; metric.value = "chrF";
    student.dispatchEvent(new Event("change"));
    """
    page = browse(report, choose)
    assert shown(page) == ["2", "1", "3"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<mark>It rains" not in page
    page = browse(report, choose + "filter.value = 'HAUS'; filter.dispatchEvent(new Event('input'));")
    assert shown(page) == ["2"] and "1 sentence of 3" in page


def test_a_rate_leads_to_its_sentences_with_the_differing_words_marked(report):
    page = browse(report, "", place="#set=flickr&failure=made_up_words&system=student_seed1")
    assert shown(page) == ["3"] and "1 sentence of 3" in page
    assert '<dd class="failure">made-up words: sleeps</dd>' in page
    assert "<dd>The man <mark>is sleeping</mark> now.</dd>" in page
    assert '<dd class="student">The man <mark>sleeps</mark> now.</dd>' in page


def test_sentences_are_filtered_by_failure_length_and_score(report):
    script = """
    const seen = [];
    function choose(choices) {
        clear();
        for (const [control, value] of choices) control.value = value;
        chooseStudent();
        seen.push([...reader.querySelectorAll("dt")].map(label => label.textContent).filter(text => /source/.test(text)).join());
    }
    choose([[student, "baseline"], [failure, "any"], [by, "student only"]]);
    choose([[by, "teacher"], [failure, "any"]]);
    choose([[longest, 4]]);
    choose([[lowest, 90]]);
    choose([[highest, 90], [shortest, 5]]);
    choose([[student, "student_seed0"], [marked, "reference"], [filter, "It RAINS"]]);
    document.title = seen.join(";");
    """
    page = browse(report, script)
    # Words of the sources: 5, 4, 4. BLEU of the baseline: low, low, 100.
    assert re.search("<title>(.*)</title>", page)[1] == "source 1;;source 2,source 3;source 3;source 1;source 3"
    assert "<dd><mark>The man is sleeping now</mark>.</dd>" in page and "<mark>It rains</mark>" in page


def test_a_thousand_sentences_are_read_by_keys_and_shown_as_they_are_reached(tmp_path):
    lines = [f"sentence {number}" for number in range(1000)]
    system = {"text": lines, "BLEU": [50.0] * 1000, "chrF": [50.0] * 1000, "failures": {}}
    part = {
        "numbers": list(range(1, 1001)),
        "source": lines,
        "reference": lines,
        "systems": {"a": system, "b": system},
    }
    data = {"teacher": "a", "student": "b", "kinds": {}, "sets": {"long": part}}
    (tmp_path / "report.html").write_text(render_page("long", [], [], data))
    script = """
    const seen = [reader.children.length];
    const press = key => (document.activeElement || document.body).dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    for (let step = 0; step < 26; step++) press("j");
    press("k");
    press("j");
    seen.push(reader.children.length, [...reader.children].indexOf(document.activeElement));
    press("/");
    seen.push(document.activeElement.id);
    press("j"); // a letter that is typed
    filter.value = "SENTENCE 99";
    filter.dispatchEvent(new Event("input"));
    seen.push(document.activeElement.id, reader.children.length, more.hidden);
    document.title = seen.join();
    """
    page = browse(tmp_path, script)
    assert re.search("<title>(.*)</title>", page)[1] == "25,50,25,filter,filter,11,true"


def test_a_page_is_no_wider_than_a_small_screen(report):
    page = browse(report, "document.title = document.documentElement.scrollWidth - window.innerWidth;", width=390)
    assert int(re.search(r"<title>(-?\d+)</title>", page)[1]) <= 0


def test_a_report_of_nothing_or_of_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError) as none:
        read_config(ReportConfig, config())
    assert none.value.problems == ["runs, evaluation and explanation have no value; give the folder of at least one."]
    with pytest.raises(ConfigurationError) as missing:
        read_config(
            ReportConfig, config(f"runs={tmp_path}/nowhere", f"evaluation={tmp_path}", "sentences=-1", "curves=[]")
        )
    starts = {problem.split(" ")[0] for problem in missing.value.problems}
    assert starts == {"runs", "sentences=-1:", "curves=[]:", f"evaluation={tmp_path}:"}


def test_a_metric_must_be_the_evaluations_and_a_baseline_something_that_is_shown(evaluation_folder, tmp_path):
    with pytest.raises(ConfigurationError, match="metric=COMET: must be one of BLEU"):
        read_config(ReportConfig, config(f"evaluation={evaluation_folder}", "metric=COMET"))
    with pytest.raises(DataError, match="baseline=none: must be one of teacher, baseline, student"):
        write_report(ReportConfig(evaluation=evaluation_folder, baseline="none", output_dir=tmp_path / "report"))
    assert not (tmp_path / "report").exists()
