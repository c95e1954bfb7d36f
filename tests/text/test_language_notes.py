"""Text in other languages than a training says."""

import pytest

from nemo_distill.text.language_notes import language_notes, other_language

LINES = {
    "de": "Die Kinder spielten den ganzen Nachmittag im Garten, bis es dunkel wurde und sie nach Hause gehen mussten.",
    "en": "The children played in the garden all afternoon, until it grew dark and they had to go home again.",
    "fr": "Les enfants ont joué dans le jardin tout l'après-midi, jusqu'à ce qu'il fasse nuit et qu'ils rentrent.",
}


@pytest.fixture
def model(tmp_path):
    """Returns a training on files that are named by their languages, such as `de-en`."""
    for language, line in LINES.items():
        (tmp_path / language).write_text(f"{line}\n" * 20, encoding="utf-8")
        (tmp_path / f"short_{language}").write_text(f"{line}\n", encoding="utf-8")

    def files(pair):
        source, target = (str(tmp_path / name) for name in pair.split("-"))
        return {"src_file_name": source, "tgt_file_name": target}

    def build(train, validation, mixed=None, backwards=False, **more):
        model = {"train_ds": files(train), "validation_ds": files(validation), **more}
        model["train_ds"]["reverse_lang_direction"] = backwards
        if mixed:
            source, target = files(mixed).values()
            model["distillation"] = {"mix": {"corpora": {"pseudo": {"source": source, "target": target}}}}
        return model

    return build


@pytest.mark.parametrize(
    ("pairs", "more", "told"),
    [
        (["de-en", "de-en"], {}, []),
        (["de-en", "de-en"], {"src_language": "de", "tgt_language": "eng_Latn"}, []),
        (["de-en", "en-de"], {}, ["validation_ds seems to have source and target swapped"]),
        (["de-en", "de-en", "en-de"], {}, ["mix.corpora.pseudo seems to have source and target swapped"]),
        (["en-de", "de-en"], {"backwards": True}, []),
        (["en-de", "de-en", "en-de"], {"backwards": True}, []),
        (["en-de", "de-en", "de-en"], {"backwards": True}, ["mix.corpora.pseudo seems to have source and target swapped"]),
        (["de-en", "en-de"], {"multilingual": True}, []),
        (["de-en", "en-fr"], {}, []),
        (["de-en", "short_en-short_de"], {}, []),
        (["fr-en", "fr-en"], {"src_language": "ignore", "tgt_language": None}, []),
        (["fr-en", "de-en"], {"src_language": "de", "tgt_language": "en"}, ["seems to be French, but model.src_language=de."]),
        (["de-en", "en-de"], {"src_language": "de"}, ["seems to be English, but model.src_language=de."]),
        (["de-en", "de-en"], {"src_language": "xx"}, []),
    ],
)  # fmt: skip
def test_text_in_another_language_is_told(model, pairs, more, told):
    notes = language_notes(model(*pairs, **more))
    assert len(notes) == len(told) and all(part in note for part, note in zip(told, notes)), notes


@pytest.mark.parametrize("declared", ["de", "deu_Latn", ">>deu<<", "German", None, "ignore", "Elvish"])
def test_a_language_has_many_names(tmp_path, declared):
    (tmp_path / "text").write_text(f"{LINES['de']}\n" * 20, encoding="utf-8")
    assert other_language(tmp_path / "text", declared) is None


@pytest.mark.parametrize("declared", ["en", "eng_Latn", "English", "jpn_Jpan"])
def test_another_language_is_named(tmp_path, declared):
    (tmp_path / "text").write_text(f"{LINES['de']}\n" * 20, encoding="utf-8")
    assert other_language(tmp_path / "text", declared) == "German"
