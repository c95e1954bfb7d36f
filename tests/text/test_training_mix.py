import copy
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.text.training_mix import mix_training_data, mixed_files, training_mix_problems, training_pairs
from tests.conftest import composed


@pytest.fixture
def files(tmp_path):
    for name, lines in (("train", 40), ("pseudo", 60), ("mono", 30)):
        for side in ("src", "tgt"):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{name} {number}\n" for number in range(lines)))
    return tmp_path


def config(files, *overrides):
    text = [f"model.train_ds.{side}_file_name={files}/train.{side}" for side in ("src", "tgt")]
    return composed("aayn_base_distill", *text, *overrides)


def pseudo(files, name="pseudo"):
    where = f"model.distillation.mix.corpora.{name}"
    return [f"++{where}.source={files}/{name}.src", f"++{where}.target={files}/{name}.tgt"]


def mixed(files, method, *overrides):
    """Trains on a mix, and returns its lines by corpus, after checking that its sides are parallel."""
    cfg = config(files, f"distillation={method}", *pseudo(files), *overrides)
    model = OmegaConf.to_container(cfg.model, resolve=True)
    section, problems = read_distillation(model, "model.distillation")
    assert problems == [] and training_mix_problems(model, section.mix) == []
    mix_training_data(cfg.model, files)
    paths = (cfg.model.train_ds.src_file_name, cfg.model.train_ds.tgt_file_name)
    lines = [Path(path).read_text().split("\n")[:-1] for path in paths]
    assert lines[0] == lines[1]
    found = {name: [line for line in lines[0] if line.startswith(name)] for name in ("train", "pseudo", "mono")}
    return {name: of_corpus for name, of_corpus in found.items() if of_corpus}


@pytest.mark.parametrize(
    ("method", "counts"),
    [
        ("seq_level", {"train": 40, "pseudo": 360}),
        ("seq_interpolation", {"pseudo": 60}),
        ("hybrid", {"train": 40, "pseudo": 78}),
        ("low_data", {"train": 2, "pseudo": 4}),
    ],
)
def test_each_method_has_its_proportions(files, method, counts):
    found = mixed(files, method)
    assert {name: len(lines) for name, lines in found.items()} == counts
    for name, lines in found.items():
        assert len(set(lines)) == min(len(lines), {"train": 40, "pseudo": 60}[name])


def test_monolingual_pseudo_labels_are_one_corpus_more(files):
    found = mixed(files, "hybrid", *pseudo(files, "mono"), "+model.distillation.mix.corpora.mono.share=0.34")
    assert {name: len(lines) for name, lines in found.items()} == {"train": 40, "pseudo": 78, "mono": 40}


def test_the_students_config_keeps_what_was_mixed(files):
    cfg = config(files, "distillation=low_data", *pseudo(files))
    read = mixed_files(OmegaConf.to_container(cfg.model))
    mix_training_data(cfg.model, files)
    assert mixed_files(OmegaConf.to_container(cfg.model)) == read  # which a teacher cache must have been made of
    assert [path.name for path in read] == ["train.src", "train.tgt", "pseudo.src", "pseudo.tgt"]
    record = cfg.model.distillation.mix.made
    assert record.corpora.real == {"pairs": 40, "used": 2, "lines": 2, "left_out": {}}
    assert [file.name for file in record.settings.corpora.pseudo.sources] == ["pseudo.src"]


def test_the_files_are_those_that_a_model_reads_as_source_and_as_target(files):
    overrides = ["distillation=low_data", *pseudo(files)]
    pairs, swapped = (
        training_pairs(
            OmegaConf.to_container(config(files, *overrides, f"model.train_ds.reverse_lang_direction={value}").model)
        )
        for value in (False, True)
    )
    assert [path.name for path in pairs[1]] == ["pseudo.src", "pseudo.tgt"]
    assert swapped == [pair[::-1] for pair in pairs]


@pytest.mark.parametrize(("key", "said"), [("source", "2 files and target 1"), ("weights", "1 files and weights 2")])
def test_the_files_of_the_training_must_fit_those_that_real_has_itself(files, key, said):
    named = f"++model.distillation.mix.corpora.real.{key}=[{files}/train.src,{files}/mono.src]"
    cfg = config(files, "distillation=hybrid", *pseudo(files), named)
    model = OmegaConf.to_container(cfg.model, resolve=True)
    section, problems = read_distillation(model, "model.distillation")
    (problem,) = problems + training_mix_problems(model, section.mix)
    assert problem.startswith(f"model.distillation.mix.corpora.real.source names {said}")


def test_files_of_the_training_that_do_not_fit_each_other_are_no_mistake_of_real(files):
    unequal = f"model.train_ds.src_file_name=[{files}/train.src,{files}/mono.src]"
    model = OmegaConf.to_container(config(files, "distillation=hybrid", *pseudo(files), unequal).model, resolve=True)
    section, _ = read_distillation(model, "model.distillation")
    assert not training_mix_problems(model, section.mix)


def test_a_tag_is_refused_where_it_would_stand_before_what_the_model_writes(files):
    cfg = config(files, "distillation=hybrid", *pseudo(files), "+model.distillation.mix.corpora.pseudo.tag='<BT>'")
    model = OmegaConf.to_container(cfg.model, resolve=True)
    section, _ = read_distillation(model, "model.distillation")
    assert training_mix_problems(model, section.mix) == []
    (problem,) = training_mix_problems(
        model | {"train_ds": {**model["train_ds"], "reverse_lang_direction": True}}, section.mix
    )
    assert problem.startswith(
        "model.distillation.mix.corpora.pseudo.tag=<BT>: model.train_ds.reverse_lang_direction=true"
    )


def test_without_corpora_nothing_is_mixed(files):
    cfg = config(files)
    before = copy.deepcopy(cfg)
    mix_training_data(cfg.model, files / "nowhere")
    assert cfg == before


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["distillation=hybrid"], "model.distillation.mix.corpora.pseudo.source has no value; give it"),
        (["model.distillation.mix.corpora.pseudo.share=-1"], "mix.corpora.pseudo.share=-1: must be a number above 0"),
        (["+model.distillation.mix.temperature=2"], "model.distillation.mix has the unknown key 'temperature'"),
        (["+model.distillation.mix.corpora.mono={source: no.de, target: no.en, share: 1}"], "names 'no.de', which does"),
        (["model.distillation.mix.base=mono"], "mix.base=mono: must be null or one of real, pseudo"),
        (["model.train_ds.metadata_file=a.json"], "model.distillation.mix needs text files, but model.train_ds.metadata_file"),
    ],
)  # fmt: skip
def test_mistakes_are_told(files, teacher_path, overrides, sentence):
    given = [] if overrides[0].startswith("distillation") else ["distillation=hybrid", *pseudo(files)]
    cfg = config(files, f"model.distillation.model_path={teacher_path}", *given, *overrides)
    with pytest.raises(ConfigurationError, match=sentence.replace("[", r"\[")):
        check_distillation_job(cfg)
