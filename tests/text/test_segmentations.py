"""Positions and pieces of one tokenizer are found in another one's segmentation of the same text."""

import pytest

from nemo_distill.text.segmentations import UNKNOWN, Pieces, align, piece_map
from tests.conftest import train_sentencepiece

SPECIAL = {"pad": 0, "bos": 1, "eos": 2, "unk": 3}


def pieces(*words):
    """A tokenizer that takes the longest piece at each position; its special ids are 0 to 3."""
    surfaces = (b"", b"", b"", UNKNOWN, *(word.encode() for word in words))

    def encode(text):
        rest, ids = "▁" + text.replace(" ", "▁"), []
        while rest:
            best = max((word for word in words if rest.startswith(word)), key=len, default=None)
            ids.append(3 if best is None else 4 + words.index(best))
            rest = rest[len(best or " ") :]
        return ids

    return Pieces(surfaces, SPECIAL, encode)


FINE = pieces("▁", "▁H", "u", "n", "d", "e", "nd", "▁Hund", "s")
COARSE = pieces("▁", "▁Hunde", "▁Hund", "es", "u", "▁Hu", "H", "d", "e", "s", "n")


def test_each_piece_is_mapped_to_the_piece_that_its_text_begins_with():
    by_name = {surface.decode(): index for index, surface in enumerate(FINE.surfaces) if index > 3}
    found = piece_map(COARSE, FINE)
    words = {surface.decode(): found[index] for index, surface in enumerate(COARSE.surfaces) if index > 3}
    nothing = len(FINE.surfaces)
    assert words == {
        "▁": by_name["▁"], "▁Hunde": by_name["▁Hund"], "▁Hund": by_name["▁Hund"], "es": by_name["e"], "u": by_name["u"],
        "▁Hu": by_name["▁H"], "H": nothing, "d": by_name["d"], "e": by_name["e"], "s": by_name["s"], "n": by_name["n"],
    }  # fmt: skip
    assert found[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "positions", "spans"),
    [
        # ▁Hund|e|s against ▁Hunde|s
        ("Hundes", [0, -1, 1, 2], [(0, 2, 0, 1), (2, 3, 1, 2), (3, 4, 2, 3)]),
        # ▁Hund|u against ▁Hund|u
        ("Hundu", [0, 1, 2], [(0, 1, 0, 1), (1, 2, 1, 2), (2, 3, 2, 3)]),
        # ▁Hund|▁|u against the same
        ("Hund u", [0, 1, 2, 3], [(0, 1, 0, 1), (1, 2, 1, 2), (2, 3, 2, 3), (3, 4, 3, 4)]),
        # ▁H|u|s against ▁Hu|s
        ("Hus", [0, -1, 1, 2], [(0, 2, 0, 1), (2, 3, 1, 2), (3, 4, 2, 3)]),
        ("", [0, 1], [(0, 1, 0, 1), (1, 2, 1, 2)]),  # a single ▁
    ],
)
def test_positions_after_the_same_text_are_paired(text, positions, spans):
    found = align(FINE.encode(text), COARSE.encode(text), FINE, COARSE)
    assert (found.positions, found.spans) == (positions, spans)


def test_an_unknown_word_is_left_out_and_what_follows_is_paired_again():
    own, theirs = FINE.encode("Hund xs u"), COARSE.encode("Hund e s u")
    found = align(own, theirs, FINE, COARSE)
    assert own == [11, 4, 3, 12, 4, 6] and len(theirs) == 7
    # ▁Hund | ▁ ? s | ▁ u against ▁Hund | ▁ e | ▁ s | ▁ u
    assert found.positions == [0, 1, -1, -1, 5, 6, 7]
    assert found.spans == [(0, 1, 0, 1), (4, 5, 5, 6), (5, 6, 6, 7), (6, 7, 7, 8)]


def test_a_position_before_a_word_that_the_other_text_adds_is_paired_with_the_one_after_the_same_text():
    found = align(FINE.encode("Hund u"), COARSE.encode("Hund e u"), FINE, COARSE)
    assert found.positions == [0, 1, 4, 5]  # ▁Hund | ▁ | u against ▁Hund | ▁ | e | ▁ | u
    assert found.spans == [(0, 1, 0, 1), (2, 3, 4, 5), (3, 4, 5, 6)]


def test_a_tokenizer_without_a_space_in_front_is_aligned_all_the_same():
    bare = Pieces((b"", b"", b"", UNKNOWN, b"Hund", b"e"), SPECIAL, lambda text: [])
    assert align(FINE.encode("Hunde"), [4, 5], FINE, bare).positions == [0, 1, 2]


def test_texts_return_with_unknown_pieces_as_one_character_that_no_tokenizer_knows():
    assert FINE.text(FINE.encode("Hund xu")) == "Hund \ue000u"


@pytest.fixture(scope="module")
def real(corpus, tokenizer, tmp_path_factory):
    """Pieces of the shared tokenizer and of a smaller one of the same text, with byte pieces."""
    folder = tmp_path_factory.mktemp("pieces")
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    from nemo_distill.models.retokenized_teacher import pieces_of

    text = corpus / "both.txt"
    small = train_sentencepiece(folder / "small", text, 35)
    paths = tokenizer, small, train_sentencepiece(folder / "bytes", text, 290, byte_fallback=True)
    return [pieces_of(SentencePieceTokenizer(str(path))) for path in paths]


def test_byte_pieces_stand_for_their_byte(real):
    *_, with_bytes = real
    ids = with_bytes.encode("Hund Ü")
    assert ids[-2:] == [with_bytes.by_surface[byte] for byte in (b"\xc3", b"\x9c")]
    assert with_bytes.text(ids) == "Hund Ü"


def test_segmentations_of_real_tokenizers_are_paired_at_every_boundary_of_the_coarse_one(real):
    coarse, fine, with_bytes = real
    for text in ("der Hund sieht das Haus", "Hund und Mann", "ein Haus"):
        own, theirs = fine.encode(text), coarse.encode(text)
        positions = align(own, theirs, fine, coarse).positions
        assert [place for place in positions if place >= 0] == [*range(len(theirs) + 1)] and len(own) > len(theirs)
        assert [i for i, place in enumerate(positions) if place >= 0][-1] == len(own)
    # A character that one writes in bytes and the other does not know ends no pairing of the words behind it.
    own, theirs = fine.encode("Hund Ü Mann"), with_bytes.encode("Hund Ü Mann")
    positions = align(own, theirs, fine, with_bytes).positions
    assert positions[0] == 0 and positions[-1] == len(theirs)
    starts = [fine.text(own[:i]) for i, place in enumerate(positions) if place >= 0]
    assert "Hund" in starts and any(start.endswith("\ue000") for start in starts)
    assert all(place >= 0 for place in (positions[0], positions[-1]))


def test_a_nested_vocabulary_is_mapped_as_its_segmentation_says(real):
    coarse, fine, _ = real
    found = piece_map(coarse, fine)
    mapped = {surface.decode(): fine.surfaces[found[index]].decode() for index, surface in enumerate(coarse.surfaces) if index > 3 and found[index] < len(fine.surfaces)}  # fmt: skip
    assert len(mapped) == len(coarse.surfaces) - 4
    assert all(longer.startswith(first) for longer, first in mapped.items())
    assert any(longer != first for longer, first in mapped.items())
    for word in (piece[1:] for piece in mapped if piece.startswith("▁") and len(piece) > 1):
        assert mapped["▁" + word] == fine.surfaces[fine.encode(word)[0]].decode()
