import pytest

from nemo_distill.evaluation.scores import bleu, bleu_tokenization


def test_bleu_comes_with_the_signature_that_reproduces_it():
    score = bleu(["the dog sees the man ."], ["the dog sees the man ."])
    assert score.value == pytest.approx(100.0)
    assert score.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_bleu_agrees_with_a_count_by_hand():
    """Matches of 1 to 4 words: 5/6, 3/5, 2/4, 1/3; equal lengths."""
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert bleu(["a b c d x f"], ["a b c d e f"]).value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("language", "expected"), [("en", "13a"), ("zh", "zh"), ("ja", "ja-mecab"), (None, "13a")])
def test_the_language_chooses_the_tokenization(language, expected):
    assert bleu_tokenization(language) == expected


def test_texts_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 translations cannot be scored against 1 references"):
        bleu(["a", "b"], ["a"])
