import gzip
import json
from dataclasses import replace
from math import comb

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.evaluation.failure_report import failure_findings, failure_table
from nemo_distill.failures.kinds import KINDS, TITLES
from nemo_distill.failures.profile import TranslatedSet, holm, mcnemar, profile, wilson
from nemo_distill.failures.robustness import NOISES, noised
from nemo_distill.failures.settings import KIND_NAMES, FailureSettings

LINES = 30
SOURCES = [
    f"Der Vertrag wurde im Jahr {2000 + line} nicht unterschrieben, sagte der Sprecher" for line in range(LINES)
]
REFERENCES = [f"The contract was not signed in {2000 + line}, the spokesman said." for line in range(LINES)]
BAD = [line.replace("in 20", "in 19") if number < 10 else line for number, line in enumerate(REFERENCES)]
SETTINGS = FailureSettings()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    one = TranslatedSet(SOURCES, REFERENCES, {"good": REFERENCES, "bad": BAD})
    return profile({"test": one}, SETTINGS, tmp_path_factory.mktemp("failures"))["test"]


def test_every_kind_has_a_title():
    assert tuple(TITLES) == KIND_NAMES
    assert {*KINDS, *NOISES} == {*KIND_NAMES}


def test_languages_are_found_in_the_text(found):
    assert found["languages"] == {"source": "de", "target": "en"}


def test_a_line_in_another_language_is_not_taken_for_the_set(tmp_path):
    one = TranslatedSet(["The weather is fine today.", *SOURCES], ["Yes.", *REFERENCES], {"a": ["Yes.", *REFERENCES]})
    found = profile({"test": one}, replace(SETTINGS, kinds=["numbers"]), tmp_path)
    assert found["test"]["languages"] == {"source": "de", "target": "en"}


def test_hits_have_the_number_of_the_sentence_and_evidence(found):
    numbers = found["kinds"]["numbers"]["systems"]
    assert numbers["good"]["hits"] == []
    assert numbers["bad"]["hits"][0] == {"line": 1, "found": ["2000", "+1900"]}
    assert [hit["line"] for hit in numbers["bad"]["hits"]] == [*range(1, 11)]
    assert numbers["bad"]["rate"]["per_thousand"] == pytest.approx(1000 / 3)


def test_systems_are_compared_with_the_first_one_sentence_by_sentence(found):
    (compared,) = [one for one in found["comparisons"] if one["kind"] == "numbers"]
    assert (compared["system"], compared["baseline"]) == ("bad", "good")
    assert (compared["only_system"], compared["only_baseline"]) == ([*range(1, 11)], [])
    assert compared["p_value"] == pytest.approx(2 / 2**10)
    applicable = len(found["comparisons"])
    assert compared["p_value_holm"] == pytest.approx(applicable * 2 / 2**10)


def test_a_sentence_fails_only_if_it_does_by_each_of_its_references(tmp_path):
    other = [*BAD[:5], *[""] * 5, *REFERENCES[10:]]  # an empty line is no reference
    lost = [line.replace(f" in 20{number:02}", "") if number < 10 else line for number, line in enumerate(REFERENCES)]
    one = TranslatedSet(SOURCES, REFERENCES, {"bad": BAD, "lost": lost}, more_references=[other])
    kinds = profile({"test": one}, replace(SETTINGS, kinds=["numbers"]), tmp_path)["test"]["kinds"]
    for system in ("bad", "lost"):
        assert [hit["line"] for hit in kinds["numbers"]["systems"][system]["hits"]] == [*range(6, 11)]


def test_a_kind_that_does_not_apply_says_why_and_has_no_rate(found):
    assert found["kinds"]["made_up_words"] == {"not_applicable": "needs training_target"}
    assert set(found["kinds"]["typing_error"]) == {"not_applicable"}


def test_the_table_shows_rates_intervals_and_what_differs(found):
    columns, rows = failure_table(found)
    cells = {row[0]: row[1:] for row in rows}
    assert columns == ["failures", "good", "bad"]
    assert cells["numbers lost or changed"] == ["0.0 (0.0 to 113.5)", "333.3 (192.3 to 512.2) *"]
    assert cells["made-up words"] == ["not applicable"] * 2
    said = " ".join(failure_findings(found))
    assert (
        "only bad in 10 sentences (1, 2, 3" in said and "Not applicable: made-up words (needs training_target)" in said
    )


def test_the_record_is_json(found):
    assert json.loads(json.dumps(found)) == found


def test_rules_of_a_language_do_not_apply_to_another(tmp_path):
    one = TranslatedSet(["Bonjour."], ["Hello."], {"a": ["Hello."]})
    settings = replace(SETTINGS, source_language="fr", target_language="eng_Latn")
    kinds = profile({"test": one}, settings, tmp_path)["test"]["kinds"]
    assert kinds["negation"] == {"not_applicable": "only for de and en, not for fr-en"}
    assert kinds["dates"] == {"not_applicable": "only for de and en, not for fr-en"}
    assert kinds["wrong_language"]["systems"]["a"] == {"judged": 0, "rate": None, "hits": []}  # too short a line


def test_a_language_that_is_not_known_makes_no_verdict(tmp_path):
    one = TranslatedSet(["a"], ["b"], {"a": ["b"]})
    kinds = profile({"test": one}, replace(SETTINGS, target_language="xx"), tmp_path)["test"]["kinds"]
    assert kinds["wrong_language"] == {"not_applicable": "py3langid does not know xx"}


def test_noised_copies_are_compared_where_the_noise_changed_the_source(tmp_path):
    changed = noised(SOURCES, "full_stop", 0)
    sources = [*SOURCES[:-1], changed[-1]]  # the last line ends already
    noisy = ["Something else entirely.", *REFERENCES[1:]]
    one = TranslatedSet(sources, REFERENCES, {"a": REFERENCES}, {"full_stop": {"a": noisy}})
    kinds = profile({"test": one}, replace(SETTINGS, kinds=["full_stop", "lower_case"]), tmp_path)["test"]["kinds"]
    system = kinds["full_stop"]["systems"]["a"]
    assert system["judged"] == LINES - 1
    assert [hit["line"] for hit in system["hits"]] == [1]
    assert system["rate"]["per_thousand"] == pytest.approx(1000 / (LINES - 1))
    assert "not_applicable" in kinds["lower_case"]


def test_a_system_that_was_not_judged_under_noise_is_not_compared(tmp_path):
    noisy = ["Something else entirely."] * LINES
    one = TranslatedSet(SOURCES, REFERENCES, {"a": REFERENCES, "text": REFERENCES}, {"full_stop": {"a": noisy}})
    found = profile({"test": one}, replace(SETTINGS, kinds=["full_stop", "numbers"]), tmp_path)["test"]
    assert len(found["kinds"]["full_stop"]["systems"]["a"]["hits"]) == LINES
    assert [comparison["kind"] for comparison in found["comparisons"]] == ["numbers"]


def test_a_sentence_without_a_verdict_for_one_system_is_left_out_of_the_comparison(tmp_path):
    english = "this is a rather long sentence that says nothing at all about any name"
    german = "das hier ist ein ziemlich langer satz, der gar nichts weiter zu sagen hat"
    one = TranslatedSet([german] * 3, [english] * 3, {"a": [german] * 3, "b": ["too short", english, german]})
    settings = replace(SETTINGS, kinds=["wrong_language"], source_language="de", target_language="en")
    (compared,) = profile({"test": one}, settings, tmp_path)["test"]["comparisons"]
    assert (compared["only_system"], compared["only_baseline"]) == ([], [2])  # both fail the third


def test_all_sets_are_looked_for_in_the_training_text_at_once(tmp_path):
    (tmp_path / "train.de").write_text("Der Vertrag\n")
    (tmp_path / "train.en").write_text("contract signed spokesman said the was not\n")
    made_up = [f"{line} Stiffending" for line in REFERENCES]
    sets = {
        "one": TranslatedSet(SOURCES, REFERENCES, {"a": made_up}),
        "two": TranslatedSet(SOURCES, REFERENCES, {"a": REFERENCES}),
    }
    settings = replace(
        SETTINGS, training_source=[str(tmp_path / "train.d*")], training_target=[str(tmp_path / "train.en")]
    )
    found = profile(sets, settings, tmp_path / "failures")
    hits = {name: one["kinds"]["made_up_words"]["systems"]["a"]["hits"] for name, one in found.items()}
    assert len(hits["one"]) == LINES and hits["two"] == []
    assert (tmp_path / "failures" / "training_text.json").is_file()


def test_wrong_settings_are_refused_together():
    _, problems = read_section(
        FailureSettings, {"kinds": ["number"], "longest": 0.5, "training_target": ["none.en"]}, "failures"
    )
    said = " ".join(problems)
    assert len(problems) == 3
    assert "failures.kinds[0]=number" in said and "failures.longest=0.5" in said and "none.en" in said


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kinds": ["loops"], "noise": ["full_stop"]}, "f.noise names full_stop"),
        ({"training_source": [__file__]}, "f.training_source"),
        ({"target_language": "german"}, "f.target_language=german"),
        ({"word_lists": [__file__]}, "f.word_lists"),
    ],
)
def test_settings_that_are_none_or_without_effect_are_refused(values, named):
    _, (problem,) = read_section(FailureSettings, values, "f")
    assert problem.startswith(named)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"training_target": ["{folder}/f*"]}, "f.training_target names '{folder}/folder', which is a folder"),
        ({"training_target": ["{folder}/table"]}, "f.training_target names '{folder}/table', which is a table"),
        ({"training_target": ["{folder}/table.gz"]}, "f.training_target names a damaged file"),
        (
            {"training_target": ["{folder}/text"], "word_lists": ["{folder}/utf16", "{folder}/table"]},
            "f.word_lists names '{folder}/utf16', which is UTF-16",
        ),
    ],
)
def test_files_that_are_no_text_are_refused_before_anything_is_translated(tmp_path, values, sentence):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("a dog\n")
    (tmp_path / "table").write_text("dog\t3\n" * 20)
    (tmp_path / "table.gz").write_bytes(gzip.compress(b"a dog\n" * 20)[:-9])
    (tmp_path / "utf16").write_bytes("dog\n".encode("utf-16"))
    values = {key: [name.format(folder=tmp_path) for name in names] for key, names in values.items()}
    _, (problem,) = read_section(FailureSettings, values, "f")
    assert problem.startswith(sentence.format(folder=tmp_path))


@pytest.mark.parametrize("part", ["references", "translations", "noised"])
def test_texts_of_different_lengths_are_refused(part):
    texts = {"references": ["b"], "translations": {"mine": ["b"]}, "noised": {"full_stop": {"mine": ["b"]}}}
    texts[part] = {"references": [], "translations": {"mine": ["b", "c"]}, "noised": {"full_stop": {"mine": []}}}[part]
    with pytest.raises(DataError, match="lines, but the source has 1"):
        TranslatedSet(["a"], **texts)


def test_wilsons_interval_of_a_textbook():
    rate = wilson(2, 10)  # Brown, Cai & DasGupta 2001: 0.0567 to 0.5098
    assert (rate.per_thousand, round(rate.low, 1), round(rate.high, 1)) == (200, 56.7, 509.8)


def test_no_hit_leaves_a_rate_above_zero_possible():
    assert wilson(0, 3000).low == 0 and 1 < wilson(0, 3000).high < 2


def test_mcnemar_is_the_binomial_of_the_sentences_that_only_one_fails():
    mine, theirs = {1, 2, 3, 4, 5, 6, 20}, {7, 20}
    both_tails = 2 * sum(comb(7, hits) for hits in (6, 7)) / 2**7
    assert mcnemar(mine, theirs) == pytest.approx(both_tails)
    assert mcnemar(theirs, mine) == pytest.approx(both_tails)
    assert mcnemar({1, 2}, {1, 2}) == 1


def test_holm_multiplies_by_the_number_of_tests_that_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
