"""Which target pieces a source piece allows, and what CTranslate2 reads of it."""

from pathlib import Path

from nemo_distill.export.shortlist import alignments, common_pieces, shortlist, write_vmap

SOURCES = [[10, 11, 12], [10, 12], [11]]
TARGETS = [[20, 21, 22], [20, 22], [23]]
LINKS = [[(0, 0), (1, 1), (2, 2)], [(0, 0), (1, 1), (1, 0)], [(0, 0)]]


def test_candidates_are_those_aligned_most_often_the_most_frequent_first():
    assert shortlist(SOURCES, TARGETS, iter(LINKS), 5) == {10: [20], 11: [21, 23], 12: [22, 20]}
    assert shortlist(SOURCES, TARGETS, iter(LINKS), 1) == {10: [20], 11: [21], 12: [22]}


def test_common_pieces_are_the_most_frequent_and_of_equals_those_of_the_lower_id():
    assert common_pieces(TARGETS, 3) == [20, 22, 21]
    assert common_pieces([[9, 8], [8, 9]], 1) == [8]


def test_the_file_has_the_common_pieces_first_and_lets_a_token_translate_to_itself(tmp_path):
    source, target = ["<s>", "ein", "Anna", "und"], ["<s>", "Anna", "a", "one", "and"]
    write_vmap(tmp_path, {1: [2, 3]}, [4], source, target)
    assert (tmp_path / "vmap.txt").read_text() == "\tand\n<s>\t<s>\nein\ta one\nAnna\tAnna\n"
    write_vmap(tmp_path, {2: [1, 2]}, [], source, target)
    assert (tmp_path / "vmap.txt").read_text() == "\t\n<s>\t<s>\nAnna\tAnna a\n"


WORDS = [[index % 7, 7 + index % 5, 12 + index % 3] for index in range(300)]
TRANSLATED = [[100 + word for word in reversed(line)] for line in WORDS]


def test_words_that_always_come_together_are_aligned():
    """eflomal draws at random, so only what no drawing can change is asked for: most links are right."""
    found = shortlist(WORDS, TRANSLATED, alignments(WORDS, TRANSLATED), 1)
    assert sum(found.get(word) == [100 + word] for word in range(15)) >= 10


def test_every_pair_has_links_and_they_name_places_in_it():
    found = list(alignments(WORDS, TRANSLATED))
    assert len(found) == 300
    assert all(source in range(3) and target in range(3) for links in found for source, target in links)


def test_the_links_of_both_directions_are_joined(monkeypatch):
    class FakeAligner:
        def align(self, sources, targets, links_filename_fwd, links_filename_rev):
            assert (sources, targets) == (["5 6"], ["7 8"])
            Path(links_filename_fwd).write_text("1-1 0-0\n")
            Path(links_filename_rev).write_text("0-1 0-0\n")

    monkeypatch.setattr("eflomal.Aligner", FakeAligner)
    assert list(alignments([[5, 6]], [[7, 8]])) == [[(0, 0), (0, 1), (1, 1)]]
