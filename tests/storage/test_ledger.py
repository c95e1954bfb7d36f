import pytest

from nemo_distill.storage.ledger import Work, differences


def test_differences_name_the_nested_key_and_both_values():
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4, "c": 2}, "e": None}
    assert differences(old, new) == ["a.b was 1 and is 4", "d was 3 and is None"]


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


def test_settings_are_compared_as_json_has_them(tmp_path):
    Work(tmp_path / "a.json", {"pair": (1, 2)}).finish({})
    assert Work(tmp_path / "a.json", {"pair": (1, 2)}).changes() == []
    assert Work(tmp_path / "a.json", {"pair": [1, 2]}).digest == Work(tmp_path / "b.json", {"pair": (1, 2)}).digest
