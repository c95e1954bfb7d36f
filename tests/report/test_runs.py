import json
import math

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.report.runs import Run, find_runs, read_curves
from tests.report.fakes import write_run


def test_runs_are_found_with_their_records_and_curves_in_the_order_of_numbers(sweep_folder):
    runs = find_runs(sweep_folder, ["val_sacreBLEU", "unknown"])
    assert [run.name for run in runs][:3] == [
        "model.distillation.temperature=1,student=slim",
        "model.distillation.temperature=1,student=wide",
        "model.distillation.temperature=2,student=slim",
    ]
    assert runs[2].curves == {"val_sacreBLEU": [(10, 28.0), (20, 27.0)]}
    assert runs[2].best("val_sacreBLEU") == 28.0
    assert runs[2].overrides == {"student": "slim", "model.distillation.temperature": "2"}
    failed = next(run for run in runs if run.record["status"] == "failed")
    assert failed.curves == {} and failed.best("val_sacreBLEU") is None


def test_an_attempt_that_nemo_has_moved_away_is_no_run_and_a_run_without_a_record_is_one(tmp_path):
    write_run(tmp_path / "mine", [], [1.0])
    attempt = tmp_path / "mine" / "run_0"
    attempt.mkdir()
    (attempt / "run.json").write_text("{}")
    write_run(tmp_path / "old", [], [2.0])
    (tmp_path / "old" / "run.json").unlink()
    runs = find_runs(tmp_path, ["val_sacreBLEU"])
    assert [(run.name, bool(run.record), run.best("val_sacreBLEU")) for run in runs] == [
        ("mine", True, 1.0),
        ("old", False, 2.0),
    ]
    assert [run.name for run in find_runs(tmp_path / "mine", [])] == ["mine"]


def test_a_step_that_was_done_again_counts_once(tmp_path):
    write_run(tmp_path / "run", [], [1.0, 2.0])
    (tmp_path / "run" / "run.json").unlink()
    (events,) = (tmp_path / "run").glob("events*")
    events.rename(events.with_name("events.out.tfevents.0000000001.first"))
    write_run(tmp_path / "again", [], [1.0, 5.0])
    (again,) = (tmp_path / "again").glob("events*")
    again.rename(tmp_path / "run" / "events.out.tfevents.0000000002.second")
    assert read_curves(tmp_path / "run", ["val_sacreBLEU"]) == {"val_sacreBLEU": [(10, 1.0), (20, 5.0)]}


def test_a_broken_record_is_told_with_its_name(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json"):
        find_runs(tmp_path, [])
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished"}))
    assert find_runs(tmp_path, [])[0].record == {"status": "finished"}


@pytest.mark.parametrize("tag", ["val_loss", "val_TER", "val_ppl", "TER", "val_perplexity"])
def test_the_best_of_what_should_be_low_is_the_lowest(tag):
    assert Run("a", {}, {tag: [(1, 2.0), (2, 3.0)]}).best(tag) == 2.0


@pytest.mark.parametrize("values", [(math.nan, 2.0, 3.0), (3.0, math.nan), (math.inf, 3.0)])
def test_a_value_that_is_no_number_is_never_the_best(values):
    run = Run("a", {}, {"val_BLEU_after": list(enumerate(values)), "none": [(1, math.nan)]})
    assert run.best("val_BLEU_after") == 3.0 and run.best("none") is None
