"""Selects the hypothesis that becomes the label of a line."""

from collections.abc import Callable, Sequence

from sacrebleu.metrics import BLEU, CHRF

from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.text.languages import bleu_tokenization

# Takes a hypothesis and its reference, and returns how near they are: the more, the nearer.
Similarity = Callable[[str, str], float]


def sentence_similarity(metric: str, language: str | None = None) -> Similarity:
    """Returns sacrebleu's sentence score as a similarity.

    Args:
        metric: `bleu` (exponential smoothing, only n-gram orders that fit into the sentence) or `chrf`.
        language: the target language, which determines BLEU's tokenization.
    """
    scorer = CHRF() if metric == "chrf" else BLEU(tokenize=bleu_tokenization(language), effective_order=True)
    return lambda hypothesis, reference: scorer.sentence_score(hypothesis, [reference]).score


def nearest_to(hypotheses: Sequence[Hypothesis], reference: str, similarity: Similarity) -> int:
    """Returns the index of the hypothesis most similar to the reference. With equal similarity, the first one counts.

    This is sequence-level interpolation (Kim & Rush 2016, section 3.3).
    """
    return max(range(len(hypotheses)), key=lambda index: similarity(hypotheses[index].text, reference))
