import csv
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from nemo_distill.commands.evaluate import evaluation_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.evaluation import evaluation_job as evaluation_module
from nemo_distill.evaluation import exports as exports_module
from nemo_distill.evaluation import systems as systems_module
from nemo_distill.evaluation.comet import CometSettings
from nemo_distill.evaluation.evaluation_tables import as_markdown
from nemo_distill.evaluation.speed import Speed
from nemo_distill.metrics.scores import Score, bleu
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import read_json
from tests.conftest import composed, reversing_sentences

LENGTH = """
import sys
from pathlib import Path
with open(Path(__file__).with_name("runs"), "a") as runs:
    runs.write("x")
rows = [line.split("\\t") for line in open(sys.argv[1], encoding="utf-8")]
Path(sys.argv[2]).write_text("".join(f"{len(translation)}\\n" for source, translation, reference in rows))
"""


def config(*overrides):
    return composed("evaluate", *overrides)


@pytest.fixture(scope="module")
def evaluated(trained_path, teacher_path, tmp_path_factory):
    """The overrides of an evaluation of a trained model, of its export and of two untrained ones, and what it gave."""
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    folder = tmp_path_factory.mktemp("evaluated")
    for path, lines in zip(("test.de", "test.en"), reversing_sentences(24, seed=999)):
        (folder / path).write_text("".join(f"{line}\n" for line in lines))
    export_model(ExportSettings(trained_path, folder / "ct2"))
    overrides = [
        f"output_dir={folder / 'out'}", f"+models.teacher={trained_path}", f"+models.small={folder / 'ct2'}",
        f"+models.raw_seed0={teacher_path}", f"+models.raw_seed1={teacher_path}", "speed=null", "search.beam_size=1", "export=null",
        f"+test_sets.mine={{source: {folder / 'test.de'}, reference: {folder / 'test.en'}}}",
        "significance.samples=50", "significance.baselines=[raw_seed0]",
    ]  # fmt: skip
    evaluation_job(config(*overrides)).run()
    return folder, overrides, json.loads((folder / "out" / "evaluation.json").read_text())


def test_the_record_holds_scores_of_the_texts_beside_it(evaluated):
    folder, _, record = evaluated
    one = record["test_sets"]["mine"]
    texts = {
        end: (folder / "out" / "texts" / f"mine.{end}").read_text().splitlines() for end in ("ref", "teacher.txt")
    }
    assert one["lines"] == len(texts["ref"]) == 24
    assert one["scores"]["teacher"]["BLEU"]["value"] == bleu(texts["teacher.txt"], texts["ref"]).value > 50
    assert set(one["scores"]["small"]) == {"BLEU", "chrF", "TER"}
    assert one["scores"]["small"]["BLEU"] == one["scores"]["teacher"]["BLEU"]  # the same model, greedily searched


def test_the_record_holds_sizes_and_what_made_it(evaluated):
    _, _, record = evaluated
    teacher, small, raw = (record["systems"][name] for name in ("teacher", "small", "raw_seed0"))
    assert teacher["parameters"] == small["parameters"] > raw["parameters"]
    assert (teacher["compression"], teacher["engine"], small["engine"]) == (1.0, "nemo_distill", "ctranslate2")
    assert raw["compression"] == teacher["parameters"] / raw["parameters"]
    assert (raw["group"], raw["seed"], raw["speed"]) == ("raw", 0, None)
    assert {"date", "device", "threads", "versions", "git_revision"} <= set(record["made_with"])


def test_the_record_holds_comparisons_and_spreads(evaluated):
    one = evaluated[2]["test_sets"]["mine"]
    found = {comparison["system"]: comparison for comparison in one["comparisons"]}
    assert found["teacher"]["difference"] > 0 and found["teacher"]["p_value"] < 0.05
    assert found["raw_seed1"]["p_value"] == 1.0
    assert one["groups"]["raw"]["systems"] == 2 and one["groups"]["raw"]["BLEU"]["standard_deviation"] == 0


def test_failures_of_every_system_are_counted_also_on_noised_copies(evaluated):
    folder, overrides, _ = evaluated
    out = folder / "out"
    evaluation_job(config(*overrides, "failures.noise=[typing_error]")).run()
    kinds = json.loads((out / "failures.json").read_text())["test_sets"]["mine"]["kinds"]
    assert set(kinds["loops"]["systems"]) == {"teacher", "small", "raw_seed0", "raw_seed1"}
    assert kinds["typing_error"]["systems"]["teacher"]["judged"] > 0
    assert kinds["full_stop"] == {"not_applicable": "needs noise=[full_stop]"}
    report = (out / "failures.md").read_text()
    assert "| failures | teacher | small | raw_seed0 | raw_seed1 |" in report
    assert "Not applicable: made-up words (needs training_target)" in report
    hit = next(hit for one in kinds.values() for hit in one.get("systems", {}).get("raw_seed0", {}).get("hits", ()))
    assert f"sentence {hit['line']}: {'; '.join(hit['found'])}" in report


def test_the_same_command_translates_and_scores_nothing_again_and_gives_the_same(evaluated, monkeypatch):
    _, overrides, record = evaluated
    called = []
    monkeypatch.setattr(systems_module, "load_engine", called.append)
    for name in ("corpus_score", "compare"):
        monkeypatch.setattr(evaluation_module, name, lambda *arguments: called.append(arguments))
    again = json.loads(json.dumps(evaluation_job(config(*overrides)).run()))
    assert again["systems"] == record["systems"] and again["test_sets"] == record["test_sets"] and not called


def test_a_second_process_waits_and_then_finds_all_done(evaluated, tmp_path, monkeypatch):
    _, overrides, record = evaluated
    loaded, load_engine = [], systems_module.load_engine

    def counted(name, paths, *others):
        loaded.append(paths)
        return load_engine(name, paths, *others)

    monkeypatch.setattr(systems_module, "load_engine", counted)
    job = evaluation_job(config(*overrides, f"output_dir={tmp_path}"))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: job.run(), range(2)))
    assert [one["test_sets"] for one in found] == [record["test_sets"]] * 2
    assert len(loaded) == len(job.systems)


def test_only_what_has_no_score_yet_is_scored(evaluated, monkeypatch):
    folder, overrides, record = evaluated
    (folder / "model.ckpt").write_text("weights")
    asked = []

    def comet_scores(settings, sources, translations, references, device):
        asked.append(list(translations))
        return [(name, Score(0.5, "comet")) for name in translations]

    monkeypatch.setattr(evaluation_module, "comet_scores", comet_scores)
    for some in ([override for override in overrides if "small" not in override], overrides):
        job = evaluation_job(config(*some))
        job = replace(job, settings=replace(job.settings, comet=CometSettings(checkpoint=str(folder / "model.ckpt"))))
        scores = job.run()["test_sets"]["mine"]["scores"]
    assert asked == [["teacher", "raw_seed0", "raw_seed1"], ["small"]]
    assert scores["small"] == record["test_sets"]["mine"]["scores"]["small"] | {"COMET": asdict(Score(0.5, "comet"))}


def test_p_values_that_an_earlier_revision_of_the_tests_gave_are_computed_again(evaluated):
    folder, overrides, record = evaluated
    kept = folder / "out" / "scores" / "mine.comparisons.json"
    earlier = read_json(kept)
    earlier["settings"].pop("revision", None)
    for comparison in earlier["comparisons"]:
        comparison["p_value"] = 0.0196
    write_json(kept, earlier)
    assert evaluation_job(config(*overrides)).run()["test_sets"] == record["test_sets"]


def test_other_references_give_other_scores(evaluated):
    folder, overrides, record = evaluated
    (folder / "other.en").write_text("".join((folder / "test.en").read_text().splitlines(keepends=True)[::-1]))
    again = [override.replace("test.en", "other.en") for override in overrides]
    one = evaluation_job(config(*again)).run()["test_sets"]["mine"]
    assert one["scores"]["teacher"]["TER"]["value"] > record["test_sets"]["mine"]["scores"]["teacher"]["TER"]["value"]
    assert one["comparisons"] != record["test_sets"]["mine"]["comparisons"]


def test_a_command_of_the_users_is_a_metric_by_its_name(evaluated):
    folder, overrides, _ = evaluated
    (folder / "length.py").write_text(LENGTH)
    command = f"{sys.executable} {folder}/length.py {{hypotheses}} {{scores}}"
    more = [f"+scorers.Length={{command: '{command}', lower_is_better: true}}", "metrics=[chrF]"]
    for _ in range(2):
        one = evaluation_job(config(*overrides, *more)).run()["test_sets"]["mine"]
    assert (folder / "runs").read_text() == "x"  # once for all systems, and not again
    texts = (folder / "out" / "texts" / "mine.small.txt").read_text().splitlines()
    assert one["scores"]["small"]["Length"]["value"] == pytest.approx(sum(map(len, texts)) / len(texts))
    assert one["lower_is_better"] == ["Length"]
    assert "mine Length" in (folder / "out" / "evaluation.md").read_text()
    with pytest.raises(ConfigurationError) as raised:
        evaluation_job(config(*overrides, f"+scorers.BLEU={{command: '{command}'}}", "+scorers.X={command: python}"))
    assert [problem.split(" ")[0] for problem in raised.value.problems] == [
        "scorers.BLEU:",
        "scorers.X.command=python:",
    ]


def test_a_second_reference_counts_in_scores_tests_and_on_the_page(evaluated, tmp_path):
    folder, overrides, record = evaluated
    (folder / "second.en").write_text("the dog\n" + "\n" * 23)
    several = [
        one.replace("test.en}", f"[{folder / 'test.en'},{folder / 'second.en'}]}}").replace(f"{folder}/[", "[")
        for one in overrides
    ]
    one = evaluation_job(config(*several, f"output_dir={tmp_path}")).run()["test_sets"]["mine"]
    assert one["references"] == 2 and one["reference"] == "test.en, second.en"
    scores, before = one["scores"]["raw_seed0"], record["test_sets"]["mine"]["scores"]["raw_seed0"]
    assert scores["chrF"]["signature"].startswith("nrefs:var") and scores["chrF"]["value"] >= before["chrF"]["value"]
    assert one["comparisons"][0]["difference"] == pytest.approx(
        one["scores"]["teacher"]["BLEU"]["value"] - one["scores"]["raw_seed0"]["BLEU"]["value"]
    )
    assert Evaluation.read(tmp_path).references("mine")[1][:2] == ["the dog", ""]


def test_scores_are_those_of_the_language_that_the_models_write(evaluated, monkeypatch, tmp_path):
    _, overrides, _ = evaluated
    monkeypatch.setattr(systems_module.System, "written_language", lambda system: "zh")
    job = evaluation_job(config(*overrides, f"output_dir={tmp_path}"))
    scores = job.run()["test_sets"]["mine"]["scores"]["teacher"]
    assert "tok:zh" in scores["BLEU"]["signature"] and "asian:yes" in scores["TER"]["signature"]


def test_the_tables_are_written_for_people_and_spreadsheets(evaluated):
    folder, overrides, _ = evaluated
    evaluation_job(config(*overrides)).run()
    record = json.loads((folder / "out" / "evaluation.json").read_text())
    assert (folder / "out" / "evaluation.md").read_text() == as_markdown(record)
    rows = list(csv.DictReader((folder / "out" / "evaluation.csv").open()))
    assert [row["system"] for row in rows] == ["teacher", "small", "raw_seed0", "raw_seed1"]
    assert float(rows[0]["mine BLEU"]) == record["test_sets"]["mine"]["scores"]["teacher"]["BLEU"]["value"]


def test_a_finished_timing_is_not_repeated_unless_something_changes(evaluated, monkeypatch):
    _, overrides, _ = evaluated
    timed = []

    def measure(systems, *others):
        timed.append([system.name for system in systems])
        return [Speed(1.0, 2.0, 3.0, 4.0, 5.0) for _ in systems]

    monkeypatch.setattr(evaluation_module, "measure", measure)
    again = [override for override in overrides if override != "speed=null"]
    record = evaluation_job(config(*again)).run()
    kept = evaluation_job(config(*again)).run()
    assert kept["systems"] == record["systems"] and kept["made_with"]["timed"] == record["made_with"]["timed"]
    assert record["systems"]["teacher"]["speed"]["tokens_per_second"] == 2.0
    evaluation_job(config(*again, "threads=3")).run()
    monkeypatch.setattr("nemo_distill.storage.made_with.git_revision", lambda: "another")
    evaluation_job(config(*again, "threads=3")).run()
    assert timed == [["teacher", "small", "raw_seed0"]] * 3  # one seed says how fast all are
    assert record["systems"]["raw_seed1"]["speed"] is None


def test_differences_are_tested_by_what_systems_are_scored_by(evaluated):
    _, overrides, _ = evaluated
    job = evaluation_job(config(*overrides, "metrics=[chrF]"))
    assert job.significance.metrics == ["chrF"]
    with pytest.raises(ConfigurationError, match=r"significance.metrics=\['BLEU'\]: must be of metrics=\['chrF'\]"):
        evaluation_job(config(*overrides, "metrics=[chrF]", "significance.metrics=[BLEU]"))


def test_the_file_that_spbleu_needs_is_told_before_any_work(evaluated, tmp_path, monkeypatch):
    _, overrides, _ = evaluated
    monkeypatch.setattr("nemo_distill.metrics.scores.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=rf"metrics=\['spBLEU'\]: spBLEU needs .*{tmp_path}/models/"):
        evaluation_job(config(*overrides, "metrics=[spBLEU]"))


def test_all_mistakes_are_told_at_once_before_anything_is_written(tmp_path):
    cfg = config(
        f"output_dir={tmp_path / 'out'}", "metrics=[BLUE]", "comet.checkpoint=none.ckpt", "device=tpu", "chunk=0",
        "significance.test=t", "speed.rounds=0", "search.beam_size=0", "+models.student=none.nemo",
        "+test_sets.mine={source: a.de}",
    )  # fmt: skip
    with pytest.raises(ConfigurationError) as raised:
        evaluation_job(cfg)
    for start in (
        "metrics[0]=BLUE", "comet.checkpoint", "comet.python", "device=tpu", "chunk=0", "significance.test=t",
        "speed.rounds=0", "search.beam_size=0", "models.student.model names 'none.nemo'", "test_sets.mine.source",
    ):  # fmt: skip
        assert any(problem.startswith(start) for problem in raised.value.problems), start
    assert not (tmp_path / "out").exists()


def test_what_several_keys_say_together_is_checked(tmp_path, teacher_path):
    cfg = config(
        f"output_dir={tmp_path}", "significance.baselines=[teacher]", "search.n_best=2", f"+models.a={teacher_path}"
    )
    with pytest.raises(ConfigurationError) as raised:
        evaluation_job(cfg)
    starts = ("significance.baselines names 'teacher'", "search.n_best", "test_sets is empty")
    for start in starts:
        assert any(problem.startswith(start) for problem in raised.value.problems), start


def test_the_record_says_how_a_model_was_trained(evaluated):
    folder, _, record = evaluated
    assert record["systems"]["teacher"]["label_smoothing"] == 0.1
    assert [record["systems"]["small"][key] for key in ("label_smoothing", "training")] == [0.1, None]  # of its .nemo
    model = folder / "run" / "checkpoints" / "model.nemo"
    model.parent.mkdir(parents=True)
    model.write_bytes((folder / "out").joinpath("evaluation.json").read_bytes())
    entry = {"name": "any.nemo", "sha256": fingerprint(model)["sha256"]}
    known = {"steps": 100, "target_tokens": 90_000, "tokens_in_batch": 1024, "seconds": 12.5}
    made = {"device": "2 x a GPU", "git_revision": "abc"}
    system = systems_module.System("a", model, "nemo_distill", preparation_seconds=3.0)
    write_json(folder / "run" / "run.json", {"models": [entry], "made_with": made, **known})
    assert system.training() == known | made | {"preparation_seconds": 3.0}
    made = dict.fromkeys(made)
    write_json(
        folder / "run" / "run.json", {"models": [entry], "steps": 100, "seconds": 12.5}
    )  # of an earlier version
    unknown = dict.fromkeys(("target_tokens", "tokens_in_batch"))
    assert system.training() == known | unknown | made | {"preparation_seconds": 3.0}
    write_json(folder / "run" / "run.json", {"models": [], **known})
    assert system.training() == dict.fromkeys(known) | made | {"preparation_seconds": 3.0}
    assert replace(system, preparation_seconds=None).training() is None


@pytest.fixture(scope="module")
def exported(evaluated, tmp_path_factory):
    """The folder of an evaluation of two models and of two systems of which only text is there, its overrides, and
    what it gave. The first model is there with an export."""
    folder, overrides, _ = evaluated
    out = tmp_path_factory.mktemp("exported")
    references = (folder / "test.en").read_text().splitlines()
    (out / "people.en").write_text("".join(f"{line} &amp;\n" for line in references))
    kept = [one for one in overrides if one.startswith(("+test_sets", "speed", "search", "significance.samples"))]
    teacher, raw = (one.partition("=")[2] for one in (overrides[1], overrides[3]))
    overrides = [
        f"output_dir={out / 'out'}", f"+models.teacher={teacher}", f"+models.small={folder / 'ct2'}",
        f"+models.raw={{model: {raw}, role: baseline}}", *kept, "metrics=[BLEU]",
        f"+models.people={{translations: '{out}/p*.en', unescape_html: true}}",
        f"+models.again={{model: {teacher}, beam_size: 2}}",
    ]  # fmt: skip
    return out, overrides, evaluation_job(config(*overrides)).run()


def test_every_model_is_evaluated_as_an_export_too(exported):
    out, _, record = exported
    systems = record["systems"]
    assert list(systems) == ["teacher", "teacher_int8", "small", "raw", "raw_int8", "people", "again", "again_int8"]
    found = [(one["engine"], one["precision"], one["same_model_as"]) for one in systems.values()]
    assert found[:3] == [
        ("nemo_distill", "float32", None), ("ctranslate2", "int8", "teacher"), ("ctranslate2", "float32", "teacher")
    ]  # fmt: skip
    assert systems["raw_int8"]["role"] == "baseline" and (out / "out" / "exports" / "raw_int8").is_dir()
    pairs = {(one["system"], one["baseline"]) for one in record["test_sets"]["mine"]["comparisons"]}
    assert pairs == {
        *((name, "teacher") for name in ("small", "raw", "people", "again", "teacher_int8")),
        ("raw_int8", "raw"), ("raw_int8", "teacher_int8"), ("again_int8", "again"), ("again_int8", "teacher_int8"),
    }  # fmt: skip
    assert record["verdict"]["ship"] in ("raw", "raw_int8")
    assert (systems["again"]["beam_size"], systems["again"]["same_model_as"]) == (2, "teacher")
    assert systems["again_int8"]["sha256"] == systems["teacher_int8"]["sha256"]
    assert not (out / "out" / "exports" / "again_int8").exists()


def test_an_export_is_made_again_only_of_another_model(exported):
    out, overrides, record = exported
    folder = out / "out" / "exports" / "teacher_int8"
    before = folder.stat().st_ino
    assert json.loads(json.dumps(evaluation_job(config(*overrides)).run()))["systems"] == record["systems"]
    assert folder.stat().st_ino == before
    known = read_json(folder / "nemo_distill.json")
    write_json(folder / "nemo_distill.json", known | {"sha256": "0" * 64})
    evaluation_job(config(*overrides)).run()
    assert folder.stat().st_ino != before and read_json(folder / "nemo_distill.json") == known


def test_a_system_of_text_only_is_scored_and_compared_like_all(exported):
    out, _, record = exported
    people, text = record["systems"]["people"], (out / "out" / "texts" / "mine.people.txt").read_text().splitlines()
    assert text[0].endswith(" &") and record["test_sets"]["mine"]["scores"]["people"]["BLEU"]["value"] > 70
    assert [people[key] for key in ("engine", "parameters", "bytes", "training", "speed")] == [
        "text", None, None, None, None
    ]  # fmt: skip
    read = record["test_sets"]["mine"]["sha256"]
    assert set(read) == {"src", "ref"} and len({*read.values(), people["sha256"]}) == 3


def test_a_model_that_cannot_be_exported_is_evaluated_as_it_is_and_that_is_said(exported, monkeypatch, tmp_path):
    _, overrides, _ = exported
    monkeypatch.setattr(exports_module, "find_spec", lambda name: None)
    job = evaluation_job(config(*overrides, f"output_dir={tmp_path}"))
    assert [system.name for system in job.all_systems] == ["teacher", "small", "raw", "people", "again"]
    (note,) = job.exported[1]
    assert note.startswith("Not exported to int8: teacher, raw, again. ctranslate2 is not installed: pip install")


def test_entities_that_stay_in_a_text_are_warned_of(exported, monkeypatch):
    _, overrides, _ = exported
    said = []
    monkeypatch.setattr(systems_module.console, "warning", said.append)
    job = evaluation_job(config(*(one.replace(", unescape_html: true", "") for one in overrides)))
    (people,) = (system for system in job.systems if system.name == "people")
    assert people.lines("mine")[0].endswith(" &amp;")
    assert "models.people: 24 of 24 lines of" in said[0] and "&amp;; unescape_html=true" in said[0]


@pytest.mark.parametrize(
    ("models", "sets", "sentence"),
    [
        ("a={translations: short.en}", ["x"], "models.a.translations, x: 'short.en' has 1 lines and"),
        ("a={translations: long.en}", ["x", "y"], "models.a.translations names 1 of the files for 2 test sets: x, y"),
        ("a={translations: {x: long.en}}", ["x", "y"], "models.a.translations lacks the test set 'y'"),
        ("a={translations: {x: long.en, z: long.en}}", ["x"], "models.a.translations names 'z'; test_sets has x."),
        ("a={translations: none.en}", ["x"], "models.a.translations names 'none.en', which does not exist."),
        ("a={translations: long.en, dtype: int8}", ["x"], "models.a.dtype=int8: has no effect on"),
        ("a={translations: long.en, model: a.nemo}", ["x"], "models.a.model=a.nemo: has no effect on"),
        ("a={translations: '*.en'}", ["x"], "models.a.translations=*.en: must be one file; it names 2."),
        ("a={translations: 's*.en'}", ["x"], "models.a.translations, x: 'short.en' has 1 lines and"),
        ("a={translations: 3}", ["x"], "models.a.translations=3: must be "),
        ("a={model: none.nemo, unescape_html: true}", ["x"], "models.a.unescape_html=true: has an effect only on"),
        ("a={model: none.nemo, preparation_seconds: -1}", ["x"], "models.a.preparation_seconds=-1: must be"),
    ],
)
def test_translations_that_do_not_fit_are_told_before_anything_starts(models, sets, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("long.de", "long.en"):
        (tmp_path / name).write_text("one\ntwo\n")
    (tmp_path / "short.en").write_text("one\n")
    named = [f"+test_sets.{name}={{source: long.de, reference: long.en}}" for name in sets]
    with pytest.raises(ConfigurationError) as raised:
        evaluation_job(config("output_dir=out", f"+models.{models}", *named))
    assert any(problem.startswith(sentence) for problem in raised.value.problems), raised.value.problems


def test_a_system_with_the_name_of_an_export_is_told(exported):
    _, overrides, _ = exported
    renamed = [override.replace("models.people", "models.raw_int8") for override in overrides]
    with pytest.raises(ConfigurationError, match="models.raw_int8 has the name that the export of models.raw gets"):
        evaluation_job(config(*renamed))


def test_sentences_of_the_training_text_are_counted(evaluated, tmp_path):
    """The folder is another one: the evaluation is without it in the other tests."""
    folder, overrides, record = evaluated
    assert "seen" not in record["test_sets"]["mine"]
    sources, references = (tmp_path / name for name in ("train.de", "train.en"))
    sources.write_text((folder / "test.de").read_text().splitlines()[0].upper() + "\n")
    references.write_text("something else\n")
    training = [f"failures.training_source=[{sources}]", f"failures.training_target=[{references}]"]
    again = evaluation_job(config(*overrides, f"output_dir={tmp_path / 'out'}", *training)).run()
    assert again["test_sets"]["mine"]["seen"] == {"sources": 1, "references": 0}
    said = "ignoring case, punctuation and spaces: mine sources 1 of 24, mine references 0 of 24."
    assert said in as_markdown(again)
