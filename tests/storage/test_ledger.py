import os

import pytest

from nemo_distill.storage.ledger import Work, differences, fingerprint, sha256_of


def test_differences_name_the_nested_key_and_both_values():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4, "c": 2}, "e": None}
    assert differences(old, new) == ["a.b was 1 and is 4", "d was 3 and is None"]
    assert differences({}, {"f": 5}) == ["f was None and is 5"]


def test_work_done_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "record.json"
    assert Work(path, {"a": 1}).done() is None
    Work(path, {"a": 1}).finish({"result": 2})
    assert Work(path, {"a": 1}).done() == {"settings": {"a": 1}, "result": 2}
    with pytest.raises(ValueError, match="record.json' was made with other settings: a was 1 and is 3"):
        Work(path, {"a": 3}).done()
    assert Work(path, {"a": 3}).done(overwrite=True) is None


def test_work_begun_with_other_settings_is_refused_before_it_is_done(tmp_path):
    def work(value):
        return Work(tmp_path / "done.json", {"a": value}, tmp_path / "locks" / "begun.json")

    work(1).begin()
    assert work(1).changes() == [] and work(1).done() is None
    with pytest.raises(ValueError, match="begun.json' was made with other settings: a was 1 and is 2"):
        work(2).done()


def test_work_with_the_same_settings_is_done_once(tmp_path):
    path, made = tmp_path / "new" / "score.json", []

    def make():
        made.append(1)
        return {"value": len(made)}

    values = [Work(path, {"metric": metric}).kept(make)["value"] for metric in ("BLEU", "BLEU", "TER")]
    assert values == [1, 1, 2]


def test_inputs_are_compared_if_both_records_have_them(tmp_path):
    def work(**inputs):
        return Work(tmp_path / "done.json", {}, tmp_path / "begun.json", read_inputs=lambda: inputs)

    work(text="1", made_later="2").begin()
    assert work(text="1").changes() == work(text="1", other="3").changes() == []
    assert work(text="3").changes() == ["'text' has changed since"]
    work(text="4").finish({})
    assert work(text="1").changes() == work(text="4").changes() == ["'text' has changed since"]


def test_a_record_without_inputs_has_its_settings_compared_alone(tmp_path):
    path = tmp_path / "done.json"
    Work(path, {"a": 1}).finish({})
    assert Work(path, {"a": 1}, read_inputs=lambda: {"text": "1"}).changes() == []


def test_inputs_are_recorded_as_they_were_when_the_work_began(tmp_path):
    inputs = {"text": "before"}
    work = Work(tmp_path / "done.json", {}, tmp_path / "begun.json", read_inputs=lambda: dict(inputs))
    work.begin()
    inputs["text"] = "after"
    assert work.finish({})["inputs"] == {"text": "before"}


def test_settings_are_compared_as_json_has_them(tmp_path):
    Work(tmp_path / "a.json", {"pair": (1, 2)}).finish({})
    assert Work(tmp_path / "a.json", {"pair": (1, 2)}).changes() == []
    assert Work(tmp_path / "a.json", {"pair": [1, 2]}).digest == Work(tmp_path / "b.json", {"pair": (1, 2)}).digest


def test_the_digest_does_not_depend_on_the_order_of_the_settings(tmp_path):
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert Work(tmp_path / "a.json", one).digest == Work(tmp_path / "a.json", other).digest
    assert Work(tmp_path / "a.json", one).digest != Work(tmp_path / "a.json", {"a": 2, "b": 1}).digest


def test_hidden_files_are_no_part_of_a_folders_hash(tmp_path):
    """`git fetch` and the tools of Hugging Face write some into the folder of a model."""
    (tmp_path / "model").write_text("weights")
    before = sha256_of(tmp_path)
    (tmp_path / ".git").mkdir()
    for name in (".git/index", ".gitattributes"):
        (tmp_path / name).write_text("x")
    assert sha256_of(tmp_path) == before
    (tmp_path / "config.json").write_text("{}")
    assert sha256_of(tmp_path) != before


def test_where_a_file_lies_is_part_of_a_folders_hash(tmp_path):
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "model").write_text("weights")
    before = sha256_of(tmp_path)
    (tmp_path / "de").rename(tmp_path / "en")
    assert sha256_of(tmp_path) != before


def test_a_file_that_was_changed_is_hashed_again_if_it_is_as_long_as_before(tmp_path):
    path = tmp_path / "text"
    path.write_text("one")
    before = fingerprint(path)
    path.write_text("two")
    os.utime(path, (1, 1))
    assert fingerprint(path)["name"] == before["name"] and fingerprint(path)["sha256"] != before["sha256"]
