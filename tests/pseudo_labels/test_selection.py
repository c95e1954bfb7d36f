import math

import numpy as np
import pytest

from nemo_distill.config.section import read_section
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.pseudo_labels.selection import Candidate, Selection, best, consensus, weights
from nemo_distill.pseudo_labels.shards import Row
from tests.pseudo_labels.fakes import criteria_of, only


def candidate(texts, reference=None, qualities=None):
    hypotheses = tuple(Hypothesis(text, -float(rank)) for rank, text in enumerate(texts))
    return Candidate("", [Row(1, "", hypotheses)], reference, qualities)


def chosen(texts, reference=None, qualities=None, **criteria):
    return best(candidate(texts, reference, qualities), criteria_of(only(), **criteria))


# The hypotheses, the reference, the index of the nearest.
NEAREST = [
    (["the dog sees the man", "a dog sees a man", "the cat"], "a dog sees a man", 1),
    (["the cat sat on a mat", "the cat sat on the mat today", "cat"], "the cat sat on the mat", 1),
    (["same", "same", "same"], "same", 0),
    (["nothing in common", "also nothing"], "xyz", 0),
    (["", "dog"], "dog", 1),
    ([""], "dog", 0),
    (["first", "second"], None, 0),
]


@pytest.mark.parametrize("metric", ["bleu", "chrf", "bleu+chrf"])
@pytest.mark.parametrize(("texts", "reference", "index"), NEAREST)
def test_interpolation_takes_the_nearest_and_of_equals_the_first(texts, reference, index, metric):
    assert chosen(texts, reference, selection="interpolation", metric=metric) == [index]


def test_chrf_sees_words_that_differ_by_their_ending():
    texts, reference = ["walk the house", "he walked to the houses"], "he walks the house"
    assert chosen(texts, reference, selection="interpolation", metric="bleu") == [0]
    assert chosen(texts, reference, selection="interpolation", metric="chrf") == [1]


def test_minimum_bayes_risk_takes_what_is_nearest_to_all_others():
    texts = ["the cat is on a roof", "the dog sees the man", "a dog sees the man", "the dog sees a man", "dogs"]
    assert chosen(texts, selection="mbr", metric="chrf") == [1]
    # By hand: the mean of what sacrebleu gives for each of the other four.
    from sacrebleu.metrics import CHRF

    others = [CHRF().sentence_score(texts[1], [text]).score for index, text in enumerate(texts) if index != 1]
    assert consensus(candidate(texts), criteria_of(only(), metric="chrf"))[1] == pytest.approx(np.mean(others))


def test_what_was_sampled_often_counts_as_often():
    texts = ["aaaa bbbb", "aaaa cccc", "dddd eeee", "dddd eeee", "dddd eeee"]
    assert chosen(texts[:4], selection="mbr", metric="chrf") == [2]
    assert chosen(texts[:3], selection="mbr", metric="chrf") == [0]


def test_a_hypothesis_alone_is_chosen_without_others():
    assert chosen(["alone"], selection="mbr") == [0]
    assert consensus(candidate(["alone"]), criteria_of(only())).tolist() == [0.0]


def test_quality_takes_the_highest_score_or_the_teachers_where_no_others_are_given():
    assert chosen(["a", "b", "c"], qualities=[0.1, 0.3, 0.3], selection="quality") == [1]
    assert chosen(["a", "b", "c"], selection="quality") == [0]


def test_several_labels_of_a_line_differ_by_more_than_case_and_punctuation():
    texts = ["The dog.", "the dog", "THE DOG !", "a dog", "...", "…", "A\u00a0dog"]
    assert chosen(texts, labels_per_source=4) == [0, 3, 4]
    assert chosen(texts, qualities=[0, 1, 2, 3, 4, 5, 6], selection="quality", labels_per_source=2) == [6, 5]
    assert chosen(["का", "का.", "कि"], labels_per_source=3) == [0, 2]  # vowels are marks


def test_weights_are_the_teachers_probabilities_or_ranks():
    line = candidate(["a", "b", "c"])  # of the scores 0, -1, -2
    expected = [1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1))]
    assert weights(line, [0, 1], "probability") == pytest.approx(expected)
    assert weights(line, [2, 0, 1], "rank") == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    assert weights(line, [2], None) == [1.0]


@pytest.mark.parametrize(
    ("criteria", "filters", "names"),
    [
        ({"selection": "one_best"}, {}, []),
        ({"selection": "mbr", "metric": "chrf+bleu"}, {}, ["BLEU", "chrF"]),
        ({"selection": "interpolation", "metric": "bleu"}, {}, ["BLEU"]),
        ({"selection": "quality", "quality": "COMET"}, {}, ["COMET"]),
        ({"selection": "one_best", "quality": "COMET", "metric": "chrf"}, {}, []),
        ({"quality": "COMET", "metric": "chrf"}, {"quality_quantile": 0.1, "consensus_quantile": 0.1}, ["COMET", "chrF"]),
    ],
)  # fmt: skip
def test_the_metrics_that_had_a_say_are_named(criteria, filters, names):
    assert criteria_of(only(**filters), **criteria).selected_by == names


@pytest.mark.parametrize("metric", ["ter", {}, {"ter": 1}, {"bleu": 0}, None])
def test_other_metrics_are_refused(metric):
    _, problems = read_section(Selection, {"metric": metric}, "")
    allowed = "one of bleu, chrf, or the weight of each, as {bleu: 0.5, chrf: 0.5}"
    assert len(problems) == 1 and problems[0].startswith("metric") and (
        allowed in problems[0] or isinstance(metric, dict)
    )  # fmt: skip
