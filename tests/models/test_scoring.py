import pytest
import torch

from tests.conftest import WORDS


@pytest.fixture(scope="module")
def scorer(teacher_path):
    from nemo_distill.models.scoring import NeMoScorer

    return NeMoScorer(teacher_path)


SOURCES = ["der Hund", "der Mann sieht und sieht und sieht das Haus", "", "Haus", "der rot Hund sieht der Mann"]
TARGETS = ["the dog", "the man", "the house and the dog", "", "the red dog sees the man"]


def test_a_pairs_score_is_the_mean_of_its_tokens_log_probabilities(scorer):
    source, target = SOURCES[0], TARGETS[0]
    model = scorer.model
    src_ids, tgt_ids = (
        torch.tensor([[tokenizer.bos_id, *tokenizer.text_to_ids(line), tokenizer.eos_id]])
        for tokenizer, line in ((model.encoder_tokenizer, source), (model.decoder_tokenizer, target))
    )
    total = 0.0
    for length in range(1, tgt_ids.shape[1]):
        prefix = tgt_ids[:, :length]
        log_probs = model(src_ids, torch.ones_like(src_ids), prefix, torch.ones_like(prefix))
        total += log_probs[0, -1, tgt_ids[0, length]].item()
    assert scorer.score([source], [target]) == pytest.approx([total / (tgt_ids.shape[1] - 1)], abs=1e-5)


def test_scores_do_not_depend_on_the_pairs_beside_them(scorer):
    together = scorer.score(SOURCES, TARGETS)
    alone = [scorer.score([source], [target])[0] for source, target in zip(SOURCES, TARGETS)]
    assert together == pytest.approx(alone, abs=1e-5)
    scorer.batch_characters = 1
    assert scorer.score(SOURCES, TARGETS) == pytest.approx(alone, abs=1e-5)
    scorer.batch_characters = 20_000


def test_lines_longer_than_the_model_reads_are_scored_by_their_beginning(scorer):
    words = list(WORDS) * 40
    (long,) = scorer.score([" ".join(words)], [" ".join(WORDS[word] for word in words)])
    assert long < 0


def test_nothing_is_scored_as_nothing(scorer):
    assert scorer.score([], []) == []
