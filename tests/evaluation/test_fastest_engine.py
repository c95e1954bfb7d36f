"""`engine=auto`: the fastest engine that is faithful, and what was chosen is kept."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.decoding.engines import ModelSection
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation import fastest_engine
from nemo_distill.evaluation.fastest_engine import EngineRequest, choose_engine, probed_lines
from nemo_distill.storage.records import read_json
from tests.conftest import reversing_sentences
from tests.decoding.test_asked_languages import TASKS, write_t5
from tests.hugging_face_folders import write_folder

NO_PENALTY = SearchSettings(length_penalty=0.0)
LINES = [f"line {number}" for number in range(50)]
REFERENCE = ("nemo_distill", "float32")


class Engine:
    """Changes some lines, and takes some seconds a line by a clock of its own."""

    model, decoder = SimpleNamespace(multilingual=True), None

    def __init__(self, clock, seconds, changed):
        self.clock, self.seconds, self.changed = clock, seconds, changed

    def translate(self, lines, settings):
        self.clock.now += self.seconds * len(lines)
        texts = ("other" if number < self.changed else line for number, line in enumerate(lines))
        return [Translation((Hypothesis(text, 0.0),)) for text in texts]


@pytest.fixture
def request_for(monkeypatch, teacher_path):
    """Makes a request whose engines have given seconds a line and numbers of changed lines."""

    def make(engines, search=NO_PENALTY):
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(fastest_engine.time, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(EngineRequest, "candidates", lambda self: (list(engines), []))
        monkeypatch.setattr(EngineRequest, "load", lambda self, *name: Engine(clock, *engines[name]))
        return EngineRequest(ModelSection(model=str(teacher_path)), search, "cpu")

    return make


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ({("ctranslate2", "float32"): (0.5, 0), ("ctranslate2", "int8"): (0.1, 1)}, ("ctranslate2", "int8")),
        ({("ctranslate2", "float32"): (0.5, 0), ("ctranslate2", "int8"): (0.1, 2)}, ("ctranslate2", "float32")),
        ({("ctranslate2", "float32"): (2.0, 0), ("ctranslate2", "int8"): (0.1, 9)}, ("nemo_distill", None)),
    ],
)
def test_the_fastest_engine_with_the_same_words_is_taken(request_for, others, chosen):
    found = choose_engine(request_for({REFERENCE: (1.0, 0), **others}), LINES)
    assert (found["engine"], found["dtype"]) == chosen
    assert [one["lines_per_second"] for one in found["probed"]] == pytest.approx(
        [1 / seconds for seconds in (1.0, *(own for own, _ in others.values()))]
    )


def test_an_engine_whose_values_overflow_is_left_out(request_for, monkeypatch):
    request = request_for({REFERENCE: (1.0, 0), ("ctranslate2", "float16"): (0.1, 0)})
    load = EngineRequest.load

    def overflowing(self, engine, dtype):
        loaded = load(self, engine, dtype)
        if dtype == "float16":
            loaded.translate = lambda lines, settings: [Translation((Hypothesis("x", float("nan")),)) for _ in lines]
        return loaded

    monkeypatch.setattr(EngineRequest, "load", overflowing)
    found = choose_engine(request, LINES)
    assert (found["engine"], len(found["probed"])) == ("nemo_distill", 1)


def test_other_words_are_faithful_if_the_model_finds_them_as_probable(request_for, monkeypatch):
    request = request_for({REFERENCE: (1.0, 0), ("ctranslate2", "int8"): (0.1, 30)})
    for lost, engine in ((0.009, "ctranslate2"), (0.011, "nemo_distill"), (None, "nemo_distill")):
        monkeypatch.setattr(fastest_engine, "_lost", lambda *_, lost=lost: lost)
        assert choose_engine(request, LINES)["engine"] == engine


def test_the_models_own_probabilities_tell_good_words_from_bad_ones(trained_path):
    request = EngineRequest(ModelSection(model=str(trained_path)), NO_PENALTY, "cpu")
    engine, (sources, targets) = request.load(*REFERENCE), reversing_sentences(20, seed=9)
    scorer = fastest_engine._scorer(request, engine)
    assert fastest_engine._lost(scorer, sources, targets, targets) == 0
    assert fastest_engine._lost(scorer, sources, targets, targets[1:] + targets[:1]) > 1


def test_a_choice_is_kept_for_the_same_models_and_search_on_any_machine(trained_path, tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2")
    sources, _ = reversing_sentences(20, seed=9)
    request = EngineRequest(ModelSection(model=str(trained_path)), NO_PENALTY, "cpu")
    chosen = choose_engine(request, sources, tmp_path)
    names = [(one["engine"], one["dtype"]) for one in chosen["probed"]]
    assert names == [REFERENCE, ("ctranslate2", "float32"), ("ctranslate2", "int8")]
    assert chosen["probed"][1]["same"] >= 0.9 and chosen["made_with"]["device"].startswith("cpu")
    assert read_json(tmp_path / "engine.json") == chosen
    monkeypatch.setattr(fastest_engine, "load_engine", None)
    elsewhere = EngineRequest(ModelSection(model=str(trained_path)), NO_PENALTY, "cuda")
    assert choose_engine(elsewhere, sources, tmp_path) == chosen
    with pytest.raises(TypeError):  # another search is probed anew
        choose_engine(replace(request, search=replace(NO_PENALTY, beam_size=2)), sources, tmp_path)


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        (SearchSettings(), "length_penalty_form=wu"),
        (SearchSettings(method="sample"), "search.method=sample"),
    ],
)
def test_what_ctranslate2_cannot_do_leaves_it_out_and_is_said(search, reason, teacher_path):
    candidates, reasons = EngineRequest(ModelSection(model=str(teacher_path)), search, "cpu").candidates()
    assert candidates == [REFERENCE] and reason in reasons[0]


@pytest.mark.parametrize(("count", "last"), [(480, "470"), (95, "93"), (48, "47")])
def test_the_probed_lines_are_spread_over_the_text(count, last):
    lines = probed_lines([f"{number}".encode() for number in range(count)] + [b" "], "cpu")
    assert len(lines) == 48 and lines[0] == "0" and lines[-1] == last
    assert probed_lines([], "cuda") == []


@pytest.mark.parametrize(
    ("family", "languages"), [("marian", {}), ("t5", {"source_language": "en", "target_language": "de"})]
)
def test_of_a_hugging_face_folder_its_own_search_is_the_reference(family, languages, corpus, tmp_path):
    write = write_folder if family == "marian" else lambda _, path, __: write_t5(path, task_specific_params=TASKS)
    folder = write(family, tmp_path / family, corpus)
    search = SearchSettings(length_penalty=1.0, length_penalty_form="power", max_delta=3)
    request = EngineRequest(ModelSection(model=str(folder), **languages), search, "cpu")
    found = choose_engine(request, ["der Hund sieht rot", "Mann und Hund"])
    (reference, *others) = found["probed"]
    assert (reference["engine"], reference["dtype"], reference["lost"]) == ("hugging_face", "float32", 0.0)
    assert {one["engine"] for one in others} == {"ctranslate2"} and found["left_out"] == []
    assert others[0]["same"] == 1.0
    assert all((one["lost"] is None) == (family == "t5") for one in others)


def test_the_weights_of_a_folder_are_kept_once(corpus, tmp_path):
    folder = write_folder("marian", tmp_path / "marian", corpus)
    request = EngineRequest(ModelSection(model=str(folder)), SearchSettings(), "cpu")
    engine = request.load("hugging_face", "float32")
    assert fastest_engine._scorer(request, engine).model.model is engine.model
