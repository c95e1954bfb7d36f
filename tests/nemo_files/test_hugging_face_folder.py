import io
import json

import pytest
import sentencepiece

from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.tokenizer_files import piece_differences, read_vocabulary, with_special_tokens
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, teacher_archive
from tests.hugging_face_folders import train_pieces, write_folder

LINE = "der Hund sieht ☃ rot"


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    return write_folder("marian", tmp_path_factory.mktemp("folders") / "marian", corpus)


@pytest.mark.parametrize(
    "special", [{}, {"bos_id": -1, "eos_id": 0, "unk_id": 1}, {"user_defined_symbols": ["<pad>"]}]
)
def test_special_tokens_are_added_and_nothing_else_changes(special, corpus, tmp_path):
    path = tmp_path / "own.model"
    train_pieces(path, corpus / "train.de", **special)
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))
    added = sentencepiece.SentencePieceProcessor(model_proto=with_special_tokens(path))
    ids = [added.pad_id(), added.bos_id(), added.eos_id(), added.unk_id()]
    assert len(set(ids)) == 4 and min(ids) >= 0
    assert own.encode(LINE) == added.encode(LINE)
    assert added.decode([*added.encode(LINE), added.eos_id(), added.pad_id()]) == own.decode(own.encode(LINE))
    before, after = ([model.id_to_piece(i) for i in range(len(model))] for model in (own, added))
    assert after[: len(before)] == before


def test_what_a_cache_keeps_of_a_folder_is_read_as_the_folder_is(folder, tmp_path):
    archive, copy = HuggingFaceFolder(folder), io.BytesIO()
    archive.copy_without_weights(copy)
    (tmp_path / "teacher.nemo").write_bytes(copy.getvalue())
    kept = teacher_archive(tmp_path / "teacher.nemo")
    assert type(kept) is NemoArchive and kept.config == archive.config
    for side in ("encoder", "decoder"):
        assert archived_vocabulary(kept, side) == archived_vocabulary(archive, side)


def test_sizes_that_the_file_leaves_out_are_the_defaults(corpus, tmp_path):
    path = write_folder("marian", tmp_path / "folder", corpus) / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key != "max_position_embeddings"}))
    assert teacher_archive(path.parent).config.encoder.max_sequence_length == 1024


def test_pieces_are_compared_without_order_and_special_tokens(folder, tokenizer):
    archive = HuggingFaceFolder(folder)
    source, target = (archived_vocabulary(archive, side) for side in ("encoder", "decoder"))
    assert piece_differences("key", read_vocabulary(folder / "source.spm"), source) == []
    (found,) = piece_differences("key", source, target)
    only = set(source.pieces) - set(target.pieces)
    assert found.startswith("key has") and f"{len(only)} pieces" in found and repr(min(only)) in found
