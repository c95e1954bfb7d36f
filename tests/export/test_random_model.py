"""Exports with random weights, which stand for trained ones of their shape in size and speed."""

import pytest
from omegaconf import OmegaConf

from nemo_distill.export.export_model import export_model
from nemo_distill.export.random_model import int8_bytes, weight_shapes, write_random_model
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive


@pytest.fixture(scope="module")
def config(trained_path):
    found = OmegaConf.to_container(NemoArchive(trained_path).config)
    return {key: found[key] for key in ("encoder", "decoder", "shared_embeddings")}


def test_the_weights_have_the_shapes_and_the_size_of_a_real_export(trained_path, config, tmp_path):
    record = export_model(ExportSettings(trained_path, tmp_path / "real", quantization="int8"))
    (tmp_path / "random").mkdir()
    made = write_random_model(config, NemoArchive(trained_path), tmp_path / "random")
    assert (made.source, made.target, made.quantization) == (record.source, record.target, "int8")
    real, random = ((tmp_path / name / "model.bin").stat().st_size for name in ("real", "random"))
    assert random == pytest.approx(real, rel=0.1)
    pieces = {"encoder": record.source.pieces, "decoder": record.target.pieces}
    assert int8_bytes(config, pieces) == pytest.approx(real, rel=0.1)


def test_a_student_has_nothing_that_only_its_teacher_has(trained_path, config, tmp_path):
    """The positions of the teacher, of which it has fewer."""
    sides = {
        side: {key: value for key, value in config[side].items() if key != "max_sequence_length"}
        for side in ("encoder", "decoder")
    }
    made = write_random_model(config | sides, NemoArchive(trained_path), tmp_path)
    pieces = {"encoder": made.source.pieces, "decoder": made.target.pieces}
    assert config["encoder"]["max_sequence_length"] != 512
    assert (tmp_path / "model.bin").stat().st_size == pytest.approx(int8_bytes(config | sides, pieces), rel=0.1)


def test_equal_matrices_count_once(config):
    pieces = {"encoder": 100, "decoder": 100}
    whole = int8_bytes({**config, "shared_embeddings": False}, pieces)
    width = config["encoder"]["hidden_size"]
    assert whole - int8_bytes({**config, "shared_embeddings": True}, pieces) == 100 * width + 4 * 100


@pytest.mark.parametrize("given", [{}, {"pre_ln_final_layer_norm": False}])
def test_a_stack_ends_without_a_norm_if_nemo_would_build_none(config, given):
    stack = {key: value for key, value in config["encoder"].items() if key != "pre_ln_final_layer_norm"}
    shapes = weight_shapes({**config, "encoder": {**stack, "pre_ln": True, **given}}, {"encoder": 9, "decoder": 9})
    assert not any(name.startswith("encoder/layer_norm") for name in shapes)


def test_a_layer_more_is_a_layer_of_weights_more(config):
    pieces = {"encoder": 100, "decoder": 100}
    deeper = {**config, "decoder": {**config["decoder"], "num_layers": 2}}
    more = set(weight_shapes(deeper, pieces)) - set(weight_shapes(config, pieces))
    assert more and all(name.startswith("decoder/layer/1/") for name in more)
