import pytest
from omegaconf import OmegaConf, open_dict

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.overrides import parsed
from nemo_distill.experiments.comparison_section import read_comparison
from tests.experiments.conftest import check_comparison, plan_runs


def test_the_name_of_an_export_is_refused_before_anything_is_trained(demo):
    demo.methods = {"baseline_int8": ["distillation=word_level_kl"]}
    with pytest.raises(
        ConfigurationError, match="methods.baseline_int8 has the name that the export of baseline gets"
    ):
        check_comparison(demo)
    demo.evaluation = {"export": None}
    check_comparison(demo)


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        ([], r"corpus.test=\[\]: name at least one"),
        (["test", "test"], "corpus.test names 'test' twice"),
        (["test", "news"], "the generated corpus has one test set"),
    ],
)
def test_test_sets_that_cannot_be_are_refused(demo, tests, problem):
    demo.corpus.test = tests
    with pytest.raises(ConfigurationError, match=problem):
        check_comparison(demo)


def test_overrides_that_hydra_cannot_read_are_told_all_at_once(demo):
    demo.methods = {"hot": ["a=[1"], "cold": ["b=1", "model.c"]}
    with pytest.raises(ConfigurationError) as told:
        check_comparison(demo)
    assert len(told.value.problems) == 2
    assert "methods.hot: 'a=[1'" in told.value.problems[0] and "methods.cold: 'model.c'" in told.value.problems[1]


def test_a_name_with_one_seed_that_is_no_model_is_told(demo):
    with open_dict(demo):
        demo.one_seed = ["hybird"]
    with pytest.raises(ConfigurationError, match="one_seed names 'hybird'; the baselines and methods are baseline, "):
        read_comparison(demo)


def test_paths_that_hydra_would_read_as_something_else_are_quoted(demo, tmp_path):
    with open_dict(demo):
        demo.output_dir, demo.teacher = "läufe (1)", "'Müller #2'.nemo"
    (run, *_) = [run for run in plan_runs(demo) if run.group == "distilled"]
    values = dict(map(parsed, run.overrides))
    assert values["model.distillation.model_path"] == "'Müller #2'.nemo"
    assert values["exp_manager.explicit_log_dir"] == f"läufe (1)/{run.folder.name}"


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("methods", {"baseline": []}, "methods.baseline: another model"),
        ("baselines", {"teacher": []}, "baselines.teacher: another model"),
        ("methods", {"hot": "temperature=5"}, "methods.hot=temperature=5: must be a list of overrides"),
        ("seeds", 3, "seeds=3: must be a list of different whole numbers"),
        ("seeds", [0, 0], "seeds=[0, 0]: must be a list of different whole numbers"),
        ("corpus.target", None, "corpus.target=null"),
        ("corpus.folders", "a", "corpus has the unknown key 'folders'"),
        ("evaluation.metrics", ["BLUE"], "evaluation.metrics[0]=BLUE"),
        ("evaluation.device", "tpu", "evaluation.device=tpu"),
        ("methods.hot", [5], "methods.hot has 5"),
        ("methods.a/b", [], "methods.a/b: a name"),
        ("vocab_size", None, "vocab_size has no value"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_key(demo, key, value, told):
    OmegaConf.update(demo, key, value, force_add=True)
    with pytest.raises(ConfigurationError) as raised:
        read_comparison(demo)
    assert any(problem.startswith(told) for problem in raised.value.problems), raised.value.problems
