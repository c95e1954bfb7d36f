import math
import random

import numpy as np
import pytest

from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.explanation import (
    EXPORT,
    SERVED,
    STUDENT,
    TEACHER,
    WIDE,
    Explanation,
    forced_record,
    seeds_record,
)
from nemo_distill.evaluation.explanation_tables import explanation_as_markdown, what_to_change
from nemo_distill.evaluation.training_view import TrainingView
from nemo_distill.failures.profile import TranslatedSet

WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()
SETTINGS = {"metric": "BLEU", "labels": None}


def sentences(count, seed):
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(6, 12))) for _ in range(count)]


def worse(lines, every, seed=0):
    """The lines, with a word replaced in every n-th of them."""
    changed = [line.split() for line in lines]
    for words in changed[seed::every]:
        words[len(words) // 2] = "wrong"
    return [" ".join(words) for words in changed]


REFERENCES, LABELS = sentences(240, 1), sentences(240, 2)
SOURCES = [line.upper() for line in REFERENCES]
VIEW = TrainingView(5000, frozenset(), dict.fromkeys(WORDS, 100), [line.upper() for line in LABELS], LABELS)


def explanation(systems, sample, view=VIEW, references=REFERENCES, sources=SOURCES, **settings):
    test = TranslatedSet(sources, references, systems)
    labels = TranslatedSet(LABELS, LABELS, sample)
    return Explanation(test, labels, view, 10, "BLEU", None, **settings)


def test_the_five_parts_add_up_to_the_difference_between_the_served_student_and_the_teacher():
    systems = {
        TEACHER: worse(REFERENCES, 20), WIDE: worse(REFERENCES, 8), STUDENT: worse(REFERENCES, 6),
        EXPORT: worse(REFERENCES, 5), SERVED: worse(REFERENCES, 3),
    }  # fmt: skip
    one = explanation(systems, {TEACHER: worse(LABELS, 20), STUDENT: worse(LABELS, 8)}, labels_of="text")
    record = one.record()
    assert list(record["parts"]) == ["shortlist", "quantization", "search", "capacity", "generalisation"]
    assert record["explained"] == SERVED
    assert sum(part["value"] for part in record["parts"].values()) == pytest.approx(record["gap"]["value"])
    scores = {name: score["value"] for name, score in record["scores"].items()}
    assert record["gap"]["value"] == pytest.approx(scores[SERVED] - scores[TEACHER])
    assert record["parts"]["quantization"]["value"] == pytest.approx(scores[EXPORT] - scores[STUDENT])
    assert all(part["low"] <= part["value"] <= part["high"] for part in record["parts"].values())


@pytest.mark.parametrize(("on_labels", "larger"), [(LABELS, "generalisation"), (worse(LABELS, 2), "capacity")])
def test_a_gap_that_is_there_on_training_labels_is_capacity_and_another_one_generalisation(on_labels, larger):
    systems = {TEACHER: REFERENCES, WIDE: worse(REFERENCES, 3), STUDENT: worse(REFERENCES, 3)}
    record = explanation(systems, {TEACHER: LABELS, STUDENT: on_labels}, labels_of="text").record()
    gap, parts = record["gap"]["value"], record["parts"]
    assert parts[larger]["value"] == pytest.approx(gap) and gap < 0
    assert parts[({"capacity", "generalisation"} - {larger}).pop()]["value"] == pytest.approx(0)


@pytest.mark.parametrize(("teacher", "found"), [(worse(LABELS, 30), "teacher"), (worse(LABELS, 1), "text")])
def test_labels_that_the_teacher_repeats_are_its_own(teacher, found):
    """Then the student is compared with the teacher's translations on both sides."""
    systems = {name: worse(REFERENCES, 4) for name in (TEACHER, WIDE)} | {STUDENT: worse(REFERENCES, 3)}
    record = explanation(systems, {TEACHER: teacher, STUDENT: teacher}).record()
    assert record["sample"]["labels_of"] == found
    assert record["sample"]["gap"]["value"] == 0.0
    assert (record["sample"]["test_gap"]["value"] < record["gap"]["value"]) == (found == "teacher")


def test_the_place_of_the_gap_is_found_by_distance_length_and_rare_words():
    """The student fails where the source is unlike the training text; these sentences are as long as the others."""
    references = [f"{line} {'never' if number % 2 else 'known'}" for number, line in enumerate(REFERENCES)]
    sources = [line.upper() for line in references]
    near = TrainingView(
        5000,
        frozenset(run for line in sources[::2] for run in runs(line)),
        {**VIEW.counts, "known": 50},
        LABELS,
        LABELS,
    )
    student = worse(references, 2, seed=1)
    systems = {TEACHER: references, WIDE: student, STUDENT: student}
    record = explanation(systems, {TEACHER: LABELS, STUDENT: LABELS}, near, references, sources).record()
    for place, easy, hard in (
        ("far", "near to the training text", "far from the training text"),
        ("rare", "without rare words", "with rare words"),
    ):
        one = record["places"][place]
        assert one["gaps"][easy]["value"] == 0 and one["gaps"][hard]["high"] < 0
        assert one["part"]["value"] == pytest.approx(record["gap"]["value"]) and one["part"]["high"] < 0
    assert record["places"]["long"]["part"]["low"] > 0  # a wrong word is a smaller part of a long sentence


def runs(line):
    words = line.casefold().split()
    return [" ".join(words[start : start + 3]) for start in range(len(words) - 2)]


def test_sentences_that_share_nothing_with_the_training_text_are_far_even_if_most_do_not():
    near = TrainingView(
        5000, frozenset(run for line in SOURCES[:60] for run in runs(line)), VIEW.counts, LABELS, LABELS
    )
    systems = {TEACHER: REFERENCES, WIDE: REFERENCES, STUDENT: REFERENCES}
    sources = [*SOURCES[:60], *(f"{number} {number} {number}" for number in range(180))]
    places = explanation(systems, {TEACHER: LABELS, STUDENT: LABELS}, near, sources=sources).record()["places"]
    assert places["far"]["sentences"] == {"near to the training text": 60, "far from the training text": 180}


def test_groups_of_few_sentences_are_not_scored():
    systems = {TEACHER: REFERENCES, WIDE: REFERENCES, STUDENT: REFERENCES}
    places = explanation(systems, {TEACHER: LABELS, STUDENT: LABELS}).record()["places"]
    assert places["rare"] == {"sentences": {"without rare words": 240, "with rare words": 0}}
    assert "part" not in places["far"] and "part" in places["long"]


def test_recall_is_counted_by_how_often_a_word_is_in_the_training_targets():
    references = ["rare common common", "common new"]
    systems = {TEACHER: ["rare common common", "common"], WIDE: references, STUDENT: ["common Common.", "common new"]}
    view = TrainingView(10, frozenset(), {"rare": 3, "common": 99}, LABELS, LABELS)
    one = explanation(systems, {TEACHER: LABELS, STUDENT: LABELS}, view, references, references)
    found = [(row["from"], row["below"], row["words"], row[STUDENT], row[TEACHER]) for row in one.record()["recall"]]
    assert found == [(0, 1, 1, 100.0, 0.0), (1, 10, 1, 0.0, 100.0), (10, 100, 3, 100.0, 100.0)]


def test_a_search_error_is_a_translation_of_the_teacher_with_a_better_score_than_the_students_own():
    own = np.array([[-4.0, 4], [-4.0, 4], [-4.0, 4]])
    teachers = np.array([[-3.0, 4], [-4.0, 4], [-5.0, 9]])
    losses = {key: {STUDENT: own, TEACHER: teachers} for key in ("labels", "test")}
    found = forced_record(own, teachers, losses, SearchSettings(length_penalty=0.0))
    assert found["search_errors"]["lines"] == [1] and found["search_errors"]["sentences"] == 3
    assert found["losses"]["labels"][STUDENT]["value"] == pytest.approx(1.0)
    assert found["losses"]["test"]["difference"]["value"] == pytest.approx(1.0 - 12 / 17)
    by_length = forced_record(own, teachers, losses, SearchSettings(length_penalty=1.0, length_penalty_form="power"))
    assert by_length["search_errors"]["lines"] == [1, 3]


def test_the_spread_of_seeds_has_students_interval():
    found = seeds_record({"student": 10.0, "student2": 12.0}, 15.0)
    assert found["gap"]["value"] == -4.0 and found["standard_deviation"] == pytest.approx(math.sqrt(2))
    assert found["gap"]["high"] - found["gap"]["value"] == pytest.approx(12.706, abs=1e-3)  # t of one degree


def record_with(parts, gap):
    estimate = dict(zip(("value", "low", "high"), gap))
    return {
        "settings": {"settings": SETTINGS}, "test_set": {"sentences": 100}, "explained": STUDENT, "gap": estimate,
        "scores": {STUDENT: {"value": 30.0}, TEACHER: {"value": 35.0}},
        "parts": {name: dict(zip(("value", "low", "high"), part)) for name, part in parts.items()},
        "places": {"far": {"sentences": {"near": 50, "far": 50}, "part": {"value": -2.0, "low": -3.0, "high": -1.0}, "gaps": {"near": estimate, "far": estimate}}},
    }  # fmt: skip


def test_what_costs_most_is_to_be_changed_first_and_what_may_be_chance_is_told():
    parts = {"search": (-0.5, -0.9, -0.1), "capacity": (-4.5, -6.0, -3.0), "generalisation": (-0.2, -1.0, 0.6)}
    said = list(what_to_change(record_with(parts, (-5.0, -6.0, -4.0))))
    assert [sentence.partition(",")[0] for sentence in said[1:4]] == ["First", "Then", "Then"]
    assert "capacity" in said[1] and "far from" in said[2] and "search, -0.50 (-0.90 to -0.10) BLEU" in said[3]
    assert said[4].startswith("Too thin") and "generalisation -0.20 (-1.00 to +0.60)" in said[4]


def test_a_gap_that_may_be_chance_is_not_explained():
    said = list(what_to_change(record_with({"capacity": (-4.5, -6.0, -3.0)}, (-1.0, -2.5, 0.5))))
    assert len(said) == 2 and "too thin" in said[1]


def test_the_page_shows_all_parts_and_what_was_not_measured():
    systems = {TEACHER: REFERENCES, WIDE: worse(REFERENCES, 3), STUDENT: worse(REFERENCES, 3)}
    one = explanation(systems, {TEACHER: LABELS, STUDENT: worse(LABELS, 5)})
    scores = np.array([[-4.0, 4]] * 240)
    losses = {key: {STUDENT: scores} for key in ("labels", "test")}
    record = {
        **one.record(), **forced_record(scores, scores, losses, SearchSettings()),
        "settings": {"settings": SETTINGS}, "test_set": {"sentences": 120}, "signature": "nrefs:1", "seeds": None,
        "steps": {"problem": "2 amounts were measured"}, "notes": ["Quantization is not measured: export=null."],
    }  # fmt: skip
    page = explanation_as_markdown(record)
    for text in (
        "| search | +0.00 (+0.00 to +0.00) |",
        "| with rare words | 0 | – |",
        "loss of the student",
        "nrefs:1",
        "export=null",
        "2 amounts",
    ):
        assert text in page
    assert "loss of the teacher" not in page and "Seeds" not in page
