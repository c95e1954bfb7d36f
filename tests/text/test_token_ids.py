import numpy as np
import pytest
from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

from nemo_distill.text.token_ids import IdRows, id_rows, load_tokenizer

TEXTS = ["der Hund  sieht", "", " rot ", "\u200b", "東京 und"]


def nemos(tokenizer):
    return [[tokenizer.bos_id, *tokenizer.text_to_ids(text), tokenizer.eos_id] for text in TEXTS]


def rows(found):
    return [found.ids[start : start + length].tolist() for start, length in zip(found.starts, found.lengths)]


def test_sentencepiece_gives_the_ids_of_nemo(tokenizer):
    assert rows(id_rows(load_tokenizer(tokenizer, "sentencepiece"), TEXTS)) == nemos(
        SentencePieceTokenizer(str(tokenizer))
    )


@pytest.mark.parametrize("r2l", [False, True])
def test_youtokentome_gives_the_ids_of_nemo(yttm_tokenizer, r2l):
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    expected = nemos(YouTokenToMeTokenizer(str(yttm_tokenizer), r2l=r2l))
    assert rows(id_rows(load_tokenizer(yttm_tokenizer, "yttm", r2l), TEXTS)) == expected


def test_no_text_gives_no_rows(tokenizer):
    found = id_rows(load_tokenizer(tokenizer, "sentencepiece"), [])
    assert len(found.ids) == len(found.lengths) == 0


def test_rows_are_selected_joined_and_padded():
    first = IdRows(np.array([1, 2, 3, 4, 5, 6]), np.array([1, 3, 2]))
    joined = IdRows.joined([first.where(np.array([True, False, True])), first])
    assert rows(joined) == [[1], [5, 6], [1], [2, 3, 4], [5, 6]]
    assert joined.padded([3, 0], 9).tolist() == [[2, 3, 4], [1, 9, 9]]
