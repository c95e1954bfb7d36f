"""What is wrong with the configuration of a labelling job is told before anything is translated."""

import pytest

from nemo_distill.commands import labelling_config
from nemo_distill.commands.generate_pseudo_labels import check_labelling, labelling_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.trainer import precision
from tests.commands.test_generate_pseudo_labels import config

MISTAKES = [
    (["source=nowhere.de"], "source names 'nowhere.de', which does not exist"),
    (["source={files}/empty"], "source names '{files}/empty', which is empty"),
    (["reference=nowhere.en"], "reference names 'nowhere.en', which does not exist"),
    (["reference=[{files}/text.en,{files}/text.en]"], "reference names 2 files and source 1; they go in pairs"),
    (["reference={files}/text.de"], "reference: '{files}/text.de' is source and reference; the reference is"),
    (["reference={files}/short.en"], "'{files}/text.de' has 130 lines and '{files}/short.en' has 1; they must be parallel"),
    (["model=nowhere.nemo"], "model names 'nowhere.nemo', which does not exist"),
    (["model=[{files}/teacher.nemo,{files}/teacher.nemo]", "engine=nemo"], "model names 2 files, but engine=nemo"),
    (["weights=[1,2]"], "weights=[1.0, 2.0]: must be null or a number above 0 for each of the 1 models"),
    (["dtype=int4"], "dtype=int4: must be null or one of float32, float16, bfloat16"),
    (["engine=ctranslate2", "search.length_penalty_form=wu"], "search.length_penalty_form=wu: CTranslate2 supports only power for a beam"),
    (["engine=hugging_face"], "engine=hugging_face needs a folder with config.json"),
    (["engine=file", "model={files}/text.en", "search.n_best=2"], "search has no effect with engine=file"),
    (["file.format=moses"], "file has no effect with engine=nemo_distill"),
    (["engine=file", "model={files}/text.en", "file.format=moses"], "model: '{files}/text.en', line 1: is not '0 |||"),
    (["engine=file", "model={files}/late.tsv", "file.format=tsv"], "model has a translation of line 131, and source has 130"),
    (["engine=file", "model={files}/text.en", "filters.score_quantile=0.1"], "filters.score_quantile needs scores"),
    (["engine=file", "model={files}/text.en", "selection=mbr"], "model has one translation of each line: selection=mbr"),
    (["selection=mbr"], "search.n_best=1: selection=mbr chooses from at least 2 hypotheses"),
    (["selection=quality"], "selection=quality needs scores: give quality.file or quality.command"),
    (["engine=file", "model={files}/scored.tsv", "file.format=tsv", "selection=quality"], "quality.metric has no value"),
    (["engine=file", "model={files}/scored.tsv", "file.format=tsv", "selection=quality", "more_labels=[x]"], "needs scores"),
    (["engine=file", "model={files}/scored.tsv", "file.format=tsv", "selection=quality", "quality={metric: MetricX, lower_is_better: true}"], "quality.lower_is_better=true: has no effect without"),
    (["quality={metric: COMET, file: {files}/text.en}"], "quality has no effect without selection=quality"),
    (["labels_per_source=2"], "labels_per_source=2: the teacher gives at most 1 hypotheses of a line"),
    (["metric=chrf"], "metric=chrf: has no effect with selection=one_best"),
    (["filters.reverse_score_quantile=0.3"], "filters.reverse_score_quantile=0.3: has no effect without reverse_model"),
    (["reverse_dtype=auto"], "reverse_dtype=auto: has no effect without reverse_model"),
    (["metric_language=de"], "metric_language=de: has no effect, because no hypotheses are compared by BLEU"),
    (["label_weights=rank"], "label_weights=rank has no effect with labels_per_source=1"),
    (["filters.consensus_quantile=0.1"], "filters.consensus_quantile compares at least 2 hypotheses"),
    (["more_labels=[{files}/nowhere]", "selection=mbr"], "more_labels: '{files}/nowhere' holds no finished labels"),
    (["more_labels=[{files}/labels]"], "more_labels has no effect with selection=one_best"),
    (["engine=api"], "api.url has no value; give the server's base URL"),
    (["engine=api", "api.url=http://127.0.0.1:1/v1"], "source_language has no value, but api.prompt contains {source_language}"),
    (["engine=api", "devices=2"], "devices and num_nodes must be 1 with engine=api"),
    (["engine=api", "search.method=sample"], "search has no effect with engine=api"),
    (["engine=api", "selection=mbr"], "api.samples=1: selection=mbr chooses from at least 2 hypotheses"),
    (["engine=api", "dtype=float16"], "dtype has no effect with engine=api"),
    (["engine=file", "model={files}/text.en", "weights=[2]"], "weights has no effect with engine=file"),
    (["engine=api", "filters.score_quantile=0.1"], "filters.score_quantile needs scores, and a server gives none"),
    (["api.url=http://127.0.0.1:1/v1"], "api has no effect with engine=nemo_distill"),
    (["search.epsilon=0.02", "search.method=sample", "engine=ctranslate2"], "search.epsilon=0.02: CTranslate2 has no epsilon"),
    (["engine=file", "model={files}/teacher.nemo"], "lines, and source has 130"),
    (["engine=nemo", "search.n_best=2"], "search.n_best=2: engine=nemo supports only n_best=1"),
    (["model={files}/text.de"], "model: '{files}/text.de' is not a .nemo file"),
    (["reverse_model=nowhere.nemo"], "reverse_model=nowhere.nemo: there is no file 'nowhere.nemo'"),
    (["search.n_best=9"], "search.n_best=9: must be from 1 to beam_size"),
    (["search.top_k=5"], "search.top_k=5: only samples are drawn by it; set method=sample"),
    (["metric_language=jp"], "metric_language=jp: no language has this code in ISO 639, BCP 47 or FLORES; the closest is ja"),
    (["moses=[de,german]"], "moses=german: no language has this code"),
    (["target_language=en"], "target_language=en: this model has no languages to choose from"),
    (["engine=file", "model={files}/text.en", "source_language=de"], "source_language=de: engine=file has no languages"),
    (["+search.beam=3"], "search has the unknown key 'beam'; the closest known key is 'beam_size'"),
    (["selection=interpolation"], "search.n_best=1: selection=interpolation chooses from at least 2 hypotheses"),
    (["selection=interpolation"], "selection=interpolation compares hypotheses with a reference"),
    (["name=manifest"], "name=manifest: must be the beginning of a file name, and none of manifest, settings"),
    (["name=bill"], "name=bill: must be the beginning of a file name, and none of manifest, settings, bill, engine"),
    (["name=a/b"], "name=a/b: must be the beginning of a file name"),
    (["output_dir={files}", "name=text", "source={files}/text.src"], "name=text would overwrite"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "sentence"), MISTAKES)
def test_each_mistake_is_told_and_nothing_is_written(files, overrides, sentence):
    (files / "empty").touch()
    (files / "short.en").write_text("one\n")
    (files / "late.tsv").write_text("131\tone\n")
    (files / "scored.tsv").write_text("1\tone\t0.5\n")
    (files / "text.src").write_text("one\n")
    with pytest.raises(ConfigurationError) as error:
        check_labelling(config(files, *(override.replace("{files}", str(files)) for override in overrides)))
    assert sentence.replace("{files}", str(files)) in str(error.value)
    assert not (files / "labels").exists()


@pytest.mark.parametrize("overrides", [["selection=mbr"], ["selection=quality", "quality.metric=COMET"]])
@pytest.mark.parametrize(
    ("model", "format", "sentence"),
    [
        ("nowhere.en", "lines", "model names '{files}/nowhere.en', which does not exist."),
        ("text.en", "tsv", "model: '{files}/text.en', line 1: has 1 columns"),
    ],
)
def test_files_that_cannot_be_read_are_told_alone(files, model, format, sentence, overrides):
    with pytest.raises(ConfigurationError) as error:
        check_labelling(config(files, "engine=file", f"model={files}/{model}", f"file.format={format}", *overrides))
    (problem,) = error.value.problems
    assert problem.startswith(sentence.format(files=files))


def test_a_type_given_with_an_engine_that_chooses_it_is_told(files):
    with pytest.raises(ConfigurationError, match="dtype=int8: has no effect with engine=auto"):
        check_labelling(config(files, "engine=auto", "dtype=int8"))


@pytest.mark.parametrize(("unit", "dtype", "reverse"), [("amx_bf16", "bfloat16", "bfloat16"), (None, None, "float32")])
def test_auto_is_bfloat16_where_a_training_would_take_it(files, trained_path, monkeypatch, unit, dtype, reverse):
    monkeypatch.setattr(precision, "bfloat16_unit", lambda accelerator: unit)
    monkeypatch.setattr(labelling_config, "model_width", lambda path: 512)
    found = labelling_job(config(files, "dtype=auto", "reverse_dtype=auto", f"reverse_model={trained_path}"))
    assert (found.config.dtype, found.config.reverse_dtype) == (dtype, reverse)
    settings = found.folder.settings
    assert settings["dtype"] == dtype and settings.get("reverse_dtype", "float32") == reverse
