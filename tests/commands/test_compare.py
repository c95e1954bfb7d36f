"""Mistakes in the jobs of a comparison are told before the first job starts."""

from types import SimpleNamespace

import pytest

from nemo_distill.commands import compare
from nemo_distill.commands.compare import check_plan
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.comparison_section import read_comparison
from tests.conftest import composed


@pytest.fixture
def problems(corpus, teacher_path, tmp_path):
    """The problems of a pipeline with some overrides."""

    def found(*overrides, config="pipeline"):
        given = [] if config == "demo" else [f"teacher={teacher_path}", f"corpus.folder={corpus}", "corpus.source=de"]
        given += [f"corpus.monolingual={corpus}/test.de"] if config == "pipeline" else []
        comparison = read_comparison(composed(config, f"output_dir={tmp_path / 'runs'}", *given, *overrides))
        try:
            check_plan(comparison)
        except ConfigurationError as error:
            return error.problems
        finally:
            assert not (tmp_path / "runs").exists()
        return []

    return found


@pytest.mark.parametrize("config", ["pipeline", "pipeline_small", "demo"])
def test_a_shipped_comparison_has_none(problems, config):
    assert problems(config=config) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("students=['student=slimm_3x3']", ["baselines.baseline, methods.hybrid, methods.noisy:", "slimm_3x3", "slim_3x3"]),
        ("methods.noisy=['model.distillation.temprature=2']", ["methods.noisy:", "temprature", "'temperature'?"]),
        ("methods.noisy=['model.distillation.temperature=-2']", ["methods.noisy:", "temperature=-2"]),
        ("overrides=['model.train_ds.tokens_in_batch=-1']", ["baselines.baseline, methods.hybrid, methods.noisy:", "model.train_ds.tokens_in_batch=-1"]),
        ("labels.mono=['source={corpus}/test.de','search.beem_size=1']", ["labels.mono:", "beem_size", "'beam_size'?"]),
        ("+baselines.other=['init_from_nemo_model={runs}/nobody_seed0/model.nemo']", ["baselines.other:", "nobody_seed0"]),
        ("pseudo=['model.distillation.mix.corpora.pseudo.source={runs}/label_train/pseudo.src','model.distillation.mix.corpora.pseudo.target={runs}/labels_train/pseudo.tgt']",
         ["methods.hybrid:", "label_train/pseudo.src"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_the_key_of_its_job(problems, corpus, tmp_path, override, said):
    (problem,) = problems(override.format(corpus=corpus, runs=tmp_path / "runs"))
    assert problem.startswith(said[0])
    assert all(words in problem for words in said)


def test_mistakes_of_several_jobs_are_told_together(problems):
    found = problems("methods.noisy=['model.distillation.temprature=2']", "methods.hybrid=['distillation=hibrid']")
    assert [problem.partition(":")[0] for problem in found] == ["methods.hybrid", "methods.noisy"]


def test_text_that_another_job_will_select_from_finished_labels_may_be_missing(corpus, teacher_path, tmp_path):
    runs = tmp_path / "runs"
    folder = runs / "labels_train"
    labels = [f"source={corpus}/train.de", f"output_dir={folder}", "name=four", "label_weights=rank"]
    files = {"source": "src", "target": "tgt", "weights": "weights"}
    mixed = [f"model.distillation.mix.corpora.pseudo.{key}={folder}/four.{end}" for key, end in files.items()]
    given = [f"output_dir={runs}", f"teacher={teacher_path}", f"corpus.folder={corpus}", "corpus.source=de"]
    given += [
        f"corpus.monolingual={corpus}/test.de",
        f"+labels.four={[*labels, 'labels_per_source=4', 'search.n_best=4', 'search.beam_size=4']}",
    ]
    given.append(f"methods.hybrid={['distillation=hybrid', *mixed]}")
    comparison = read_comparison(composed("pipeline", *given))
    (train,) = (run for run in plan_runs(comparison) if run.group == "labels_train")
    train.work.finish({"seconds": 1.0})
    assert train.is_done and check_plan(comparison) is None


def test_the_report_shows_the_metric_of_the_evaluation(tmp_path, monkeypatch):
    shown = []
    for name in ("check", "prepare_corpus", "do_steps", "print_evaluation"):
        monkeypatch.setattr(compare, name, lambda *arguments: None)
    monkeypatch.setattr(compare, "plotting_problems", lambda what: [])
    job = SimpleNamespace(folder=tmp_path, main_metric="chrF", run=dict)
    monkeypatch.setattr(compare, "evaluation_of", lambda config: job)
    monkeypatch.setattr(compare, "write_report", shown.append)
    compare.main(composed("demo", f"output_dir={tmp_path}", "report=true"))
    assert [config.metric for config in shown] == ["chrF"]
