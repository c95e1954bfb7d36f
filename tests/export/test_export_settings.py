"""What is refused, before NeMo is imported and all at once."""

import pytest
import yaml
from omegaconf import OmegaConf

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import broken_rules, read_config, read_section
from nemo_distill.export import settings as settings_module
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from tests.conftest import TINY_SIZE
from tests.pseudo_labels.fakes import write_model

STACK = TINY_SIZE | {"library": "nemo", "hidden_act": "relu", "learn_positional_encodings": False}
TOKENIZER = {"library": "sentencepiece", "tokenizer_model": "nemo:tokenizer.model", "r2l": False}
CONFIG = {
    "target": "nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel",
    "encoder": STACK | {"mask_future": False},
    "decoder": STACK,
    "encoder_tokenizer": TOKENIZER,
    "decoder_tokenizer": TOKENIZER,
    "head": {"num_layers": 1, "log_softmax": True},
    "multilingual": False,
}
# a section, or none, a key, its value, what is said, and whether ONNX can express it
REFUSED = [
    (None, "target", "nemo.MTBottleneckModel", "target=nemo.MTBottleneckModel: only MTEncDecModel", False),
    ("encoder", "library", "huggingface", "encoder.library=huggingface: only NeMo's own", False),
    ("encoder", "library", "megatron", "encoder.library=megatron: only NeMo's own", False),
    ("decoder", "library", "huggingface", "decoder.library=huggingface: only NeMo's own", False),
    ("encoder", "arch", "perceiver", "encoder.arch=perceiver: only the plain transformer", False),
    ("encoder", "arch", "bridge", "encoder.arch=bridge: only the plain transformer", False),
    ("encoder", "mask_future", True, "encoder.mask_future=True: CTranslate2's encoder is bidirectional", True),
    ("encoder", "mask_future", None, "encoder.mask_future=missing, so NeMo uses true", True),
    ("decoder", "hidden_act", "silu", "decoder.hidden_act=silu: must be one of relu, gelu.", True),
    ("head", "num_layers", 2, "head.num_layers=2: CTranslate2 supports only 1 layer.", True),
    ("head", "log_softmax", False, "head.log_softmax=false", True),
    (None, "multilingual", True, "multilingual=true: CTranslate2 would not add the language token", True),
    ("encoder_tokenizer", "library", "huggingface", "encoder_tokenizer.library=huggingface", False),
    ("decoder_tokenizer", "library", "byte-level", "decoder_tokenizer.library=byte-level", False),
    ("decoder_tokenizer", "tokenizer_model", None, "decoder_tokenizer.tokenizer_model=None: the .nemo must", False),
    ("decoder_tokenizer", "r2l", True, "decoder_tokenizer.r2l=true: reversed text cannot be exported", False),
    ("encoder_tokenizer", "sentencepiece_legacy", True, "encoder_tokenizer.sentencepiece_legacy=true", False),
]


def changed(changes):
    config = {key: dict(value) if isinstance(value, dict) else value for key, value in CONFIG.items()}
    for section, key, value in changes:
        node = config[section] if section else config
        if value is None:
            node.pop(key)
        else:
            node[key] = value
        if key == "multilingual":
            config["src_language"] = ["de", "fr"]  # NeMo needs a list then
    return config


@pytest.fixture
def write_archive(tokenizer, tmp_path):
    """Writes a `.nemo` without weights: they are not read before an export is refused."""

    def write(changes=(), **artifacts):
        config = yaml.safe_dump(changed(changes)).encode()
        tokenizers = {"tokenizer.model": tokenizer.read_bytes()} | artifacts
        return write_model(tmp_path / "model.nemo", config, **tokenizers)

    return write


def problems_of(model, output, **values):
    return read_section(ExportSettings, {"model": str(model), "output": str(output), **values})[1]


def test_a_plain_model_is_not_refused(write_archive, tmp_path):
    path = write_archive()
    for format in ("ctranslate2", "onnx"):
        assert problems_of(path, tmp_path / "out", format=format) == []


def test_a_model_is_opened_once_for_all_rules(write_archive, tmp_path, monkeypatch):
    """But by the check of its path, and by that of a translation model."""
    opened, read = [], NemoArchive.__init__
    monkeypatch.setattr(NemoArchive, "__init__", lambda archive, path: opened.append(path) or read(archive, path))
    settings = ExportSettings(write_archive(), tmp_path / "out", format="hugging_face", max_positions=9)
    for _ in range(2):  # of the command and of `export_model`
        assert broken_rules(settings) == [] and len(opened) == 3


@pytest.mark.parametrize(("section", "key", "value", "said", "onnx_can"), REFUSED)
def test_what_a_format_cannot_express_is_refused(section, key, value, said, onnx_can, write_archive, tmp_path):
    path = write_archive([(section, key, value)])
    (problem,) = problems_of(path, tmp_path / "out")
    assert problem.startswith(said)
    assert (problems_of(path, tmp_path / "out", format="onnx") == []) == onnx_can


PRE_LN = [(side, key, True) for side in ("encoder", "decoder") for key in ("pre_ln", "pre_ln_final_layer_norm")]
LEARNED = [(side, "learn_positional_encodings", True) for side in ("encoder", "decoder")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (PRE_LN[:2], "encoder.pre_ln=True and decoder.pre_ln=False"),
        ([*PRE_LN, ("encoder", "pre_ln_final_layer_norm", False)], "encoder.pre_ln_final_layer_norm=false: mBART"),
        ([*PRE_LN, ("encoder", "pre_ln_final_layer_norm", None)], "encoder.pre_ln_final_layer_norm=missing, so NeMo"),
        ([("encoder", "hidden_act", "gelu")], "encoder.hidden_act=gelu and decoder.hidden_act=relu"),
        ([*LEARNED, ("decoder", "max_sequence_length", 32)], "max_sequence_length={'encoder': 64, 'decoder': 32}"),
        ([(None, "src_language", "de")], "src_language=de: NeMo tokenizes text of this model with Moses"),
    ],
)
def test_what_hugging_faces_models_cannot_express_is_refused(changes, said, write_archive, tmp_path):
    path = write_archive(changes)
    (problem,) = problems_of(path, tmp_path / "out", format="hugging_face")
    assert problem.startswith(said)


def test_two_tokenizers_of_shared_embeddings_are_no_tokenizer_of_hugging_face(
    write_archive, english_tokenizer, tmp_path
):
    changes = [(None, "shared_embeddings", True), ("decoder_tokenizer", "tokenizer_model", "nemo:english.model")]
    path = write_archive(changes, **{"english.model": english_tokenizer.read_bytes()})
    (problem,) = problems_of(path, tmp_path / "out", format="hugging_face")
    assert problem.startswith("shared_embeddings=true: ")
    assert problems_of(path, tmp_path / "out") == []


def test_moses_may_be_used_before_a_hugging_face_model(write_archive, tmp_path):
    path = write_archive([(None, "src_language", "de")])
    assert problems_of(path, tmp_path / "out", format="hugging_face", pretokenized=True) == []
    (problem,) = problems_of(path, tmp_path / "out", pretokenized=True)
    assert problem == "pretokenized=true: only for format=hugging_face; remove it."


def test_all_reasons_are_told_at_once(write_archive, tmp_path):
    changes = [row[:3] for row in REFUSED if row[1] != "sentencepiece_legacy" and row[2] is not None]
    path = write_archive(changes)
    settings = {"model": str(path), "output": str(tmp_path / "out")}
    with pytest.raises(ConfigurationError) as error:
        read_config(ExportSettings, OmegaConf.create(settings | {"quantization": "int4", "max_positions": 2}))
    told = str(error.value)
    for said in ("int4", "max_positions=2", "target", "mask_future", "multilingual", "head.num_layers", "arch", "r2l"):
        assert said in told
    assert len(error.value.problems) == 14
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"format": "tensorrt"}, "format=tensorrt: must be one of ctranslate2, hugging_face, onnx, browser."),
        ({"quantization": "int4"}, "quantization=int4: must be one of float32,"),
        ({"max_positions": 2}, "max_positions=2: must be null or a whole number of at least 3."),
        ({"max_positions": "all"}, "max_positions=all: must be null or a whole number of at least 3."),
        (
            {"format": "onnx", "quantization": "int8"},
            "quantization=int8: only for format=ctranslate2",
        ),
        ({"format": "onnx", "max_positions": 9}, "max_positions=9: only for format=ctranslate2 and hugging_face"),
    ],
)
def test_values_that_mean_nothing_are_refused(values, said, write_archive, tmp_path):
    path = write_archive()
    (problem,) = problems_of(path, tmp_path / "out", **values)
    assert problem.startswith(said)


def test_learned_positions_are_as_many_as_were_learned(write_archive, tmp_path):
    path = write_archive([("decoder", "learn_positional_encodings", True)])
    assert problems_of(path, tmp_path / "out", max_positions=64) == []
    (problem,) = problems_of(path, tmp_path / "out", max_positions=65)
    assert problem == "max_positions=65: the decoder has learned 64 positions."


def test_nothing_but_an_earlier_export_is_replaced(write_archive, tmp_path):
    path = write_archive()
    precious, earlier = tmp_path / "precious", tmp_path / "earlier"
    for folder in (precious, earlier):
        folder.mkdir()
    (earlier / RECORD_NAME).write_text("{}")
    for folder in (precious, earlier):
        (problem,) = problems_of(path, folder)
        assert problem.startswith(f"output='{folder}' already exists") and "force=true" in problem
    (problem,) = problems_of(path, precious, force=True)
    assert problem.startswith(f"output='{precious}' is not an earlier export")
    assert problems_of(path, earlier, force=True) == []


def test_an_export_that_holds_the_model_is_not_replaced(write_archive, tmp_path):
    write_archive()
    (tmp_path / RECORD_NAME).write_text("{}")
    (problem,) = problems_of(tmp_path / "model.nemo", tmp_path, force=True)
    assert problem.startswith(f"output='{tmp_path}' holds model='{tmp_path / 'model.nemo'}'")


@pytest.mark.parametrize("format", ["ctranslate2", "onnx"])
def test_a_missing_package_is_told_with_the_extra_that_installs_it(format, write_archive, tmp_path, monkeypatch):
    path = write_archive()
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None)
    (problem,) = problems_of(path, tmp_path / "out", format=format)
    assert problem == f"{format} is not installed: pip install 'nemo_distill[{format}]'."


@pytest.mark.parametrize("format", ["ctranslate2", "hugging_face", "onnx"])
def test_what_nemo_cannot_restore_is_refused_before_nemo_is_imported(format, write_archive, tokenizer, tmp_path):
    def told(*changes, **artifacts):
        (problem,) = problems_of(write_archive(changes, **artifacts), tmp_path / "out", format=format)
        return problem

    assert "its config has 'os.system'" in told(("head", "_target_", "os.system"))
    assert "encoder has no num_layers" in told(("encoder", "num_layers", None))
    assert "holds a damaged tokenizer" in told(**{"tokenizer.model": tokenizer.read_bytes()[:300]})
    assert "has no member 'lost.model'" in told(("encoder_tokenizer", "tokenizer_model", "nemo:lost.model"))


def test_a_missing_model_is_told(tmp_path):
    (problem,) = problems_of(tmp_path / "no.nemo", tmp_path / "out")
    assert problem.startswith(f"model={tmp_path / 'no.nemo'}: there is no file")
