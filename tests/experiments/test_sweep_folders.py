import os

import pytest

from nemo_distill.experiments.sweep_folders import folder_name

LONG = "text=" + "x" * 251  # 256 bytes
PLAIN = [
    "", "temperature=2", "student=slim_1x1,temperature=0.5", "model.betas=[0.9,0.98]", "text='a b'", "+seed=1",
    "text=b..a", "text=é", "text=~", LONG[:255],
]  # fmt: skip
OTHERS = [
    ("text=corpus/a.de", "text=corpus_a.de~"),
    ("text=/corpus/a.de", "text=_corpus_a.de~"),
    ("text=corpus_a.de/", "text=corpus_a.de_~"),
    ("text=a/../../../x", "text=a_.._.._.._x~"),
    ("text=a/.././x", "text=a_.._._x~"),
    ("text=a\\b", "text=a_b~"),
    ("text=a\nb", "text=a_b~"),
    (".", ".~"),
    ("..", "..~"),
    (LONG, LONG[:120] + "~"),
    (LONG + "y", LONG[:120] + "~"),
    ("text=" + "日" * 84, "text=" + "日" * 38 + "~"),
    ("text=a~0123456789ab", "text=a~0123456789ab~"),
]


@pytest.mark.parametrize("values", PLAIN)
def test_values_that_a_file_system_takes_are_the_name(values):
    assert folder_name(values) == values


@pytest.mark.parametrize(("values", "beginning"), OTHERS)
def test_other_values_make_one_short_folder_that_can_be_read(tmp_path, values, beginning):
    name = folder_name(values)
    assert name[:-12] == beginning and len(os.fsencode(name)) <= 160
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_different_values_have_different_folders_and_names_of_folders_are_no_others_values():
    values = [*PLAIN, *(values for values, _ in OTHERS)]
    names = {folder_name(one) for one in values}
    assert len(names) == len(values)
    assert not names & {folder_name(name) for name in names.difference(PLAIN)}


def test_the_names_of_folders_stay_the_same_in_later_versions():
    assert folder_name("text=corpus/a.de") == "text=corpus_a.de~af1c91a402d2"
