import json

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.report.evaluation import Evaluation
from tests.report.fakes import write_evaluation


def test_an_evaluation_without_failures_has_none(tmp_path):
    folder = write_evaluation(tmp_path)
    assert list(Evaluation.read(folder).failures["flickr"]["kinds"]) == [
        "tags",
        "made_up_words",
        "loops",
        "untranslated",
    ]
    (folder / "failures.json").unlink()
    assert Evaluation.read(folder).failures == {}


def test_failures_of_other_translations_are_refused(tmp_path):
    folder = write_evaluation(tmp_path)
    (folder / "texts" / "flickr.baseline.txt").write_text("A\nB\nC\n")
    with pytest.raises(DataError, match=r"failures\.json' .*flickr\.baseline\.txt'.*evaluate again"):
        Evaluation.read(folder)


def test_failures_that_lack_a_system_are_refused_and_damaged_ones_named(tmp_path):
    folder = write_evaluation(tmp_path)
    record = json.loads((folder / "failures.json").read_text())
    record["settings"]["texts"] = [one for one in record["settings"]["texts"] if "seed1" not in one["name"]]
    (folder / "failures.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"flickr\.student_seed1\.txt"):
        Evaluation.read(folder)
    record["test_sets"]["flickr"]["kinds"]["no_kind"] = {}
    (folder / "failures.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"failures\.json' cannot be read: .*no_kind"):
        Evaluation.read(folder)
