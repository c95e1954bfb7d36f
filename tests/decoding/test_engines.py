import shutil

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import DistillableMTEncDecModel
from nemo_distill.config.section import read_value
from nemo_distill.decoding.engines import (
    ENGINES,
    Device,
    engine_of,
    engine_problems,
    found_dtype,
    load_engine,
    search_problems,
)
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import changed_archive, tiny_config
from tests.examples.bad_files import MODEL, write_nemo

LEGACY = {"encoder_tokenizer": {"sentencepiece_legacy": True}}
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


@pytest.mark.parametrize(
    ("files", "engine"),
    [(["config.json"], "hugging_face"), (["config.json", "nemo_distill.json"], "ctranslate2")],
)
def test_a_folder_that_another_engine_reads_is_told_with_this_engine(files, engine, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    (sentence,) = engine_problems("nemo_distill", [tmp_path])
    assert f"'{tmp_path}', a folder" in sentence and f"engine={engine} reads it." in sentence


def test_models_of_other_words_are_not_averaged(teacher_path, yttm_tokenizer, tmp_path):
    shutil.copy(teacher_path, tmp_path / "again.nemo")
    assert engine_problems("nemo_distill", [teacher_path, tmp_path / "again.nemo"]) == []
    DistillableMTEncDecModel(tiny_config(yttm_tokenizer)).save_to(str(tmp_path / "other.nemo"))
    problems = engine_problems("nemo_distill", [teacher_path, tmp_path / "other.nemo"])
    assert [problem.partition("whose ")[2][:7] for problem in problems] == ["encoder", "decoder"]


TAGGED = {
    "multilingual": True,
    "src_language": "de",
    "tgt_language": ["en", "fr"],
    "encoder_tokenizer": {"sentencepiece_legacy": True},
    "decoder_tokenizer": {"sentencepiece_legacy": True},
}
MERGED = {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"}


def written(folder, tokenizer, **configs):
    """Returns paths of `.nemo` files without weights, whose configs differ from MODEL as given."""
    for name, change in configs.items():
        config = OmegaConf.to_container(OmegaConf.merge(MODEL, change))
        write_nemo(folder / f"{name}.nemo", config, tokenizer.read_bytes())
    return [folder / f"{name}.nemo" for name in configs]


@pytest.mark.parametrize(
    ("first", "second", "key", "own", "other"),
    [
        (TAGGED, TAGGED | {"tgt_language": ["fr", "en"]}, "tgt_language", ["fr", "en"], ["en", "fr"]),
        (TAGGED, TAGGED | {"src_language": "ignore"}, "src_language", "ignore", "de"),
        (MERGED, MERGED | {"src_language": ["de", "nl", "da"]}, "src_language", ["da", "de", "nl"], ["de", "nl"]),
        ({"src_language": "de"}, {"src_language": None}, "src_language", "ignore", "de"),
        ({}, {"tgt_language": "en"}, "tgt_language", "en", "ignore"),
        ({}, {"decoder_tokenizer": {"r2l": True}}, "decoder_tokenizer.r2l", True, False),
        ({}, LEGACY, "encoder_tokenizer.sentencepiece_legacy", True, False),
    ],
)  # fmt: skip
def test_models_that_read_or_write_text_in_other_ways_are_not_averaged(
    first, second, key, own, other, tokenizer, tmp_path
):
    paths = written(tmp_path, tokenizer, first=first, second=second)
    target = "fr" if first is TAGGED else None
    source = "de" if first is MERGED else None
    (problem,) = engine_problems("nemo_distill", paths, None, source, target)
    assert all(part in problem for part in (*map(str, paths), f"{key}={own}", f"{key}={other}"))


def test_models_that_differ_in_nothing_that_text_shows_are_averaged(tokenizer, tmp_path):
    paths = written(tmp_path, tokenizer, ignoring={"src_language": "ignore"}, silent={"src_language": None})
    assert engine_problems("nemo_distill", paths) == []
    paths = written(tmp_path, tokenizer, merged=MERGED, turned=MERGED | {"src_language": ["nl", "de"]})
    assert engine_problems("nemo_distill", paths, None, "nl") == []


def test_a_model_that_leaves_its_encoders_width_to_hugging_face_is_loaded_in_a_chosen_type(tokenizer, tmp_path):
    encoder = {"library": "huggingface", "_target_": "transformers.BertConfig", "hidden_size": None}
    paths = written(tmp_path, tokenizer, bert={"encoder": encoder})
    assert found_dtype("auto", paths, "cpu") == "float32"


def test_a_damaged_tokenizer_of_one_of_several_models_is_told(teacher_path, tmp_path):
    damaged = changed_archive(teacher_path, tmp_path / "damaged.nemo", "tokenizer", lambda content: content[:20])
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


@pytest.mark.parametrize("asked", [None, "auto"])
def test_the_kind_of_model_tells_the_engine_of_a_folder(asked, tmp_path):
    def folder(name, *files):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        return tmp_path / name

    assert engine_of(folder("export", "nemo_distill.json"), asked) == "ctranslate2"
    assert engine_of(folder("own_export", "nemo_distill.json", "tokenizer_config.json"), asked) == (
        asked or "hugging_face"
    )
    assert engine_of(folder("other", "config.json"), asked) == (asked or "hugging_face")
    assert engine_of(tmp_path / "a.nemo", asked) == (asked or "nemo_distill")
    assert engine_of(tmp_path / "other", "nemo") == "nemo"


@pytest.mark.parametrize(
    ("device", "count", "said"),
    [
        ("cuda", 0, "torch finds no GPU here"),
        ("cuda:1", 1, "torch finds 1 GPU here, numbered from 0"),
        ("cuda:7", 2, "torch finds 2 GPUs here, numbered from 0"),
        ("cuda:1", 2, None),
        ("cuda", 1, None),
        ("cpu", 0, None),
    ],
)
def test_a_gpu_that_is_not_there_is_told(device, count, said, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    found = read_value(Device, device, "device")[1]
    assert found == ([f"device={device}: {said}."] if said else [])
