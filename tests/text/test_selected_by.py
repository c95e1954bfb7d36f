import json

import pytest

from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.mixing import Corpus, Mix, write_mix
from nemo_distill.text.selected_by import selected_by, training_selected_by


@pytest.fixture
def labels(tmp_path):
    """Returns a function that writes labels with a record as `label` does, and returns their target file."""

    def write(name, *metrics):
        sides = [tmp_path / f"{name}.{ending}" for ending in ("src", "tgt")]
        for side in sides:
            side.write_text(f"{name} one\n{name} two\n")
        write_json(
            tmp_path / f"{name}.json", {"selected_by": list(metrics), "files": [fingerprint(side) for side in sides]}
        )
        return sides[1]

    return write


def test_the_record_beside_a_file_says_what_selected_it(labels, tmp_path):
    plain = tmp_path / "plain.tgt"
    plain.write_text("text without a record\n")
    assert selected_by([labels("mbr", "chrF"), labels("best"), labels("near", "BLEU", "chrF"), plain]) == [
        "BLEU",
        "chrF",
    ]


def test_a_file_that_is_not_the_records_was_not_selected(labels):
    target = labels("mbr", "BLEU")
    target.write_text("other text\n")
    assert selected_by([target]) == []


def test_the_source_side_was_not_selected(labels):
    source = labels("mbr", "BLEU").with_suffix(".src")
    assert selected_by([source]) == []  # the target of labels that were translated backwards is human


@pytest.mark.parametrize(
    "content",
    [
        "[]", "{", '{"selected_by": ["BLEU"]}', '{"settings": "small"}', '{"selected_by": ["BLEU"], "files": 3}',
        '{"settings": {"endings": 3}}', '{"settings": {"endings": ["de", "en", "fr"]}}',
    ],
)  # fmt: skip
def test_a_json_file_of_others_says_nothing(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    (tmp_path / "train.tgt").write_text("a\n")
    assert selected_by([tmp_path / "train.tgt"]) == []


def test_a_mix_hands_on_what_selected_its_corpora(labels, tmp_path):
    corpora = {
        name: Corpus([target.with_suffix(".src")], [target], 1.0)
        for name, target in (("a", labels("a", "BLEU")), ("b", labels("b")))
    }
    mix = Mix(corpora, tmp_path / "mixed", LinePolicy())
    assert write_mix(mix)["selected_by"] == ["BLEU"]
    train = {"src_file_name": str(mix.path("src")), "tgt_file_name": [str(mix.path("tgt"))]}
    assert training_selected_by(train) == ["BLEU"]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_target_is_the_side_that_the_model_learns_to_write(labels, backwards):
    target = str(labels("mbr", "BLEU"))
    source = target.replace(".tgt", ".src")
    files = {"src_file_name": source, "tgt_file_name": target}
    if backwards:
        files = {"src_file_name": target, "tgt_file_name": source}
    assert training_selected_by(files | {"reverse_lang_direction": backwards}) == ["BLEU"]
    assert training_selected_by(files | {"reverse_lang_direction": not backwards}) == []


def test_tarred_data_says_what_selected_its_text(tmp_path):
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({"selected_by": ["chrF"]}))
    train = {"use_tarred_dataset": True, "metadata_file": str(metadata), "tgt_file_name": None}
    assert training_selected_by(train) == ["chrF"]
    assert training_selected_by({**train, "use_tarred_dataset": False}) == []
