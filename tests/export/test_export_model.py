"""A `.nemo` in, a folder out: as a function and as a command."""

import hashlib
import os

import ctranslate2
import pytest
import sentencepiece

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.export.export_model import export_model, write_tokenizers
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from tests.conftest import SCRIPTS
from tests.forked import run_script
from tests.pseudo_labels.fakes import write_model


def test_the_record_says_how_it_was_made_and_how_it_is_fed(trained_path, tokenizer, tmp_path):
    output = tmp_path / "exported"
    written = export_model(ExportSettings(trained_path, output, quantization="int8"))
    record = ExportRecord.read(output)
    assert record == written
    assert record.sha256 == hashlib.sha256(trained_path.read_bytes()).hexdigest()
    assert (record.model, record.format, record.quantization) == ("trained.nemo", "ctranslate2", "int8")
    assert record.architecture["encoder"]["hidden_size"] == 32
    assert record.source == record.target
    assert (record.source.library, record.source.language, record.source.positions) == ("sentencepiece", "ignore", 64)
    assert record.source.special_ids == {"pad": 3, "unk": 0, "bos": 1, "eos": 2}
    assert (output / record.source.tokenizer).read_bytes() == tokenizer.read_bytes()
    assert set(record.versions) == {"nemo_distill", "nemo_toolkit", "torch", "ctranslate2"}
    assert sorted(file.name for file in output.iterdir()) == [
        "config.json", "model.bin", "nemo_distill.json", "shared_tokenizer.model", "shared_vocabulary.json",
    ]  # fmt: skip


def test_all_files_of_an_export_may_be_read_by_others(trained_path, tmp_path):
    before = os.umask(0o022)
    try:
        export_model(ExportSettings(trained_path, tmp_path / "exported", format="hugging_face"))
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "exported").iterdir()}
    assert modes.keys() > {"model.safetensors"} and set(modes.values()) == {0o644}, modes


def test_an_earlier_export_is_replaced_whole_where_that_is_asked_for(trained_path, tmp_path):
    output = tmp_path / "exported"
    export_model(ExportSettings(trained_path, output, format="onnx"))
    with pytest.raises(ConfigurationError, match="already exists"):
        export_model(ExportSettings(trained_path, output))
    assert (output / "encoder.onnx").is_file()
    export_model(ExportSettings(trained_path, output, force=True))
    assert (output / "model.bin").is_file() and not (output / "encoder.onnx").exists()
    assert list(tmp_path.iterdir()) == [output]


def test_tokenizers_keep_their_sides_whatever_their_names_in_the_archive(tmp_path):
    """Their names are the archive's, and may be those that the export gives to the other side."""
    config = b"{encoder_tokenizer: {tokenizer_model: 'nemo:own.model'}, "
    config += b"decoder_tokenizer: {tokenizer_model: 'nemo:source_tokenizer.model'}}"
    artifacts = {"own.model": b"source", "source_tokenizer.model": b"target"}
    names = write_tokenizers(NemoArchive(write_model(tmp_path / "model.nemo", config, **artifacts)), tmp_path)
    assert [(tmp_path / name).read_bytes() for name in names] == [b"source", b"target"]


def test_an_interrupted_export_leaves_nothing(trained_path, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ExportRecord, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_model(ExportSettings(trained_path, tmp_path / "exported"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_what_ctranslate2_alone_can_serve(trained_path, tmp_path):
    settings = (f"model={trained_path}", "output=exported", "quantization=int8")
    result = run_script(SCRIPTS / "export.py", *settings, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for said in ("ctranslate2, int8", "model.bin", "of the .nemo", f"{trained_path.stat().st_size:,}"):
        assert said in " ".join(result.stdout.split()), result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "exported" / "shared_tokenizer.model"))
    translator = ctranslate2.Translator(str(tmp_path / "exported"))
    (translation,) = translator.translate_batch([pieces.encode("der Hund sieht rot", out_type=str)])
    assert pieces.decode(translation.hypotheses[0]) == "red sees dog the"
