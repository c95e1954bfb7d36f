"""Tokenizers of both libraries, in new models and in those of NeMo 1.x, which named none."""

import subprocess
import sys

import pytest
import torch
from omegaconf import open_dict

from nemo_distill.nemo_files.tokenizer_files import read_vocabulary, tokenizer_library, vocabulary_differences
from tests.conftest import tiny_config

pytest.importorskip("youtokentome", reason="the extra [yttm] is not installed")

RESTORE_WITH_ONE_IMPORT = """
import sys
import nemo_distill.nemo_files.youtokentome
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
model = MTEncDecModel.restore_from(sys.argv[1]).eval()
print("TRANSLATIONS", [model.translate([line])[0] for line in ("der Hund", "rot Haus")])
"""


def save_model(path, tokenizer, library, named=True):
    """Saves an untrained model; `named=False` leaves the library out of its config, as NeMo 1.x did."""
    from nemo_distill import DistillableMTEncDecModel

    torch.manual_seed(0)
    config = tiny_config(tokenizer)
    for side in ("encoder", "decoder"):
        config[f"{side}_tokenizer"].library = library
    model = DistillableMTEncDecModel(config)
    if not named:
        with open_dict(model._cfg):
            for side in ("encoder", "decoder"):
                model._cfg[f"{side}_tokenizer"].pop("library")
    model.save_to(str(path))
    return model.eval()


def test_the_content_tells_the_library(tokenizer, yttm_tokenizer):
    assert tokenizer_library(tokenizer) == "sentencepiece"
    assert tokenizer_library(yttm_tokenizer) == "yttm"


def test_a_vocabulary_is_read_with_its_special_ids(tokenizer, yttm_tokenizer):
    assert read_vocabulary(tokenizer).special_ids == {"pad": 3, "unk": 0, "bos": 1, "eos": 2}
    assert read_vocabulary(yttm_tokenizer).special_ids == {"pad": 0, "unk": 1, "bos": 2, "eos": 3}
    (sentence,) = vocabulary_differences(
        "model.encoder_tokenizer", read_vocabulary(tokenizer), read_vocabulary(yttm_tokenizer)
    )
    assert (
        sentence
        == "model.encoder_tokenizer is a sentencepiece tokenizer, but the teacher's is yttm; they must be the same."
    )


@pytest.mark.parametrize("named", [True, False])
def test_a_teacher_with_youtokentome_is_restored(yttm_tokenizer, tmp_path, named):
    from nemo_distill import DistillableMTEncDecModel

    saved = save_model(tmp_path / "yttm.nemo", yttm_tokenizer, "yttm", named)
    restored = DistillableMTEncDecModel.restore_from(str(tmp_path / "yttm.nemo")).eval()
    sentences = ["der Hund sieht", "rot Haus"]
    assert type(restored.encoder_tokenizer).__name__ == "YouTokenToMeTokenizer"
    assert restored.translate(sentences) == saved.translate(sentences)
    assert restored.encoder_tokenizer.ids_to_text(restored.encoder_tokenizer.text_to_ids("der Hund")) == "der Hund"


def test_one_import_lets_nemos_own_class_restore_it(yttm_tokenizer, tmp_path):
    model = save_model(tmp_path / "yttm.nemo", yttm_tokenizer, "yttm", named=False)
    result = subprocess.run(
        [sys.executable, "-c", RESTORE_WITH_ONE_IMPORT, str(tmp_path / "yttm.nemo")], capture_output=True, text=True
    )
    # One at a time: in a batch, NeMo's search has the longest sentence's limit for all.
    translations = [model.translate([line])[0] for line in ("der Hund", "rot Haus")]
    assert f"TRANSLATIONS {translations}" in result.stdout, result.stderr


def test_dropout_of_merges_is_for_training_alone(yttm_tokenizer, corpus, tmp_path):
    """NeMo applies it to all text that a tokenizer splits."""
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.nemo_files.restore import restore_for_inference

    config = tiny_config(yttm_tokenizer, corpus)
    for side in ("encoder", "decoder"):
        config[f"{side}_tokenizer"].update({"library": "yttm", "bpe_dropout": 0.5})
    model = DistillableMTEncDecModel(config)
    tokenizer = model.encoder_tokenizer
    lines = (corpus / "val.de").read_text(encoding="utf-8").splitlines()
    exact = sorted(tokenizer.tokenizer.encode(lines))
    assert tokenizer.bpe_dropout == 0.5 and sorted(map(tokenizer.text_to_ids, lines)) != exact
    special = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}
    (loader,) = model._validation_dl if isinstance(model._validation_dl, list) else [model._validation_dl]
    rows = [row for index in range(len(loader.dataset)) for row in loader.dataset[index][0].tolist()]
    assert sorted([token for token in row if token not in special] for row in rows) == exact
    model.save_to(str(tmp_path / "dropout.nemo"))
    restored = restore_for_inference(DistillableMTEncDecModel, tmp_path / "dropout.nemo")
    assert sorted(map(restored.encoder_tokenizer.text_to_ids, lines)) == exact


def test_the_two_sides_may_use_different_libraries(tokenizer, yttm_tokenizer):
    from nemo_distill import DistillableMTEncDecModel

    config = tiny_config(tokenizer)
    config.shared_embeddings = False
    config.decoder_tokenizer.library = "yttm"
    config.decoder_tokenizer.tokenizer_model = str(yttm_tokenizer)
    model = DistillableMTEncDecModel(config)
    assert type(model.encoder_tokenizer).__name__ == "SentencePieceTokenizer"
    assert type(model.decoder_tokenizer).__name__ == "YouTokenToMeTokenizer"


def test_a_file_that_is_no_tokenizer_is_told(tmp_path):
    path = tmp_path / "text.model"
    path.write_text("neither of the two\n")
    with pytest.raises(ValueError, match="is not a sentencepiece or youtokentome tokenizer"):
        read_vocabulary(path)
