import pytest

from nemo_distill.experiments import comparison, comparison_plan
from nemo_distill.experiments.comparison_section import read_comparison
from tests.conftest import composed


@pytest.fixture
def shipped(tmp_path):
    return composed("demo", f"output_dir={tmp_path}", "corpus.generate.train=50", "corpus.generate.monolingual=5")


@pytest.fixture
def demo(shipped):
    """The demo with one method that needs no labels."""
    shipped.labels, shipped.caches, shipped.methods = {}, {}, {"distilled": ["distillation=word_level_kl"]}
    return shipped


def plan_runs(cfg):
    return comparison_plan.plan_runs(read_comparison(cfg))


def check_comparison(cfg):
    comparison.check_comparison(read_comparison(cfg))


def prepare_corpus(cfg):
    comparison.prepare_corpus(read_comparison(cfg).corpus)


def finish(run):
    """Leaves what a step leaves that has finished."""
    run.folder.mkdir(parents=True)
    if run.model_path:
        run.model_path.write_bytes(b"weights")
    run.work.finish({"seconds": 1.0})
