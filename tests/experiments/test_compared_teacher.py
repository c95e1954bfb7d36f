"""Teachers that a comparison is given: folders of Hugging Face, and models of several languages."""

import shutil
from dataclasses import replace

import pytest

from nemo_distill.commands.compare import check_plan
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.experiments.compared_teacher import ComparedTeacher
from nemo_distill.experiments.comparison import evaluation_of
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.comparison_section import read_comparison
from tests.conftest import composed
from tests.examples.bad_files import MODEL, write_nemo
from tests.hugging_face_folders import write_folder


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    parent = tmp_path_factory.mktemp("folders")
    return {name: write_folder(name, parent / name, corpus) for name in ("marian", "marian_with_tags", "nllb")}


@pytest.fixture
def compare(corpus, tmp_path):
    def read(*overrides):
        given = [f"corpus.folder={corpus}", "corpus.source=de", f"output_dir={tmp_path / 'runs'}", *overrides]
        return read_comparison(composed("pipeline_small", *given))

    return read


@pytest.mark.parametrize(
    ("family", "asked", "told"),
    [
        ("marian", [], []),
        ("nllb", [], ["source_language=de", "target_language=en"]),
        ("nllb", ["target_language=fra"], ["source_language=de", "target_language=fra"]),
        ("marian_with_tags", ["target_language=spa"], ["target_language=spa"]),
    ],
)
def test_all_jobs_are_told_what_a_folder_must_be_told(folders, compare, family, asked, told):
    config = compare(f"teacher={folders[family]}", "more=['model.shared_embeddings=false']", *asked)
    check_plan(config)
    runs = {run.folder.name: run.overrides for run in plan_runs(config) if run.arguments}
    labels = runs.pop("labels_train")
    assert {f"model={folders[family]}", *told} <= set(labels)
    assert len([one for one in labels if "_language=" in one]) == len(told)
    for training in runs.values():
        languages = [one.removeprefix("model.distillation.") for one in training if "_language=" in one]
        assert languages == told and f"model.distillation.model_path={folders[family]}" in training
    (teacher,) = evaluation_of(config).systems
    assert teacher.engine == "hugging_face"
    assert [f"{key}_language={one}" for key, one in zip(("source", "target"), teacher.languages) if one] == told


@pytest.mark.parametrize(
    ("family", "asked", "said"),
    [
        ("marian_with_tags", [], "teacher: target_language has no value: the model knows fra, spa"),
        ("nllb", ["target_language=xyz"], "teacher: target_language=xyz: "),
        ("nllb", ["source_language=xyz"], "teacher: source_language=xyz: "),
        ("marian", ["source_language=de"], "teacher: source_language=de: this model has no languages to choose from"),
    ],
)
def test_languages_that_a_folder_lacks_or_does_not_know_are_told(folders, compare, family, asked, said):
    with pytest.raises(ConfigurationError, match=said) as told:
        check_plan(compare(f"teacher={folders[family]}", *asked))
    assert len(told.value.problems) == 1


def test_a_comparison_inside_its_teachers_folder_is_refused(folders, compare):
    with pytest.raises(ConfigurationError, match="output_dir=.*runs: lies in the teacher's folder"):
        check_plan(compare(f"teacher={folders['nllb']}", f"output_dir={folders['nllb']}/runs"))


def test_labels_of_another_model_are_not_told_the_teachers_languages(folders, compare, teacher_path, corpus):
    other = [f"source={corpus}/test.de", f"model={teacher_path}"]
    read = [f"model.distillation.mix.corpora.pseudo.{key}=${{output_dir}}/labels_other/pseudo.{ending}"
            for key, ending in (("source", "src"), ("target", "tgt"))]  # fmt: skip
    config = compare(
        f"teacher={folders['nllb']}", f"+labels.other={other}", f"methods.hybrid={['distillation=hybrid', *read]}"
    )
    (labels,) = (run.overrides for run in plan_runs(config) if run.folder.name == "labels_other")
    assert labels[0] == f"model={folders['nllb']}" and labels[-1] == f"model={teacher_path}"
    assert not [one for one in labels if "_language=" in one]


def test_a_student_of_a_folder_that_has_changed_is_not_used(folders, compare, tmp_path):
    folder = shutil.copytree(folders["marian"], tmp_path / "marian")
    config = compare(f"teacher={folder}", "more=['model.shared_embeddings=false']")
    (before,) = (run for run in plan_runs(config) if run.folder.name == "baseline_seed0")
    before.folder.mkdir(parents=True)
    before.model_path.write_bytes(b"weights")
    before.work.finish({"seconds": 1.0})
    assert before.changes() == []
    (folder / "generation_config.json").unlink()
    (after,) = (run for run in plan_runs(config) if run.folder.name == "baseline_seed0")
    assert after.changes() == [f"'{folder}' has changed since"]


MANY_TO_ONE = {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"}
ONE_TO_MANY = {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"]}


@pytest.mark.parametrize(
    ("languages", "asked", "told"),
    [
        ({}, None, []),
        (MANY_TO_ONE, None, ["src_language=de", "tgt_language=en"]),
        (ONE_TO_MANY, None, ["tgt_language=en"]),
        (ONE_TO_MANY, "fr", ["tgt_language=fr"]),
    ],
)
def test_a_student_of_a_multilingual_nemo_learns_one_of_its_languages(compare, tmp_path, languages, asked, told):
    path = tmp_path / "teacher.nemo"
    write_nemo(path, {**MODEL, **languages}, b"pieces")
    teacher = ComparedTeacher(replace(compare(f"teacher={path}"), target_language=asked))
    assert teacher.problems() == [] and teacher.engine == "nemo_distill"
    assert teacher.of_trainings() == [f"model.distillation.model_path={path}", *(f"model.{one}" for one in told)]
    labelled = [one.replace("src_", "source_").replace("tgt_", "target_") for one in told]
    assert teacher.of_labels() == [f"model={path}", *labelled]


def test_a_language_that_a_nemo_does_not_know_is_told(compare, tmp_path):
    path = tmp_path / "teacher.nemo"
    write_nemo(path, {**MODEL, **ONE_TO_MANY}, b"pieces")
    assert ComparedTeacher(compare(f"teacher={path}", "corpus.target=xx")).problems() == [
        "teacher: target_language has no value: the model is multilingual and knows en, fr."
    ]


def test_a_teacher_that_is_trained_has_no_choice_of_languages():
    with pytest.raises(ConfigurationError, match="target_language=fr: a teacher that is to be trained has no lang"):
        read_comparison(composed("demo", "+target_language=fr"))
