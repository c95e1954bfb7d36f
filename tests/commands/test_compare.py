"""Mistakes in the jobs of a comparison are told before the first job starts."""

from types import SimpleNamespace

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from nemo_distill.commands import compare
from nemo_distill.commands.compare import Composer, check_plan
from nemo_distill.commands.jobs import composed_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.override_mistakes import composition_problem
from nemo_distill.config.overrides import read_override
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.comparison_section import read_comparison
from tests.conftest import composed


def assert_composed_alike(*comparisons):
    """Checks that jobs have the configurations that their commands compose.

    Of jobs whose overrides differ only in the values of single keys, the first is checked: Hydra itself sets such keys.
    """
    composer, checked = Composer(), set()
    for run in (run for config in comparisons for run in plan_runs(config) if run.arguments):
        kinds = {(run.job, *kind_of(override)) for override in map(read_override, run.overrides)}
        if kinds <= checked:
            continue
        checked |= kinds
        quick, whole = (compose(run.job, run.overrides) for compose in (composer.composed, composed_job))
        assert quick == whole and OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(whole)


def kind_of(override):
    """Of a single key, its name, how it is set, and the type of its value; of a file or a section, everything."""
    if "." in override.key_or_group:
        return override.type, override.key_or_group, type(override.value())
    return (override.input_line,)


@pytest.fixture
def problems(corpus, teacher_path, tmp_path):
    """The problems of a pipeline with some overrides."""

    def found(*overrides, config="pipeline", folder=tmp_path / "runs"):
        given = [] if config == "demo" else [f"teacher={teacher_path}", f"corpus.folder={corpus}", "corpus.source=de"]
        given += [f"corpus.monolingual={corpus}/test.de"] if config == "pipeline" else []
        comparison = read_comparison(composed(config, f"output_dir={folder}", *given, *overrides))
        try:
            check_plan(comparison)
        except ConfigurationError as error:
            return error.problems
        finally:
            assert not (tmp_path / "runs").exists()
        return []

    return found


@pytest.mark.parametrize("folder", ["./runs", "runs/", ".//runs/."])
def test_a_folder_may_be_written_in_several_ways(problems, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert problems(folder=folder) == []


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
        ("+methods.noisy=['do_training=false']", ["methods.noisy:", "do_training=false", ".nemo"]),
        ("+methods.noisy=['++exp_manager.checkpoint_callback_params.dirpath=kept']", ["methods.noisy:", "dirpath=kept", ".nemo"]),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_the_key_of_its_job(problems, corpus, tmp_path, override, said):
    (problem,) = problems(override.format(corpus=corpus, runs=tmp_path / "runs"))
    assert problem.startswith(said[0])
    assert all(words in problem for words in said)


@pytest.mark.parametrize(
    ("overrides", "named", "writes"),
    [
        (["distillation=word_level_kl", "+init_from_nemo_model={runs}/hybrid_seed0/checkpoints/AAYNBaseDistill.nemo"],
         "hybrid_seed0/checkpoints/AAYNBaseDistill.nemo", "methods.hybrid does not write; it writes model.nemo."),
        (["distillation=hybrid"] + [f"model.distillation.mix.corpora.pseudo.{key}={{runs}}/labels_train/{file}" for key, file in
          (("source", "psuedo.src"), ("target", "pseudo.tgt"))],
         "labels_train/psuedo.src", "labels.train does not write; it writes pseudo.src, pseudo.tgt."),
        (["distillation=hybrid"] + [f"model.distillation.mix.corpora.pseudo.{key}={{runs}}/labels_train/pseudo.{file}" for key, file in
          (("source", "src"), ("target", "tgt"), ("weights", "weights"))],
         "labels_train/pseudo.weights", "labels.train does not write; it writes pseudo.src, pseudo.tgt."),
    ],
)  # fmt: skip
def test_a_file_that_the_job_of_its_folder_does_not_write_is_told_with_what_it_writes(
    problems, tmp_path, overrides, named, writes
):
    runs = tmp_path / "runs"
    (problem,) = problems(f"methods.noisy={[override.format(runs=runs) for override in overrides]}")
    assert problem == f"methods.noisy names '{runs}/{named}', which {writes}"


def test_a_file_beside_a_folder_that_a_job_will_write_is_told(problems, tmp_path):
    """Its path ends as that of a planned one."""
    files = [f"{tmp_path}/other{tmp_path}/runs/labels_train/pseudo.{side}" for side in ("src", "tgt")]
    mixed = [f"model.distillation.mix.corpora.pseudo.{key}={file}" for key, file in zip(("source", "target"), files)]
    found = problems(f"methods.noisy={['distillation=hybrid', *mixed]}")
    assert len(found) == 2 and all(file in problem for file, problem in zip(files, found))


def test_a_job_may_read_all_that_another_one_writes(problems, corpus, tmp_path):
    folder = tmp_path / "runs" / "labels_train"
    kept = [f"source={corpus}/train.de", "keep_dropped=true", "keep_hypotheses=true"]
    read = [f"source=[{folder}/pseudo.dropped.tsv,{folder}/pseudo.hypotheses.tsv,{folder}/pseudo.src]"]
    second = [f"source={corpus}/train.de", f"output_dir={folder}", "name=second"]
    assert problems(f"labels.train={kept}", f"+labels.read={read}", f"+labels.same={second}") == []


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


@pytest.mark.parametrize("config", ["pipeline", "pipeline_small", "demo"])
def test_the_jobs_of_a_shipped_comparison_are_composed_as_their_commands_do(corpus, config):
    given = [] if config == "demo" else [f"corpus.folder={corpus}", "teacher=teacher.nemo", "corpus.source=de"]
    given += ["corpus.monolingual=mono.de"] if config == "pipeline" else []
    assert_composed_alike(read_comparison(composed(config, *given)))


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.distillation.tempreature=2"],
        ["~model.nothing"],
        ["distillation=hibrid"],
        ["student=slim_3x3", "+student=slim_1x1"],
        ["+model.beam_size=4"],
        ["model.encoder=3", "model.encoder.num_layers=2"],
        ["schedule=study", "trainer.max_steps=7", "++a.b=1", "~model.test_ds"],
        ["++trainer.max_steps=1", "++trainer=null"],
        ["++model={beam_size: 7}", "model.beam_size=3"],
        ["foo@bar=baz"],
        ["model.beam_size=1,2"],
        ["model.beam_size=["],
        ["model.src_language=${nothing}"],
        ["hydra.job.name=x"],
    ],
)
def test_overrides_are_composed_as_a_command_does_also_in_odd_orders(overrides):
    composer = Composer()
    as_text(composer.composed, [*overrides, "model.label_smoothing=0.3"])  # another job with the same files
    made = [as_text(compose, overrides) for compose in (composer.composed, composer.composed, composed_job)]
    assert made[0] == made[1] == made[2]


def as_text(compose, overrides):
    try:
        return OmegaConf.to_yaml(compose("distill", overrides))
    except HydraException as error:
        return composition_problem(error)


def test_the_report_shows_the_metric_of_the_evaluation(tmp_path, monkeypatch):
    shown = []
    for name in ("checked", "prepare_corpus", "do_steps", "print_evaluation"):
        monkeypatch.setattr(compare, name, lambda *arguments: [])
    monkeypatch.setattr(compare, "plotting_problems", lambda what: [])
    job = SimpleNamespace(folder=tmp_path, main_metric="chrF", run=dict)
    monkeypatch.setattr(compare, "evaluation_of", lambda config: job)
    monkeypatch.setattr(compare, "write_report", shown.append)
    compare.main(composed("demo", f"output_dir={tmp_path}", "report=true"))
    assert [config.metric for config in shown] == ["chrF"]
