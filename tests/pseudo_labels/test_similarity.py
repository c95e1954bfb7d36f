import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF

from nemo_distill.pseudo_labels import similarity
from nemo_distill.pseudo_labels.similarity import similarities

LINES = [
    "the dog sees a man in the park", "the dog sees the man", "The dog, who sees the man, barks.", "a", "", "  ",
    "ha ha ha ha ha ha ha", "ha", "Übung macht den Meister!", "1,000.5 = 1000.5 ?", "naïve café 🙂", "x" * 40,
]  # fmt: skip
SACREBLEU = {
    "bleu": lambda hypothesis, reference: BLEU(effective_order=True).sentence_score(hypothesis, [reference]).score,
    "chrf": lambda hypothesis, reference: CHRF().sentence_score(hypothesis, [reference]).score,
}


def pair_by_pair(metric, hypotheses, references):
    return [[SACREBLEU[metric](hypothesis, reference) for reference in references] for hypothesis in hypotheses]


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_all_pairs_have_sacrebleus_sentence_scores(metric):
    found = similarities(LINES, LINES, {metric: 1.0})
    assert found == pytest.approx(np.array(pair_by_pair(metric, LINES, LINES)), abs=1e-7)


words = st.lists(st.sampled_from(["der", "Hund", "Hunde", "sieht", ",", "12", "ü"]), max_size=9).map(" ".join)


@given(st.sampled_from(["bleu", "chrf"]), st.lists(words, min_size=1, max_size=5), words)
def test_any_sentences_have_sacrebleus_scores_against_a_reference(metric, hypotheses, reference):
    found = similarities(hypotheses, [reference], {metric: 3.0})
    assert found == pytest.approx(np.array(pair_by_pair(metric, hypotheses, [reference])), abs=1e-7)


def test_a_weighted_sum_is_one_of_the_weights_shares():
    parts = [similarities(LINES, LINES, {metric: 1.0}) for metric in ("bleu", "chrf")]
    both = similarities(LINES, LINES, {"bleu": 3.0, "chrf": 1.0})
    assert both == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], abs=1e-7)


def test_lines_with_more_ngrams_than_fit_at_once_have_the_same_scores(monkeypatch):
    generator = random.Random(0)
    lines = [" ".join(generator.choices(["ab", "b", "cab", "d"], k=30)) for _ in range(6)]
    expected = similarities(lines, lines, {"bleu": 1.0, "chrf": 1.0})
    monkeypatch.setattr(similarity, "COLUMNS", 7)
    assert similarities(lines, lines, {"bleu": 1.0, "chrf": 1.0}) == pytest.approx(expected)


def test_a_language_without_spaces_has_its_own_tokenization():
    texts, reference = ["我喜欢猫和狗", "我喜欢狗和猫吧的"], ["我喜欢狗和猫"]
    assert similarities(texts, reference, {"bleu": 1.0}, "zh")[:, 0].argmax() == 1
    tokenized = BLEU(tokenize="zh", effective_order=True).sentence_score(texts[0], reference).score
    assert similarities(texts, reference, {"bleu": 1.0}, "zh")[0, 0] == pytest.approx(tokenized)
