import pytest
from omegaconf import OmegaConf

from nemo_distill.config.section import read_section
from nemo_distill.evaluation.parameters import ParameterCount
from nemo_distill.evaluation.student_sizes import NAMES, SizeTarget, StudentShape, candidates, meets
from tests.conftest import SCRIPTS

TEACHER = ParameterCount(total=400_000_000, embeddings=16_384_000, per_token=400_000_000)
PIECES = (8000, 8000)


@pytest.mark.parametrize(("shape", "name"), NAMES.items(), ids=NAMES.values())
def test_the_grid_holds_all_named_students_as_their_configs_have_them(shape, name):
    config = OmegaConf.load(SCRIPTS / "conf" / "student" / f"{name}.yaml")
    assert {"encoder": config.encoder, "decoder": config.decoder} == shape.sides
    assert shape.overrides() == [f"student={name}"]
    assert shape in {candidate.shape for candidate in candidates(TEACHER, PIECES, True, SizeTarget())}


def test_every_file_of_a_size_is_named():
    files = {path.stem for path in (SCRIPTS / "conf" / "student").glob("*.yaml")}
    assert files == {*NAMES.values(), "self"}


def test_a_shape_between_the_studys_is_said_in_the_models_own_keys():
    overrides = StudentShape(2, 1, 512).overrides()
    assert {"model.encoder.num_layers=2", "model.decoder.num_layers=1", "model.encoder.pre_ln=true"} < set(overrides)
    assert "model.decoder.num_attention_heads=8" in overrides


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (SizeTarget(parameters=10_000_000), lambda candidate: candidate.count.total <= 10_000_000),
        (SizeTarget(bytes=10_000_000, dtype="float16"), lambda candidate: 2 * candidate.count.total <= 10_000_000),
        (SizeTarget(megabytes=10), lambda candidate: candidate.megabytes <= 10),
        (
            SizeTarget(tokens_per_second=4000, teacher_tokens_per_second=100),
            lambda candidate: candidate.count.per_token <= 400_000_000 / 40,
        ),
    ],
)
def test_a_target_keeps_the_students_within_it_and_no_others(target, kept):
    every = candidates(TEACHER, PIECES, True, target)
    assert [meets(candidate, target) for candidate in every] == [kept(candidate) for candidate in every]
    assert {True, False} == {meets(candidate, target) for candidate in every}


def test_students_are_smaller_than_the_teacher_and_the_largest_comes_first():
    small = ParameterCount(total=6_000_000, embeddings=2_000_000, per_token=6_000_000)
    totals = [candidate.count.total for candidate in candidates(small, PIECES, True, SizeTarget())]
    assert totals == sorted(totals, reverse=True)
    assert 0 < len(totals) < 60 and totals[0] < 6_000_000


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ({"speedup": 0}, "target.speedup=0"),
        ({"parameters": -1}, "target.parameters=-1: must be null or a whole number above 0"),
        ({"bytes": 1, "dtype": "int8"}, "target.dtype=int8: must be one of float32, float16, bfloat16"),
        ({"tokens_per_second": 10}, "give teacher_tokens_per_second"),
    ],
)
def test_a_target_that_asks_the_impossible_is_told(target, sentence):
    assert any(sentence in problem for problem in read_section(SizeTarget, target, "target")[1])


def test_int8_takes_a_byte_for_a_weight_and_four_for_what_stays_a_float():
    for candidate in candidates(TEACHER, PIECES, True, SizeTarget()):
        assert candidate.count.total < 1e6 * candidate.megabytes < 1.3 * candidate.count.total
