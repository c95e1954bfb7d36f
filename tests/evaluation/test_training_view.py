import gzip

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.evaluation import training_view
from nemo_distill.evaluation.training_view import read_training, target_words


@pytest.fixture
def files(tmp_path):
    """Two pairs of files; a pair of lines is blank on one side."""
    (tmp_path / "a.de").write_text("Der Hund sieht das Haus.\nblank\nDas Haus ist rot.\n")
    (tmp_path / "a.en").write_text("The dog sees the house.\n \nThe house is red.\n")
    for side, line in (("de", "Ein Hund."), ("en", "A dog.")):
        with gzip.open(tmp_path / f"b.{side}.gz", "wt") as stream:
            stream.write(f"{line}\n" * 50)
    return [(tmp_path / "a.de", tmp_path / "a.en"), (tmp_path / "b.de.gz", tmp_path / "b.en.gz")]


def test_runs_and_words_of_the_test_set_are_found_in_the_training_text(files, tmp_path):
    view = read_training(files, ["der hund sieht", "Das Haus ist alt."], ["The dog Dog, cat"], 10, tmp_path / "r.json")
    assert view.pairs == 52
    assert view.counts == {"the": 3, "dog": 51}
    assert view.nearness("der hund sieht") == 1.0
    assert view.nearness("Das Haus ist alt.") == pytest.approx(1 / 3)  # das haus ist; haus ist alt; ist alt .
    assert view.nearness("") == view.nearness("Etwas anderes ganz und gar") == 0.0


def test_the_sample_is_of_pairs_with_text_and_the_same_every_time(files, tmp_path):
    every = read_training(files, ["a"], ["b"], 100, tmp_path / "all.json")
    assert len(every.sources) == len(every.labels) == 52 and "blank" not in every.sources
    few = [read_training(files, ["a"], ["b"], 10, tmp_path / f"{name}.json") for name in "xy"]
    assert few[0] == few[1] and len(few[0].sources) == 10
    assert all(
        label == {"Ein Hund.": "A dog."}.get(source, label) for source, label in zip(few[0].sources, few[0].labels)
    )


def test_the_text_is_read_once_for_the_same_questions(files, tmp_path, monkeypatch):
    record, asked = tmp_path / "r.json", (["der Hund"], ["the dog"])
    first = read_training(files, *asked, 10, record)
    monkeypatch.setattr(training_view, "_read", lambda *arguments: pytest.fail("the text is read again"))
    assert read_training(files, *asked, 10, record) == first
    with pytest.raises(pytest.fail.Exception):
        read_training(files, ["another"], ["the dog"], 10, record)


def test_text_that_is_not_parallel_is_refused(files, tmp_path):
    (tmp_path / "short.en").write_text("one\n")
    with pytest.raises(DataError, match=r"a.de.* more lines than"):
        read_training([(files[0][0], tmp_path / "short.en")], ["a"], ["b"], 10, tmp_path / "r.json")


def test_words_have_no_punctuation_and_spaceless_text_has_characters():
    assert target_words("The dog's 2 tails!") == ["the", "dog", "s", "2", "tails"]
    assert target_words("我家。") == ["我", "家"]
