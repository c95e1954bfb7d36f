import re

import pytest

from nemo_distill.commands.split import check_split, main, split_corpus
from nemo_distill.config.errors import ConfigurationError
from tests.conftest import composed


@pytest.fixture
def text(tmp_path):
    for side in ("de", "en"):
        (tmp_path / f"all.{side}").write_text("".join(f"{side} {number}\n" for number in range(50)))
    return tmp_path


def config(text, *overrides):
    sets = ("held_out.val=5", "held_out.test=7")
    return composed(
        "split", f"source={text}/all.de", f"target={text}/all.en", f"output={text}/data", *sets, *overrides
    )


def test_text_is_split_and_counted(text, capsys):
    main(config(text, "+held_out.tuning=3", "target_ending=en"))
    lines = {path.name: path.read_text().count("\n") for path in (text / "data").iterdir() if path.suffix != ".json"}
    sets = {"train": 35, "val": 5, "test": 7, "tuning": 3}
    assert lines == {f"{name}.{end}": count for name, count in sets.items() for end in ("src", "en")} | {
        ".split.lock": 0
    }
    printed = capsys.readouterr().out
    assert "train.src and train.en" in printed and "70.00%" in printed


def test_a_split_with_other_settings_is_replaced_only_if_asked_for(text):
    main(config(text))
    check_split(config(text))
    with pytest.raises(ConfigurationError, match="seed was 0 and is 1; give another folder, or replace it with"):
        check_split(config(text, "seed=1"))
    check_split(config(text, "seed=1", "overwrite=true"))


def test_what_is_no_split_is_not_overwritten(text):
    (text / "data").mkdir()
    (text / "data" / "val.tgt").write_text("mine\n")
    with pytest.raises(ConfigurationError, match="output: '.*val.tgt' is there, and no record of a split"):
        check_split(config(text))


def test_a_record_of_others_is_told(text):
    (text / "data").mkdir()
    (text / "data" / "split.json").write_text('{"files": ["all.de"]}')
    with pytest.raises(ConfigurationError, match="output: '.*split.json' cannot be read: files.0=all.de"):
        check_split(config(text, "overwrite=true"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["held_out.val=0"], "held_out.val=0: must be a whole number above 0"),
        (["+held_out.train=5"], "held_out.train=5: must be a whole number above 0, and the name a word other than 'train'"),
        (["source_ending=tgt"], "source_ending=tgt: the target has the same; give two"),
        (["source_ending=a/b"], "source_ending=a/b"),
        (["max_words=0"], "max_words=0: must be"),
        (["unseen=nowhere.de"], "unseen names 'nowhere.de', which does not exist"),
        (["source=nowhere.de"], "source names 'nowhere.de', which does not exist"),
    ],
)  # fmt: skip
def test_each_mistake_is_told(text, overrides, sentence):
    with pytest.raises(ConfigurationError) as error:
        check_split(config(text, *overrides))
    assert sentence in str(error.value)


def test_the_text_is_not_overwritten(text):
    (text / "all.de").rename(text / "val.de")
    with pytest.raises(ConfigurationError, match="would overwrite '.*val.de'"):
        check_split(config(text, f"source={text}/val.de", f"output={text}", "source_ending=de", "target_ending=en"))


def test_text_that_is_not_parallel_and_other_mistakes_are_told_at_once(text):
    (text / "all.en").write_text("alone\n")
    with pytest.raises(ConfigurationError, match="2 problems"):
        check_split(config(text, "held_out.val=-1"))


def table(text, *overrides):
    (text / "table.tsv").write_text("".join(f"{number}\tde {number}\ten {number}\n" for number in range(50)))
    return config(text, "source=null", "target=null", f"pairs={text}/table.tsv", *overrides)


def test_files_that_hold_both_sides_are_split_alike(text):
    main(config(text))
    parallel = {path.name: path.read_text() for path in (text / "data").glob("*.[st][rg][ct]")}
    main(table(text, "fields=[2,3]", f"output={text}/from_table"))
    assert len(parallel) == 6 and parallel == {name: (text / "from_table" / name).read_text() for name in parallel}
    with pytest.raises(ConfigurationError, match=r"fields was \['2', '3'\] and is \['3', '2'\]"):
        check_split(table(text, "fields=[3,2]", f"output={text}/from_table"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "fields=None: must be two, of source and target, such as [de,en] or [1,2]"),
        (["fields=[1]"], "fields=[1]: must be two"),
        (["fields=[2,2]"], "fields=[2, 2]: source and target are the same"),
        (["fields=[1,7]"], "table.tsv', which has no field '7'; it has 1, 2, 3"),
        (["fields=[1,2]", "source={text}/all.de"], "pairs holds both sides; leave out source and target, or pairs"),
        (["fields=[1,2]", "pairs=nowhere.tmx"], "pairs names 'nowhere.tmx', which does not exist"),
        (["pairs=null"], "source has no value; give it, or pairs"),
        (["pairs=null", "source={text}/all.de", "target={text}/all.en", "fields=[1,2]"], "fields=[1, 2]: is only for pairs"),
    ],
)  # fmt: skip
def test_mistakes_about_files_that_hold_both_sides_are_told(text, overrides, sentence):
    with pytest.raises(ConfigurationError) as error:
        check_split(table(text, *(one.format(text=text) for one in overrides)))
    assert sentence in str(error.value)


def test_text_of_an_earlier_split_is_not_deleted(text):
    split_corpus(check_split(config(text)), overwrite=False)
    again = (f"source={text}/data/train.src", f"target={text}/data/train.tgt", "source_ending=de", "target_ending=en")
    with pytest.raises(ConfigurationError) as error:
        check_split(config(text, *again, f"unseen={text}/data/test.src", "~held_out.val", "overwrite=true"))
    assert len(re.findall(r"would delete '.*/data/(?:train.src|train.tgt|test.src)'", str(error.value))) == 3
