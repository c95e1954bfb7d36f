"""CTranslate2 on Hugging Face's folders: the same translations and scores as Hugging Face's own search."""

import gc
import json
import shutil
import weakref

import pytest

from nemo_distill.config.errors import ConfigurationError, NotFiniteError
from nemo_distill.decoding import converted_engine
from nemo_distill.decoding.converted_engine import ConvertedEngine, convert_folder, is_converted
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.engines import engine_of, engine_problems, load_engine, model_languages, written_language
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.settings import SearchSettings
from tests.decoding.test_asked_languages import TASKS, write_t5
from tests.decoding.test_hugging_face_engine import LINES
from tests.hugging_face_folders import FAMILIES, write_folder

LONG = "der Hund sieht rot " * 9
SEARCHES = {
    "greedy": SearchSettings(beam_size=1, length_penalty=0.6, max_delta=5),
    "greedy_to_the_end": SearchSettings(beam_size=1, length_penalty=0.0, max_delta=None),
    "beam": SearchSettings(beam_size=4, n_best=4, length_penalty=0.0, max_delta=3),
    "beam_power": SearchSettings(beam_size=2, length_penalty=1.0, length_penalty_form="power", max_delta=3),
    "unknown": SearchSettings(beam_size=1, length_penalty=0.0, max_delta=5, allow_unknown=True),
}
LANGUAGES = FAMILIES | {"t5": ("en", "de"), "madlad": (None, "fr")}
CONVERTED = [family for family in LANGUAGES if family != "marian_of_two_vocabularies"]


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    parent = tmp_path_factory.mktemp("converted")
    found = {family: write_folder(family, parent / family, corpus) for family in FAMILIES}
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # as MADLAD-400 and later T5 have it
    return found | {
        "t5": write_t5(parent / "t5", task_specific_params=TASKS),
        "madlad": write_t5(parent / "madlad", "<2de>", "<2fr>", **gated),
    }


@pytest.fixture(scope="module")
def engines(folders):
    """Both engines of each family, by its name."""
    return {
        family: [load_engine(name, [folders[family]], "cpu", None, None, *LANGUAGES[family]) for name in names]
        for family in CONVERTED
        if (names := ("ctranslate2", "hugging_face"))
    }


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("family", CONVERTED)
def test_it_finds_what_hugging_face_finds(engines, family, search):
    converted, origin = engines[family]
    assert isinstance(converted, ConvertedEngine) and isinstance(origin, HuggingFaceEngine)
    found, expected = (engine.translate([*LINES, LONG], SEARCHES[search]) for engine in (converted, origin))
    for one, other in zip(found, expected, strict=True):
        assert (one.source_cut, one.is_of_nothing) == (other.source_cut, other.is_of_nothing)
        best, theirs = one.hypotheses[0], list(other.hypotheses)
        if SEARCHES[search].is_beam_search and converted._prefix and not one.is_of_nothing:
            # Behind a language, CTranslate2's beam does not end at once.
            theirs = [hypothesis for hypothesis in theirs if hypothesis.text or not hypothesis.finished]
        assert (best.text, best.finished) == (theirs[0].text, theirs[0].finished)
        assert best.score == pytest.approx(theirs[0].score, rel=1e-5, abs=2e-4)


def test_a_converted_folder_needs_the_first_one_no_more(folders, engines, tmp_path):
    for family in ("mbart", "m2m_100"):
        convert_folder(folders[family], tmp_path / family, "int8")
        assert not [file for file in (tmp_path / family).rglob("*") if file.suffix in (".safetensors", ".spm")]
        assert is_converted(tmp_path / family) and engine_of(tmp_path / family) == "ctranslate2"
        assert engine_problems("ctranslate2", [tmp_path / family], None, "de", "en") == []
        assert len(engine_problems("ctranslate2", [tmp_path / family])) == 2  # languages
        assert model_languages(tmp_path / family) == [None, None] and written_language(tmp_path / family, "en") == "en"
        engine = load_engine("ctranslate2", [tmp_path / family], "cpu", None, None, "de", "en")
        assert isinstance(engine, ConvertedEngine) and engine._translator.compute_type.startswith("int8")
        assert [one.source_cut for one in engine.translate([LONG, "rot"], SEARCHES["greedy"])] == [True, False]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_of_which_int8_would_make_some(folders, tmp_path, value):
    from transformers import MarianMTModel

    folder = shutil.copytree(folders["marian"], tmp_path / "marian")
    model = MarianMTModel.from_pretrained(folder)
    model.model.encoder.layers[0].fc1.weight.data[0, 0] = value
    model.save_pretrained(folder)
    with pytest.raises(NotFiniteError, match="marian' is not used: it has NaN or infinity in"):
        convert_folder(folder, tmp_path / "converted", "int8")
    assert not (tmp_path / "converted").exists()


def test_each_of_several_ends_ends_a_translation(folders, tmp_path):
    folder, search = shutil.copytree(folders["m2m_100"], tmp_path / "m2m"), SEARCHES["greedy"]
    config = json.loads((folder / "generation_config.json").read_text())

    def translated(engine):
        return load_engine(engine, [folder], "cpu", None, None, "de", "en").translate(LINES, search)

    for second in range(4, 150):  # until some translation ends with it
        (folder / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [2, second]}))
        expected = translated("hugging_face")
        if any(one.hypotheses[0].finished and one.text for one in expected):
            break
    found = translated("ctranslate2")
    assert [(one.text, one.hypotheses[0].finished) for one in found] == [
        (one.text, one.hypotheses[0].finished) for one in expected
    ]
    assert any(one.hypotheses[0].finished and one.text for one in found)


def test_the_loaded_model_is_not_kept(folders, tmp_path, monkeypatch):
    kept = []
    load = converted_engine.load_model

    def load_and_watch(folder):
        model = load(folder)
        kept.append(weakref.ref(model))
        return model

    monkeypatch.setattr(converted_engine, "load_model", load_and_watch)
    gc.disable()
    try:
        convert_folder(folders["marian"], tmp_path / "converted", "float32")
        assert kept[0]() is None
    finally:
        gc.enable()


def test_only_what_reads_text_is_copied_also_where_files_are_links(folders, tmp_path):
    """As in the cache of the hub, whose snapshots are links."""
    (tmp_path / "snapshot").mkdir()
    for file in folders["marian"].iterdir():
        (tmp_path / "snapshot" / file.name).symlink_to(file)
    (tmp_path / "snapshot" / "notes.txt").write_text("notes")
    convert_folder(tmp_path / "snapshot", tmp_path / "converted", "float32")
    copied = {file.name for file in (tmp_path / "converted" / "origin").iterdir()}
    assert {"config.json", "source.spm", "target.spm", "vocab.json"} <= copied and "notes.txt" not in copied
    assert not [file for file in (tmp_path / "converted").rglob("*") if file.is_symlink()]
    found, expected = (
        load_engine("ctranslate2", [path]).translate(LINES, SEARCHES["greedy"])
        for path in (tmp_path / "converted", folders["marian"])
    )
    assert found == expected


def test_a_damaged_folder_is_told(folders, tmp_path):
    convert_folder(folders["marian"], tmp_path / "converted", "float32")
    (tmp_path / "converted" / "origin" / "generation_config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_engine("ctranslate2", [tmp_path / "converted"])
    with pytest.raises(ConfigurationError, match="was converted from the folder of a Hugging Face model; load_engine"):
        CTranslate2Engine(tmp_path / "converted")


def test_a_temporary_folder_goes_with_its_engine(folders):
    engine = load_engine("ctranslate2", [folders["marian"]])
    folder = engine._folder
    assert folder.is_dir()
    del engine
    gc.collect()
    assert not folder.exists()


def test_it_computes_in_int8(folders):
    engine = load_engine("ctranslate2", [folders["marian"]], "cpu", "int8")
    assert engine._translator.compute_type.startswith("int8")
    assert all(translation.hypotheses[0].score <= 0 for translation in engine.translate(LINES, SEARCHES["beam"]))


def test_samples_of_a_line_do_not_depend_on_others(engines):
    search = SearchSettings(method="sample", n_best=2, length_penalty=0.0, max_delta=3, top_k=500)
    for family in ("marian", "nllb"):
        converted, _ = engines[family]
        together, alone = converted.translate(LINES[:3], search), converted.translate(LINES[2:3], search)
        assert together[2] == alone[0] and len(alone[0].hypotheses) == 2


def test_its_text_has_the_folders_languages(folders):
    assert model_languages(folders["nllb"], "de", "en") == [None, None]
    assert written_language(folders["nllb"], "en") == "en"


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("marian_of_two_vocabularies", {}, "whose sides have vocabularies of their own; CTranslate2 cannot express"),
        ("marian", {"pad_token_id": 0}, "whose padding is not its last token; CTranslate2 cannot express it"),
        ("marian", {"activation_function": "tanh"}, "whose activation is tanh; CTranslate2 cannot express it"),
        ("nllb", {"model_type": "pegasus"}, "which is of the type pegasus; CTranslate2 is given only those of marian, m2m_100,"),
    ],
)  # fmt: skip
def test_what_ctranslate2_cannot_express_is_told(folders, tmp_path, family, change, said):
    folder = shutil.copytree(folders[family], tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    (problem,) = engine_problems("ctranslate2", [folder], None, *FAMILIES[family])
    assert problem.startswith(f"model names '{folder}'") and said in problem
    with pytest.raises(ConfigurationError, match="CTranslate2 (cannot|is given)"):
        ConvertedEngine.from_folder(folder, "float32", *FAMILIES[family])


def test_languages_are_asked_for_as_by_hugging_face(folders):
    problems = engine_problems("ctranslate2", [folders["nllb"]])
    assert [problem.partition(" has")[0] for problem in problems] == ["source_language", "target_language"]
    assert engine_problems("ctranslate2", [folders["nllb"]], "int8", "de", "en") == []
