from nemo_distill.export.vocabulary import name_ids
from nemo_distill.nemo_files.tokenizer_files import Vocabulary

SPECIAL = {"pad": 3, "unk": 0, "bos": 1, "eos": 2}
PLAIN = Vocabulary("sentencepiece", ("<unk>", "<s>", "</s>", "<pad>", "a", "b"), SPECIAL)


def test_pieces_keep_their_names():
    names = name_ids(PLAIN, PLAIN, 6, 6)
    assert names.source == names.target == PLAIN.pieces
    assert names.special_tokens == {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}


def test_special_ids_are_called_the_same_on_both_sides():
    yttm = Vocabulary("yttm", ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "a"), {"pad": 0, "unk": 1, "bos": 2, "eos": 3})
    assert name_ids(PLAIN, yttm, 6, 5).source == ("<UNK>", "<BOS>", "<EOS>", "<pad>", "a", "b")


def test_a_vocabulary_that_is_filled_up_gets_unique_names():
    names = name_ids(PLAIN, PLAIN, 8, 8)
    assert names.target[6:] == ("<unused_6>", "<unused_7>")
    assert len(set(names.target)) == 8


def test_a_piece_that_reads_like_a_special_token_is_renamed():
    source = Vocabulary("sentencepiece", ("?", "<s>", "</s>", "<pad>", "<unk>", "<unk>_"), SPECIAL)
    assert name_ids(source, PLAIN, 6, 6).source == ("<unk>", "<s>", "</s>", "<pad>", "<unk>_", "<unk>__")
