import collections
import random

import pytest
import torch

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.text.source_noise import NoisySource, SourceNoise
from tests.conftest import train_sentencepiece

nlp = pytest.importorskip("nemo.collections.common.tokenizers")

TEXT = "der Hund sieht rot und der Mann sieht Haus und Hund"


@pytest.fixture(scope="module")
def tokenizer_of(tokenizer, yttm_tokenizer):
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    return {
        "sentencepiece": SentencePieceTokenizer(str(tokenizer)),
        "yttm": YouTokenToMeTokenizer(str(yttm_tokenizer)),
    }


@pytest.fixture(params=["sentencepiece", "yttm"])
def pieces(request, tokenizer_of):
    return tokenizer_of[request.param]


def source(noise, tokenizer, longest=1000, tags=()):
    return NoisySource(noise, tokenizer, (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id), longest, tags)


def batch(tokenizer, texts):
    rows = [[tokenizer.bos_id, *tokenizer.text_to_ids(text), tokenizer.eos_id] for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (longest - len(row)) for row in rows])
    return ids, (ids != tokenizer.pad_id).long()


def texts(tokenizer, ids, mask):
    rows = [row[real.bool()].tolist() for row, real in zip(ids, mask)]
    assert all(row[0] == tokenizer.bos_id and row[-1] == tokenizer.eos_id for row in rows)
    return [tokenizer.ids_to_text(row[1:-1]) for row in rows]


def noisy(noise, tokenizer, lines, seed=0):
    torch.manual_seed(seed)
    ids, mask = source(noise, tokenizer)(*batch(tokenizer, lines))
    assert (ids[mask == 0] == tokenizer.pad_id).all()
    return texts(tokenizer, ids, mask)


def test_words_are_dropped_whole_at_their_rate(pieces):
    lines = noisy(SourceNoise(word_dropout=0.25), pieces, [TEXT] * 400)
    counts = collections.Counter(word for line in lines for word in line.split())
    assert set(counts) == set(TEXT.split())
    assert counts.total() == pytest.approx(400 * 11 * 0.75, rel=0.05)


@pytest.mark.parametrize(
    "noise", [{"word_dropout": 0.5}, {"swap_distance": 3}, {"mask": 0.5}, {"case": 0.5}, {"typing": 0.2}]
)
def test_the_tag_of_a_corpus_stays_in_front(pieces, noise):
    """It is a word of the text, so that this tokenizer can write it."""
    torch.manual_seed(0)
    lines = [f"rot {TEXT}", "rot", TEXT] * 50
    found = texts(pieces, *source(SourceNoise(**noise), pieces, tags=["rot", "Haus"])(*batch(pieces, lines)))
    assert all(line == "rot" or line.startswith("rot ") for line in found[::3]) and set(found[1::3]) == {"rot"}
    assert len({*found[::3]}) > 2 and len({*found[2::3]}) > 2


def test_one_word_always_stays(pieces):
    lines = noisy(SourceNoise(word_dropout=0.99), pieces, ["rot", TEXT] * 20)
    assert all(line.strip() for line in lines) and lines[::2] == ["rot"] * 20


def test_words_move_no_further_than_allowed(pieces):
    words = ["der", "Hund", "Mann", "sieht", "rot", "Haus", "und"]
    lines = [line.split() for line in noisy(SourceNoise(swap_distance=2), pieces, [" ".join(words)] * 200)]
    moves = {abs(words.index(word) - place) for line in lines for place, word in enumerate(line)}
    assert moves == {0, 1, 2}
    assert all(sorted(line) == sorted(words) for line in lines)


def test_words_are_masked_by_one_unknown_token(pieces):
    ids, mask = batch(pieces, [TEXT] * 200)
    masked, masked_mask = source(SourceNoise(mask=0.3), pieces)(ids, mask)
    count = int((masked == pieces.unk_id).sum())
    assert count == pytest.approx(200 * 11 * 0.3, rel=0.1)
    assert int(masked_mask.sum()) <= int(mask.sum())


def test_merges_are_left_out_and_the_text_stays(pieces):
    ids, mask = batch(pieces, [TEXT] * 50)
    cut, cut_mask = source(SourceNoise(bpe_dropout=0.5), pieces)(ids, mask)
    assert texts(pieces, cut, cut_mask) == [TEXT] * 50
    assert int(cut_mask.sum()) > int(mask.sum())


def test_with_all_merges_the_pieces_are_the_tokenizers(tokenizer_of):
    tokenizer = tokenizer_of["sentencepiece"]
    sampler = source(SourceNoise(), tokenizer)._sampler
    for word in ("der", "Hund", "Mann", "sieht", "rothaus", "undundhundmann", "r"):
        assert sampler.encode(word, random.Random(0)) == tokenizer.text_to_ids(word)
    assert sampler.encode("Übung", random.Random(0)) == []


def test_a_user_defined_symbol_stays_whole(corpus, tmp_path):
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    text = tmp_path / "train.de"
    text.write_text((corpus / "train.de").read_text() + "3 < 4 > n a m e\n" * 20, encoding="utf-8")
    path = train_sentencepiece(tmp_path / "symbols", text, user_defined_symbols=["<name>"], character_coverage=1.0)
    tokenizer = SentencePieceTokenizer(str(path))
    ids, mask = batch(tokenizer, ["der <name> sieht Haus<name>"] * 50)
    cut, cut_mask = source(SourceNoise(bpe_dropout=0.5), tokenizer)(ids, mask)
    symbol = tokenizer.token_to_id("<name>")
    assert (cut == symbol).sum(dim=1).tolist() == [2] * 50
    assert texts(tokenizer, cut, cut_mask) == ["der <name> sieht Haus<name>"] * 50 and cut_mask.sum() > mask.sum()


def test_the_random_numbers_alone_decide_about_merges(tokenizer_of):
    """Not the process: an interrupted training goes on in another one."""

    class Drawn:
        def __init__(self, *numbers):
            self.numbers = iter(numbers)

        def random(self):
            return next(self.numbers)

    sampler = source(SourceNoise(bpe_dropout=0.5), tokenizer_of["sentencepiece"])._sampler
    cut = sampler.encode("der", Drawn(*[0.4] * 4))
    assert tokenizer_of["sentencepiece"].ids_to_tokens(cut) == ["▁", "d", "e", "r"]


def test_torchs_seed_decides(tokenizer_of):
    noise = SourceNoise(word_dropout=0.2, swap_distance=3, mask=0.2, bpe_dropout=0.3)
    first, again, other = (noisy(noise, tokenizer_of["sentencepiece"], [TEXT] * 5, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_line_that_would_get_too_long_stays(pieces):
    ids, mask = batch(pieces, [TEXT])
    cut, _ = source(SourceNoise(bpe_dropout=0.9), pieces, longest=ids.shape[1])(ids, mask)
    assert torch.equal(cut, ids)


def test_a_line_may_become_as_long_as_allowed_and_no_longer(tokenizer_of):
    tokenizer = tokenizer_of["sentencepiece"]
    ids, mask = batch(tokenizer, [TEXT])
    letters = 2 + sum(len(word) + 1 for word in TEXT.split())  # without a single merge
    for longest in (letters, letters - 1):
        noisy_source = source(SourceNoise(bpe_dropout=1 - 1e-9), tokenizer, longest)
        assert noisy_source(ids, mask)[0].shape[1] == (letters if longest == letters else ids.shape[1])


def test_a_line_of_special_tokens_alone_stays(pieces):
    ids, mask = batch(pieces, ["", "rot"])
    noisy_ids, _ = source(SourceNoise(word_dropout=0.9), pieces)(ids, mask)
    assert torch.equal(noisy_ids, ids)


def test_other_tokenizers_are_refused():
    with pytest.raises(
        ConfigurationError,
        match="- model.distillation.noise needs a sentencepiece or yttm source tokenizer, but this is a list",
    ):
        NoisySource(SourceNoise(mask=0.1), [], (), 10)


def test_a_unigram_model_has_no_merges_to_leave_out(corpus, tmp_path):
    from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer

    path = train_sentencepiece(tmp_path / "unigram", corpus / "train.de", 30, model_type="unigram")
    tokenizer = SentencePieceTokenizer(str(path))
    with pytest.raises(
        ConfigurationError, match="- model.distillation.noise.bpe_dropout=0.1: the source tokenizer is not a BPE model"
    ):
        source(SourceNoise(bpe_dropout=0.1), tokenizer)


KINDS = ("case", "typing", "punctuation", "whitespace", "tags", "emoji")


@pytest.mark.parametrize("kind", ["case", "typing", "whitespace"])
def test_noise_of_the_text_is_tokenized_again(pieces, kind):
    lines = noisy(SourceNoise(**{kind: 0.5}), pieces, [TEXT] * 50)
    assert len(set(lines)) > 2
    if kind == "whitespace":
        assert {line.replace(" ", "") for line in lines} == {TEXT.replace(" ", "")}


def test_noise_of_the_text_leaves_unknown_words_alone(pieces):
    """Their text is not known."""
    ids, mask = batch(pieces, [TEXT])
    ids[0, 3] = pieces.unk_id
    changed, _ = source(SourceNoise(**dict.fromkeys(KINDS, 0.9)), pieces)(ids, mask)
    assert torch.equal(changed, ids)


def test_no_sentence_is_lost_to_noise_of_the_text():
    """Punctuation alone may all be left out; then it stays."""
    generator = random.Random(0)
    noise = SourceNoise(**dict.fromkeys(KINDS, 0.9))
    assert all("".join(noise.of_text(words, generator)) for words in [["."], ["a"], ["...", "!"]] * 100)
    assert list(noise.of_text([], generator)) == []
