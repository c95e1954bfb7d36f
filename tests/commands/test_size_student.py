import pytest
from hydra import compose, initialize_config_dir

from nemo_distill.commands.size_student import SizingConfig, check_sizing, run_sizing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.evaluation.student_sizes import SizeTarget
from tests.conftest import SCRIPTS, tiny_config


def config(*overrides):
    with initialize_config_dir(str(SCRIPTS / "conf"), version_base=None):
        return compose("size_student", list(overrides))


@pytest.fixture(scope="module")
def large_teacher(tokenizer, tmp_path_factory):
    """Large enough for students of the grid to be smaller."""
    from nemo_distill import DistillableMTEncDecModel

    path = tmp_path_factory.mktemp("large") / "teacher.nemo"
    size = {"hidden_size": 256, "inner_size": 1024, "num_layers": 3, "num_attention_heads": 4}
    DistillableMTEncDecModel(tiny_config(tokenizer, seed_size=size)).save_to(str(path))
    return path


def test_the_largest_students_that_meet_the_target_are_printed_with_their_overrides(large_teacher, capfd):
    cfg = config(f"teacher={large_teacher}", "target.parameters=3000000")
    found = run_sizing(read_config(SizingConfig, cfg))
    assert found[0].count.total <= 3_000_000 and found[0].shape.width == 256
    assert f"{found[0].count.total:,}" in capfd.readouterr().out


def test_a_target_below_all_students_is_told(large_teacher):
    assert run_sizing(SizingConfig(large_teacher, target=SizeTarget(parameters=10))) == []


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        check_sizing(
            config(f"teacher={tmp_path}/none.nemo", "target.dtype=int4", "shown=0", "shared_embeddings=maybe")
        )
    keys = ["shared_embeddings=maybe", "shown=0", "target.dtype=int4", "target.parameters=null"]
    *others, teacher = sorted(raised.value.problems, key=lambda problem: problem.startswith("teacher="))
    assert [problem.partition(":")[0].partition(",")[0] for problem in sorted(others)] == keys
    assert teacher.startswith(f"teacher={tmp_path}/none.nemo:")
