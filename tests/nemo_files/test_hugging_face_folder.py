import io
import json

import pytest
import sentencepiece

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.hugging_face_text import folder_problems, open_folder, read_folder
from nemo_distill.evaluation.parameters import folder_parameters
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import FLAT_TYPES, HuggingFaceFolder, unsafe_reasons
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


def test_a_damaged_tokenizer_is_told_with_its_file(corpus, tmp_path):
    path = write_folder("marian", tmp_path / "folder", corpus) / "source.spm"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"source\.spm' is not a sentencepiece"):
        archived_vocabulary(HuggingFaceFolder(path.parent), "encoder")


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


CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
DETR = {
    "backbone": "payload", "use_pretrained_backbone": True, "use_timm_backbone": False,
    "backbone_kwargs": {"trust_remote_code": True},
}  # fmt: skip
NESTED = {
    "model_type": "encoder-decoder", "encoder": {"model_type": "detr", **DETR}, "decoder": {"model_type": "bart"},
}  # fmt: skip
UNSAFE = [  # the changed file, what is changed, and what the sentences name
    (TOKENIZER, {"tokenizer_class": "DetrModel"}, ["tokenizer_class='DetrModel'"]),
    (CONFIG, {"tokenizer_class": "DetrModel"}, ["tokenizer_class='DetrModel'"]),
    (TOKENIZER, {"tokenizer_class": "DetrModel\nTokenizer"}, ["tokenizer_class="]),
    (TOKENIZER, {"tokenizer_class": ["MarianTokenizer"]}, ["tokenizer_class="]),
    (TOKENIZER, {"tokenizer_class": "RagTokenizer"}, ["tokenizer_class='RagTokenizer'"]),
    (TOKENIZER, {"tokenizer_class": "AutoTokenizer"}, ["tokenizer_class='AutoTokenizer'"]),
    (TOKENIZER, {"auto_map": ["payload.Payload", None]}, ["auto_map"]),
    (CONFIG, DETR, ["backbone", "use_pretrained_backbone", "use_timm_backbone", "backbone_kwargs"]),
    (CONFIG, NESTED, ["model_type='encoder-decoder'", "encoder.model_type='detr'", "encoder.backbone"]),
    (CONFIG, {"model_type": "detr"}, ["model_type='detr'"]),
    (
        "model.safetensors.index.json",
        {"weight_map": {"a": "model-1.safetensors", "b": "../x.safetensors"}},
        ["weight_map", "'../x.safetensors'"],
    ),
    ("pytorch_model.bin.index.json", {"weight_map": {"a": "/x.bin"}}, ["weight_map", "'/x.bin'"]),
    (CONFIG, {"model_type": None}, ["model_type=None"]),
    (CONFIG, {"model_type": ["marian"]}, ["model_type=['marian']"]),
    (CONFIG, {"parts": [{"model_type": "detr"}]}, ["parts.model_type='detr'"]),
    (CONFIG, {"configuration_files": ["config.4.0.0.json"]}, ["configuration_files"]),
    (CONFIG, {"auto_map": {"AutoConfig": "payload.Payload"}}, ["auto_map"]),
    (CONFIG, {"quantization_config": {"quant_method": "bitsandbytes"}}, ["quantization_config"]),
    ("adapter_config.json", {"base_model_name_or_path": "payload"}, [""]),
]


@pytest.fixture
def reached(monkeypatch):
    """The calls of transformers, each of which fails."""
    import transformers

    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise AssertionError("transformers was called")

    for name in ("AutoConfig", "AutoTokenizer", "AutoModelForSeq2SeqLM"):
        monkeypatch.setattr(getattr(transformers, name), "from_pretrained", fail)
    return calls


def change(path, values):
    """Changes the values of a JSON file, which may not exist."""
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | {"is_encoder_decoder": True} | values))


@pytest.mark.parametrize(("name", "values", "named"), UNSAFE)
def test_an_unsafe_folder_is_refused_before_transformers_opens_it(name, values, named, corpus, tmp_path, reached):
    path = write_folder("marian", tmp_path / "folder", corpus)
    assert unsafe_reasons(path) == []
    change(path / name, values)
    reasons = unsafe_reasons(path)
    assert reasons and all(str(path) in reason and name in reason for reason in reasons)
    assert all(any(key in reason for reason in reasons) for key in named)
    assert folder_problems(path)
    with pytest.raises(ValueError):
        HuggingFaceFolder(path)
    for opening in (open_folder, read_folder):
        with pytest.raises(ConfigurationError) as raised:
            opening(path, (None, None))
        assert raised.value.problems == [f"model: {reason}" for reason in reasons]
    with pytest.raises(ConfigurationError) as raised:
        folder_parameters(path)
    assert raised.value.problems == reasons and reached == []


def test_code_of_a_folder_that_a_folder_names_is_not_run(corpus, tmp_path):
    harm, payload = tmp_path / "harm", tmp_path / "payload"
    payload.mkdir()
    (payload / "evil.py").write_text(f"import os\nos.mkdir({str(harm)!r})\n")
    code = {"AutoConfig": "evil.Evil", "AutoBackbone": "evil.Evil"}
    (payload / CONFIG).write_text(json.dumps({"model_type": "evil", "auto_map": code}))
    path = write_folder("marian", tmp_path / "folder", corpus)
    change(path / TOKENIZER, {"tokenizer_class": "DetrModel"})
    change(path / CONFIG, DETR | {"backbone": str(payload)})
    assert folder_problems(path)
    with pytest.raises(ConfigurationError):
        open_folder(path, (None, None))
    assert not harm.exists()


def test_a_folder_with_a_part_that_its_own_type_writes_is_opened(tmp_path):
    from transformers import FSMTConfig

    FSMTConfig(langs=["en", "de"], src_vocab_size=9, tgt_vocab_size=9).save_pretrained(tmp_path)
    assert "fsmt_decoder" in (tmp_path / CONFIG).read_text() and unsafe_reasons(tmp_path) == []


def test_every_type_is_one_that_transformers_translates_with():
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    assert set(FLAT_TYPES) <= set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
