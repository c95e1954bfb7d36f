import pytest
from sacrebleu.metrics import BLEU

from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.pseudo_labels.select import nearest_to, sentence_similarity


def hypotheses(*texts):
    return tuple(Hypothesis(text, -float(rank)) for rank, text in enumerate(texts))


# The hypotheses, the reference, the index of the nearest.
CASES = [
    (["the dog sees the man", "a dog sees a man", "the cat"], "a dog sees a man", 1),
    (["the cat sat on a mat", "the cat sat on the mat today", "cat"], "the cat sat on the mat", 1),
    (["same", "same", "same"], "same", 0),
    (["nothing in common", "also nothing"], "xyz", 0),
    (["", "dog"], "dog", 1),
    ([""], "dog", 0),
]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
@pytest.mark.parametrize(("texts", "reference", "index"), CASES)
def test_the_nearest_hypothesis_is_chosen_and_of_equals_the_first(texts, reference, index, metric):
    assert nearest_to(hypotheses(*texts), reference, sentence_similarity(metric)) == index


def test_bleu_is_sacrebleus_smoothed_sentence_bleu():
    texts = ("the dog sees a man in the park", "the dog sees the man")
    reference = "the dog sees the man in a park"
    by_hand = [BLEU(effective_order=True).sentence_score(text, [reference]).score for text in texts]
    similarity = sentence_similarity("bleu")
    assert [similarity(text, reference) for text in texts] == by_hand
    assert min(by_hand) > 0


def test_chrf_sees_words_that_differ_by_their_ending():
    texts, reference = hypotheses("walk the house", "he walked to the houses"), "he walks the house"
    assert nearest_to(texts, reference, sentence_similarity("bleu")) == 0
    assert nearest_to(texts, reference, sentence_similarity("chrf")) == 1


def test_a_language_without_spaces_has_its_own_tokenization():
    texts, reference = hypotheses("我喜欢猫和狗", "我喜欢狗和猫吧的"), "我喜欢狗和猫"
    assert nearest_to(texts, reference, sentence_similarity("bleu", "zh")) == 1
    assert sentence_similarity("bleu", "zh")("我喜欢狗", "我喜欢猫") > sentence_similarity("bleu")(
        "我喜欢狗", "我喜欢猫"
    )
