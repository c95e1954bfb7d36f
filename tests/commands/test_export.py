"""`export` measures what an export costs, and makes shortlists."""

import json

import pytest

from nemo_distill.commands.export import ExportConfig, main
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export import shortlist
from nemo_distill.export.record import ExportRecord
from nemo_distill.text import languages
from tests.browsing import write_node_modules
from tests.conftest import changed_archive, composed, reversing_sentences

GREEDY = SearchSettings(beam_size=1, length_penalty=0.0)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A folder with a development set and parallel text for a model that reverses words."""
    folder = tmp_path_factory.mktemp("text")
    for name, count, seed in (("dev", 100, 5000), ("more", 300, 6000)):
        for ending, lines in zip(("de", "en"), reversing_sentences(count, seed)):
            (folder / f"{name}.{ending}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def config(*overrides):
    return composed("export", *overrides)


def development(text):
    return [f"development.source={text / 'dev.de'}", f"development.reference={text / 'dev.en'}"]


def aligned(text):
    return [f"shortlist.source={text / 'more.de'}", f"shortlist.target={text / 'more.en'}"]


def test_both_scores_are_recorded_with_their_signatures(trained_path, text, tmp_path, capsys):
    main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", "quantization=float16", *development(text)))
    quality = ExportRecord.read(tmp_path / "out").quality
    assert set(quality.scores) == {"float32", "export"}
    assert quality.source["name"] == "dev.de" and quality.beam_size == 4
    assert quality.scores["float32"].value > 50
    assert abs(quality.scores["float32"].value - quality.scores["export"].value) <= 0.3
    assert all("tok:13a" in score.signature for score in quality.scores.values())
    assert 0 < quality.p_values["export"] <= 1 and set(quality.p_values) == {"export"}
    assert quality.nats["export"] == pytest.approx(quality.nats["float32"], abs=0.01) and quality.nats["float32"] > 0
    shown = capsys.readouterr().out
    assert f"{quality.scores['export'].value:.2f}" in shown and f"{quality.nats['export']:.4f}" in shown


@pytest.mark.parametrize("format", ["hugging_face", "browser"])
def test_an_export_is_measured_by_its_own_search_or_graphs(format, trained_path, text, tmp_path):
    keys = [f"node_modules={write_node_modules(tmp_path / 'node_modules')}"] if format == "browser" else []
    main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", f"format={format}", *keys, *development(text)))
    quality = ExportRecord.read(tmp_path / "out").quality
    scores = quality.scores
    assert quality.nats == {}
    assert abs(scores["float32"].value - scores["export"].value) <= 0.3


def test_an_export_that_loses_too_much_is_not_written(trained_path, text, tmp_path, monkeypatch):
    """The weights are spoilt on their way, as a rounding that is too coarse would."""
    from nemo_distill.export import ctranslate2_model

    write = ctranslate2_model.write_model

    def spoilt(model, folder, record):
        if record.quantization == "int8":
            model.log_softmax.mlp.layer0.bias.data[5:20] += 10
        write(model, folder, record)

    monkeypatch.setattr(ctranslate2_model, "write_model", spoilt)
    overrides = [f"model={trained_path}", f"output={tmp_path / 'out'}", "quantization=int8", *development(text)]
    with pytest.raises(SystemExit) as ended:
        main(config(*overrides))
    for said in (
        "quantization=int8 loses",
        "max_loss=0.3",
        "int16",
        "was not written",
        "more than chance",
        "nats a token",
    ):
        assert said in str(ended.value)
    assert list(tmp_path.iterdir()) == []
    main(config(*overrides, "max_loss=100"))
    assert ExportRecord.read(tmp_path / "out").quality.scores["export"].value < 50


def test_a_package_that_the_score_needs_is_told_before_the_work(trained_path, text, tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "_is_installed", lambda tokenizer: False)
    korean = changed_archive(
        trained_path,
        tmp_path / "korean.nemo",
        "model_config.yaml",
        lambda content: content.replace(b"tgt_language: ignore", b"tgt_language: ko"),
    )
    given = [f"model={korean}", f"output={tmp_path / 'out'}", *development(text)]
    with pytest.raises(ConfigurationError) as raised:
        read_config(ExportConfig, config(*given))
    (problem,) = raised.value.problems
    assert problem.startswith("development.language=ko") and "sacrebleu[ko]" in problem
    read_config(ExportConfig, config(*given, "development.language=en"))


def test_without_a_development_set_the_loss_is_said_not_to_be_measured(trained_path, tmp_path, caplog):
    main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", "quantization=int8"))
    assert ExportRecord.read(tmp_path / "out").quality is None
    assert "What int8 costs was not measured" in caplog.text


@pytest.fixture(scope="module")
def with_shortlist(trained_path, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shortlist") / "out"
    keys = ["shortlist.common=2", "shortlist.candidates=3", "shortlist.max_loss=5"]
    main(config(f"model={trained_path}", f"output={folder}", *development(text), *aligned(text), *keys))
    return folder


def test_a_shortlist_is_made_measured_and_recorded(with_shortlist):
    record = ExportRecord.read(with_shortlist)
    assert (record.shortlist.pairs, record.shortlist.candidates, record.shortlist.common) == (300, 3, 2)
    assert [file["name"] for file in record.shortlist.source] == ["more.de"]
    assert 1 <= record.shortlist.mean <= 3
    assert set(record.quality.scores) == {"float32", "export", "shortlist, batches of 1", "shortlist, batches of 32"}
    first, *others = (with_shortlist / "vmap.txt").read_text().splitlines()
    assert first.startswith("\t") and len(first.split()) == 2
    assert all(line.count("\t") == 1 and len(line.split("\t")[1].split()) <= 4 for line in others)


def test_the_engine_writes_only_candidates_where_it_uses_the_shortlist(with_shortlist, text):
    """What is found nowhere in the shortlist is written without it, and never with it."""
    line = "Hund Mann"
    vmap = (with_shortlist / "vmap.txt").read_text()
    vocabulary = json.loads((with_shortlist / "shared_vocabulary.json").read_text())
    without = CTranslate2Engine(with_shortlist, shortlist=False).translate([line], GREEDY)[0].text
    assert without == "man dog"
    try:  # now a shortlist that has nothing but 'red'
        red = [token for token in vocabulary if token.endswith("red")]
        (with_shortlist / "vmap.txt").write_text(f"\t{' '.join(red)}\n")
        assert set(CTranslate2Engine(with_shortlist).translate([line], GREEDY)[0].text.split()) <= {"red"}
        assert CTranslate2Engine(with_shortlist, shortlist=False).translate([line], GREEDY)[0].text == without
    finally:
        (with_shortlist / "vmap.txt").write_text(vmap)
    assert CTranslate2Engine(with_shortlist).translate([line], GREEDY)[0].text == without


def one_to_one(sources, targets):
    """Aligns the pieces by their places."""
    return iter([[(place, place) for place in range(min(map(len, pair)))] for pair in zip(sources, targets)])


def test_a_shortlist_that_loses_too_much_is_refused_with_the_figures(trained_path, text, tmp_path, monkeypatch):
    """Text of one word has candidates for no other word."""
    monkeypatch.setattr(shortlist, "alignments", one_to_one)
    for ending, word in (("de", "Hund"), ("en", "dog")):
        (tmp_path / f"one.{ending}").write_text(f"{word}\n" * 5)
    keys = [f"shortlist.source={tmp_path / 'one.de'}", f"shortlist.target={tmp_path / 'one.en'}", "shortlist.common=1"]
    with pytest.raises(SystemExit) as ended:
        main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", *development(text), *keys))
    for said in ("The shortlist loses", "batches of 1:", "batches of 32:", "shortlist.max_loss=0.1"):
        assert said in str(ended.value)
    assert not (tmp_path / "out").exists()


def test_the_folder_of_labels_is_read(trained_path, text, tmp_path):
    for ending, name in (("de", "pseudo.src"), ("en", "pseudo.tgt")):
        (tmp_path / name).write_text((text / f"more.{ending}").read_text())
    keys = [f"shortlist.labels={tmp_path}", "shortlist.max_loss=5"]
    main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", *development(text), *keys))
    assert ExportRecord.read(tmp_path / "out").shortlist.pairs == 300


def test_text_in_which_nothing_is_aligned_makes_no_shortlist(trained_path, text, tmp_path, monkeypatch):
    monkeypatch.setattr(shortlist, "alignments", lambda sources, targets: iter([[]] * len(sources)))
    with pytest.raises(SystemExit, match="eflomal has aligned nothing in 300 pairs"):
        main(config(f"model={trained_path}", f"output={tmp_path / 'out'}", *development(text), *aligned(text)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["shortlist.source={text}/more.de"], "shortlist.source names 1 files and target 0"),
        (["shortlist.source={text}/more.de", "shortlist.target={text}/dev.en"], "must be parallel"),
        (["shortlist.labels={text}"], "which has no pseudo.src"),
        (["shortlist.labels={text}", "shortlist.target={text}/dev.en"], "and not both"),
        (["shortlist.source={text}/more.de", "shortlist.target={text}/more.en"], "needs development.source"),
        (["format=onnx", "development.source={text}/dev.de", "development.reference={text}/dev.en"], "format=onnx"),
        (["max_loss=-1"], "max_loss=-1"),
        (["max_loss=0.1"], "max_loss=0.1: has no effect without development.source and development.reference"),
        (["development.beam_size=2"], "development.beam_size=2: has no effect without source and reference"),
        (["shortlist.max_loss=1"], "shortlist.max_loss=1.0: has no effect without labels, or source and target"),
        (["format=hugging_face", "shortlist.labels={text}"], "format=hugging_face has none"),
    ],
)
def test_mistakes_are_told_before_any_work(keys, said, trained_path, text, tmp_path):
    overrides = [f"model={trained_path}", f"output={tmp_path / 'out'}", *(key.format(text=text) for key in keys)]
    with pytest.raises(ConfigurationError) as error:
        read_config(ExportConfig, config(*overrides))
    assert said in str(error.value)
