import io
import shutil
import tarfile

import pytest

from nemo_distill import DistillableMTEncDecModel
from nemo_distill.decoding.engines import ENGINES, engine_problems, load_engine, search_problems
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import tiny_config

LINES = ["der Hund sieht", "", "Mann und Haus"]


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "hugging_face"])  # which reads no .nemo
def test_each_engine_translates_as_the_others_do(teacher_path, name):
    settings = SearchSettings(beam_size=1, length_penalty=0.0, max_delta=5)
    ours = load_engine("nemo_distill", [teacher_path]).translate(LINES, settings)
    others = load_engine(name, [teacher_path]).translate(LINES, settings)
    assert [translation.text for translation in others] == [translation.text for translation in ours]
    assert [translation.hypotheses[0].score for translation in others] == pytest.approx(
        [translation.hypotheses[0].score for translation in ours], abs=1e-3
    )


def test_an_export_is_loaded_as_it_is(teacher_path, tmp_path):
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    export_model(ExportSettings(teacher_path, tmp_path / "ct2", quantization="int8"))
    engine = load_engine("ctranslate2", [tmp_path / "ct2"])
    assert engine.translate(LINES, SearchSettings(beam_size=1))[0].text


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (("moses", ["."]), ["engine=moses: must be one of nemo_distill, ctranslate2, nemo, hugging_face."]),
        (
            ("nemo", [__file__, __file__], "int8"),
            [
                "model names 2 files, but engine=nemo supports only one.",
                "dtype=int8: must be null or one of float32, float16, bfloat16, auto.",
                *[f"model: '{__file__}' is not a .nemo file: file could not be opened successfully."] * 2,
            ],
        ),
        (
            ("ctranslate2", [__file__], "int8"),
            [f"model: '{__file__}' is not a .nemo file: file could not be opened successfully."],
        ),
        (("ctranslate2", ["."]), ["model: '.' is not an export: it has no nemo_distill.json."]),
        (("nemo_distill", ["."]), ["model names '.', a folder, but engine=nemo_distill needs a .nemo."]),
        (("nemo_distill", ["gone.nemo"]), ["model names 'gone.nemo', which does not exist."]),
    ],
)
def test_what_cannot_be_loaded_is_told_from_the_names(arguments, sentences):
    assert engine_problems(*arguments) == sentences


def test_models_of_other_words_are_not_averaged(teacher_path, yttm_tokenizer, tmp_path):
    shutil.copy(teacher_path, tmp_path / "again.nemo")
    assert engine_problems("nemo_distill", [teacher_path, tmp_path / "again.nemo"]) == []
    DistillableMTEncDecModel(tiny_config(yttm_tokenizer)).save_to(str(tmp_path / "other.nemo"))
    problems = engine_problems("nemo_distill", [teacher_path, tmp_path / "other.nemo"])
    assert [problem.partition("whose ")[2][:7] for problem in problems] == ["encoder", "decoder"]


def test_a_damaged_tokenizer_of_one_of_several_models_is_told(teacher_path, tmp_path):
    damaged = tmp_path / "damaged.nemo"
    with tarfile.open(teacher_path) as whole, tarfile.open(damaged, "w") as tar:
        for member in whole:
            content = whole.extractfile(member).read() if member.isfile() else b""
            content = content[:20] if "tokenizer" in member.name else content
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    (problem,) = engine_problems("nemo_distill", [teacher_path, damaged])
    assert problem.startswith(f"model: '{damaged}' holds a damaged tokenizer: ")


def test_what_an_engine_cannot_search_for_is_told():
    samples = SearchSettings(method="sample", n_best=2)
    assert search_problems("nemo_distill", samples) == []
    assert [problem.split("=")[0] for problem in search_problems("nemo", samples)] == [
        "search.method",
        "search.n_best",
    ]
    (problem,) = search_problems("ctranslate2", SearchSettings(length_penalty=0.6))
    assert problem.startswith("search.length_penalty_form=wu")
