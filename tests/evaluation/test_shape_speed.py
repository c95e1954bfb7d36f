"""Speeds of shapes: translations have the lengths of the text, and a measurement is made once."""

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation import shape_speed
from nemo_distill.evaluation.shape_speed import (
    ForcedEngine,
    ShapeSpeed,
    TimedText,
    made_up_text,
    measured_shape,
    of_all_lengths,
)
from nemo_distill.export.random_model import write_random_model
from nemo_distill.nemo_files.archive import NemoArchive

TEXT = TimedText(("der Hund", "der Mann sieht"), ("the dog and the dog", "the man sees the man and the dog"))
SPEED = ShapeSpeed(sentences=2, latency_sentences=1, rounds=2)


@pytest.fixture(scope="module")
def archive(teacher_path):
    return NemoArchive(teacher_path)


@pytest.fixture(scope="module")
def config(archive):
    return OmegaConf.to_container(archive.config)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_translations_are_as_long_as_the_text_wants(archive, config, beam_size, tmp_path):
    write_random_model(config, archive, tmp_path)
    search = SearchSettings(beam_size=beam_size, length_penalty=0.0)
    lengths = {}
    for text in (TEXT, replace(TEXT, targets=())):
        engine = ForcedEngine(tmp_path, text, "cpu")
        sources = engine._read(text.sources)
        results = engine._search(sources, search)
        lengths[text.targets] = [len(result.hypotheses[0]) for result in results]
        assert lengths[text.targets] == [engine._limit(source, search) for source in sources]
    assert all(longer > short for longer, short in zip(lengths[TEXT.targets], lengths[()]))


def test_a_shape_is_measured_once_for_a_text_and_a_machine(archive, config, tmp_path, monkeypatch):
    keys = (SPEED, 1, "cpu", 1, tmp_path)
    first = measured_shape(config, archive, TEXT, *keys)
    assert len(first.rates) == 2 and first.sentences_per_second > 0 and first.megabytes > 0
    monkeypatch.setattr(shape_speed, "write_random_model", None)
    assert measured_shape(config, archive, TEXT, *keys) == first
    for other in ({"text": TimedText(["der"])}, {"device": "cuda"}, {"beam": 2}):
        with pytest.raises(TypeError):  # it is measured again
            text, beam, device = (other.get(key, own) for key, own in (("text", TEXT), ("beam", 1), ("device", "cpu")))
            monkeypatch.setattr(shape_speed, "device_name", lambda device: device)
            measured_shape(config, archive, text, SPEED, beam, device, 1, tmp_path)


def test_sentences_alone_are_as_long_as_those_of_the_text():
    sources = [letter * length for letter in "ab" for length in range(1, 50)]
    chosen = of_all_lengths(sources[::-1], 7)
    assert [len(line) for line in chosen] == [4, 11, 18, 25, 32, 39, 46]
    assert of_all_lengths(sources[:3], 7) == sources[:3] and of_all_lengths([], 7) == []


def test_without_text_sentences_are_words_of_the_vocabulary():
    text = made_up_text(["<s>", "\u2581der", "\u2581Hund", "en", "\u2581..."], 5)
    assert len(text.sources) == 5 and not text.targets
    assert {word for line in text.sources for word in line.split()} == {"der", "Hund"}
