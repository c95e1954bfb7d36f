import pytest
import torch

from nemo_distill.nemo_files.translation_archive import bilingual_archive
from tests.conftest import WORDS
from tests.examples.bad_files import MODEL, write_nemo


@pytest.fixture(scope="module")
def scorer(teacher_path):
    from nemo_distill.models.scoring import load_scorer

    return load_scorer(teacher_path)


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


def test_scores_do_not_depend_on_the_pairs_beside_them(scorer, monkeypatch):
    together = scorer.score(SOURCES, TARGETS)
    alone = [scorer.score([source], [target])[0] for source, target in zip(SOURCES, TARGETS)]
    assert together == pytest.approx(alone, abs=1e-5)
    monkeypatch.setattr("nemo_distill.models.scoring.BATCH_CHARACTERS", 1)
    assert scorer.score(SOURCES, TARGETS) == pytest.approx(alone, abs=1e-5)


def test_lines_longer_than_the_model_reads_are_scored_by_their_beginning_and_counted(scorer, warnings):
    words = list(WORDS) * 40
    long = " ".join(words), " ".join(WORDS[word] for word in words)
    scorer.score(SOURCES, TARGETS)
    assert (scorer.cut, warnings) == (0, [])
    for _ in range(2):
        assert scorer.score([SOURCES[0], long[0]], [TARGETS[0], long[1]])[1] < 0
    assert scorer.cut == 2
    (warning,) = warnings
    assert "64 source or 64 target positions" in warning


def test_a_multilingual_model_scores_no_pairs(tokenizer, tmp_path):
    config = MODEL | {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"}
    write_nemo(tmp_path / "many.nemo", config, tokenizer.read_bytes())
    with pytest.raises(ValueError, match="'.*many.nemo' is multilingual"):
        bilingual_archive(tmp_path / "many.nemo")


def test_nothing_is_scored_as_nothing(scorer):
    assert scorer.score([], []) == []
