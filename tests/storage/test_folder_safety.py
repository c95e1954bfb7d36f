"""Folders that mean harm: each is refused with its reason, and nothing outside of it is read, written or emptied."""

import io
import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.hugging_face_text import folder_problems
from nemo_distill.export.record import RECORD_NAME, ExportRecord
from nemo_distill.storage.files import folder_lock
from nemo_distill.storage.folder_safety import check_links, open_array, path_inside
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.shard_folder import ShardError, ShardFolder
from nemo_distill.teacher_cache.cache import TeacherCache
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO
from tests.conftest import Harm
from tests.teacher_cache.fakes import build_cache, random_pairs

NAMES = ["../evil", "/etc/passwd", "a/../../evil", "..\\evil", "a\0b"]


@pytest.fixture
def cache(tmp_path):
    build_cache(tmp_path / "cache", [random_pairs(12, seed=0)])
    return tmp_path / "cache"


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="is outside"):
        path_inside(tmp_path, name)


def test_links_that_lead_out_are_refused_and_others_are_not(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "folder" / "within").symlink_to("file")
    (tmp_path / "linked").symlink_to("folder")
    check_links(tmp_path / "linked")  # the folder itself may be a link
    (tmp_path / "folder" / "out").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="it is a link to '/etc/passwd'"):
        check_links(tmp_path / "folder")


def change_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("checksum", None)
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("key", ["index", "shards"])
@pytest.mark.parametrize("name", [*NAMES, "other.npy"])
def test_a_cache_that_names_other_files_is_refused(cache, key, name):
    change_manifest(cache, lambda manifest: manifest[key][0].update(name=name))
    with pytest.raises(DataError, match="does not list the files of a teacher cache"):
        TeacherCache(cache)


@pytest.mark.parametrize("name", ["index.keys.npy", "shards/shard-000000.tokens.npy"])
def test_a_cache_with_a_link_out_of_it_is_refused(cache, tmp_path, name):
    (cache / name).rename(tmp_path / "elsewhere.npy")
    (cache / name).symlink_to(tmp_path / "elsewhere.npy")
    with pytest.raises(DataError, match="outside of the folder"):
        TeacherCache(cache)


def test_an_index_that_leads_beyond_its_shards_is_refused(cache):
    path = cache / "index.places.npy"
    places = np.load(path)
    for field, value in (("shard", 7), ("tokens", 10_000), ("start", 2**63)):
        wrong = places.copy()
        wrong[field][0] = value
        np.save(path, wrong)
        change_manifest(cache, lambda manifest: manifest["index"][1].update(sha256=sha256_of(path)))
        with pytest.raises(ShardError, match="refers to tokens that are in no shard"):
            TeacherCache(cache)


def header(shape, descr="'<u4'", size=400):
    """A numpy file whose header says what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(size)


@pytest.mark.parametrize(
    "content",
    [
        header("(101,)"),
        header("(-1,)"),
        header("(10**18,)"),
        header("(4611686018427387904,)"),
        header("(4294967296, 4294967296)"),
        header("(99,)"),
        header("(10, 10)"),
        header("()"),
        header("(100,)", descr="'|O'"),
        header("(100,)", descr="'no'"),
        header("(100,"),
        b"",
        b"\x93NUMPY\x09\x09",
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_arrays_that_are_not_what_their_headers_say_are_refused(tmp_path, content):
    (tmp_path / "array.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"array.npy' is not a valid array"):
        open_array(tmp_path / "array.npy")


def test_pickled_objects_are_not_read(tmp_path):
    harm = tmp_path / "harm"
    np.save(tmp_path / "evil.npy", np.array([Harm(harm)], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="is not a valid array"):
        open_array(tmp_path / "evil.npy")
    assert not harm.exists()


@given(st.integers(0, 10**4), st.integers(1, 255))
def test_a_changed_byte_of_a_header_is_told_or_harmless(tmp_path_factory, place, change):
    stream = io.BytesIO()
    np.save(stream, np.arange(5, dtype="<u4"))
    content = bytearray(stream.getvalue())
    content[place % (len(content) - 20)] ^= change
    path = tmp_path_factory.getbasetemp() / "changed.npy"
    path.write_bytes(bytes(content))
    try:
        assert open_array(path).nbytes == 20
    except DataError as error:
        assert "is not a valid array" in str(error)


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "precious").write_text("text")
    (tmp_path / "folder" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DataError, match=r"\.lock' cannot be locked"), folder_lock(tmp_path / "folder"):
        pass
    assert (tmp_path / "precious").read_text() == "text"


def test_shards_are_not_written_through_a_link(tmp_path):
    (tmp_path / "folder").mkdir(), (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder" / "shards").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="outside of the folder"):
        ShardFolder(tmp_path / "folder", {}).take()
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_that_names_files_elsewhere_is_not_followed(tmp_path, name):
    folder = ShardFolder(tmp_path, {})
    folder.take()
    manifest = {"settings": {}, "shards": [{"name": name, "sha256": "0" * 64}]}
    folder.manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is outside"):
        folder.verify()


def test_a_manifest_of_other_settings_is_refused(tmp_path):
    folder = ShardFolder(tmp_path, {"a": 1})
    folder.path.joinpath("manifest.json").write_text(json.dumps({"settings": {"a": 2}, "shards": []}))
    with pytest.raises(DataError, match="a was 2 and is 1"):
        folder.take()


SIDE = {"library": "sentencepiece", "language": None, "pieces": 9, "positions": 9}
SIDE |= {"tokenizer": "t.model", "special_ids": {"pad": 0, "unk": 1, "bos": 2, "eos": 3}}
EXPORT = {"model": "a.nemo", "sha256": "0", "format": "ctranslate2", "quantization": "int8", "architecture": {}}
EXPORT |= {"source": SIDE, "target": SIDE, "versions": {}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"source": {**SIDE, "tokenizer": "../../etc/passwd"}}, "is outside"),
        ({"source": {**SIDE, "library": "os"}}, "source.library=os"),
        ({"target": {**SIDE, "positions": -1}}, "target.positions=-1"),
        ({"target": {**SIDE, "special_ids": {}}}, "target.special_ids.pad: field required"),
        ({"more": 1}, "more=1"),
        ({"versions": 3}, "versions=3"),
    ],
)
def test_an_export_that_is_none_is_refused(tmp_path, change, reason):
    (tmp_path / RECORD_NAME).write_text(json.dumps(EXPORT))
    assert ExportRecord.read(tmp_path).source.pieces == 9
    (tmp_path / RECORD_NAME).write_text(json.dumps(EXPORT | change))
    with pytest.raises(DataError, match=reason):
        ExportRecord.read(tmp_path)


def test_an_export_with_a_link_out_of_it_is_refused(tmp_path):
    (tmp_path / RECORD_NAME).write_text(json.dumps(EXPORT))
    (tmp_path / "model.bin").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="it is a link to '/etc/passwd'"):
        ExportRecord.read(tmp_path)


def test_code_in_a_folder_of_hugging_face_is_not_run(tmp_path):
    harm = tmp_path / "harm"
    code = {"AutoConfig": "evil.Evil", "AutoTokenizer": ["evil.Evil", None], "AutoModelForSeq2SeqLM": "evil.Evil"}
    config = {"is_encoder_decoder": True, "model_type": "evil", "auto_map": code}
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(harm)!r})\n")
    with pytest.raises(ConfigurationError, match="cannot be loaded: .*trust_remote_code"):
        HuggingFaceEngine(tmp_path)
    assert not harm.exists()


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000, '{"is_encoder_decoder": "yes"}'])
def test_a_config_of_hugging_face_that_is_none_is_told(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (problem,) = folder_problems(tmp_path)
    assert problem.endswith(".") and "config.json" in problem


def test_an_adapter_which_would_load_another_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"is_encoder_decoder": true}')
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    assert "adapters for another folder's model are not supported" in folder_problems(tmp_path)[0]


@given(st.integers(0, 10**5))
def test_a_checkpoint_that_was_cut_is_told(tmp_path_factory, place):
    stream = io.BytesIO()
    torch.save({"weight": torch.arange(3.0)}, stream)
    content = stream.getvalue()
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(content[: place % len(content)])
    with pytest.raises(ConfigurationError, match="cannot be resumed"):
        SafeCheckpointIO().load_checkpoint(path)
    os.unlink(path)
