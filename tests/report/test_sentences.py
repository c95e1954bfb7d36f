from dataclasses import replace

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from nemo_distill.config.errors import DataError
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.sentences import reader_data, tokenization
from tests.report.fakes import REFERENCE, SOURCE, TRANSLATIONS, write_evaluation


def test_every_systems_sentences_have_sacrebleus_scores(evaluation_folder):
    data = reader_data(Evaluation.read(evaluation_folder), most=3)
    part = data["sets"]["flickr"]
    assert (data["teacher"], part["source"], part["reference"]) == ("teacher", SOURCE, REFERENCE)
    student = part["systems"]["student_seed0"]
    assert student["text"] == TRANSLATIONS["student_seed0"]
    assert student["BLEU"] == [
        round(sentence_bleu(line, [reference], use_effective_order=True).score, 1)
        for line, reference in zip(student["text"], REFERENCE)
    ]
    assert student["chrF"][1] == round(sentence_chrf(student["text"][1], [REFERENCE[1]]).score, 1)


def test_sentences_are_kept_on_which_some_student_falls_furthest_behind(evaluation_folder):
    uncounted = replace(Evaluation.read(evaluation_folder), failures={})
    data = reader_data(uncounted, most=1)["sets"]["flickr"]
    assert data["numbers"] == [2, 3]  # the baseline's worst, and both students'
    assert [len(column) for column in data["systems"]["baseline"].values()] == [2, 2, 2, 0]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [("nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp", "zh"), ("", "13a"), (None, "13a")],
)
def test_sentences_are_tokenized_as_the_corpus_was(signature, expected):
    assert tokenization({"BLEU": {"value": 1.0, "signature": signature}}) == expected


def test_a_text_that_does_not_fit_its_test_set_is_told(tmp_path):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    text = tmp_path / "texts" / "flickr.baseline.txt"
    text.write_text("one line\n")
    with pytest.raises(DataError, match=r"flickr\.baseline\.txt' has 1 lines; evaluation\.json says 3"):
        reader_data(evaluation, most=3)
    text.unlink()
    with pytest.raises(DataError, match=r"no file '.*flickr\.baseline\.txt'"):
        reader_data(evaluation, most=3)


def test_sentences_with_a_failure_are_kept_with_its_evidence(evaluation_folder):
    data = reader_data(Evaluation.read(evaluation_folder), most=1)
    part = data["sets"]["flickr"]
    assert part["numbers"] == [1, 2, 3]  # the first one only for the baseline's tags
    assert part["systems"]["baseline"]["failures"] == {
        "tags": {"total": 1, "found": {0: ["+</script>", "+<script>"]}},
        "made_up_words": {"total": 1, "found": {0: ["script", "alert"]}},
    }
    assert part["systems"]["student_seed0"]["failures"] == {"made_up_words": {"total": 1, "found": {2: ["rains"]}}}
    assert data["kinds"]["tags"] == "tags, placeholders changed"


def test_of_many_failures_the_first_are_kept_and_all_are_counted(tmp_path):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    loops = evaluation.failures["flickr"]["kinds"]["loops"]
    loops["systems"]["baseline"]["hits"] = [{"line": line, "found": ["x"]} for line in (1, 2, 3)]
    evaluation.failures["flickr"]["kinds"] = {"loops": loops}
    evaluation.test_sets["flickr"]["scores"] = {
        name: score for name, score in evaluation.test_sets["flickr"]["scores"].items() if "seed" not in name
    }
    part = reader_data(evaluation, most=1)["sets"]["flickr"]
    assert part["numbers"] == [1, 2]  # the first failure, and the largest loss
    assert part["systems"]["baseline"]["failures"] == {"loops": {"total": 3, "found": {0: ["x"], 1: ["x"]}}}
