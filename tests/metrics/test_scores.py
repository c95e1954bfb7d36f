import pytest
from sacrebleu import corpus_bleu, corpus_chrf

from nemo_distill.metrics.scores import bleu, corpus_score, flores_pieces, metric_problems, signed_tokenization
from tests.metrics.conftest import sacrebleu_folder


def test_bleu_comes_with_the_signature_that_reproduces_it():
    score = bleu(["the dog sees the man ."], ["the dog sees the man ."])
    assert score.value == pytest.approx(100.0)
    assert score.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_ter_finds_the_words_of_a_language_without_spaces():
    """One of five characters is another; by spaces, the one word would be."""
    score = corpus_score("TER", ["我喜欢狗。"], ["我喜欢猫。"], "zh")
    assert score.value == pytest.approx(20.0) and "asian:yes" in score.signature
    assert corpus_score("TER", ["我喜欢狗。"], ["我喜欢猫。"], "en").value == pytest.approx(100.0)


def test_the_closest_of_several_references_counts_and_an_empty_line_is_none():
    several = corpus_score("BLEU", ["a b c d e", "f g h i"], ["x", "f g h i"], None, [["a b c d e", ""]])
    assert several.value == pytest.approx(100.0) and several.signature.startswith("nrefs:var")


@pytest.mark.parametrize(
    ("language", "tokenizer"), [("zho_Hans", "zh"), ("tha_Thai", "char"), ("deu", "13a"), (None, "13a")]
)
def test_a_signature_says_how_the_language_was_split(language, tokenizer):
    assert f"|tok:{tokenizer}|" in bleu(["ฉันชอบหมา"], ["ฉันชอบแมว"], language).signature


@pytest.mark.parametrize("language", ["th", "khm_Khmr", "lao", "my"])
def test_a_script_without_spaces_is_scored_by_its_characters(language):
    """By spaces the one word would be wrong: BLEU 0 and TER 100."""
    hypothesis, reference = ["ฉันชอบหมามาก"], ["ฉันชอบแมวมาก"]
    score = corpus_score("TER", hypothesis, reference, language)
    assert score.value == pytest.approx(100 * 2 / 12) and "tok:tercom-char|" in score.signature
    assert corpus_score("BLEU", hypothesis, reference, language).value > 30
    assert corpus_score("TER", ["a B"], ["A b"], language).value == 0  # as TER does it, without regard to case


@pytest.mark.parametrize("tokenization", ["13a", "zh", "ja-mecab", "ko-mecab", "char"])
def test_a_signature_tells_the_tokenization_without_its_version(tokenization):
    version = "-0.996-IPA" if "mecab" in tokenization else ""
    assert signed_tokenization(f"nrefs:1|tok:{tokenization}{version}|version:2.6.0") == tokenization
    assert signed_tokenization("") == "13a"


def test_texts_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 translations cannot be scored against 1 references"):
        bleu(["a", "b"], ["a"])


@pytest.mark.parametrize(("name", "signature"), [("BLEU", "tok:13a"), ("chrF", "nc:6|nw:0"), ("TER", "tok:tercom")])
def test_each_metric_tells_a_perfect_translation_from_a_wrong_one(name, signature):
    right = corpus_score(name, ["the dog sees the man ."], ["the dog sees the man ."])
    wrong = corpus_score(name, ["a cat hears no one ."], ["the dog sees the man ."])
    assert signature in right.signature
    assert right.value == pytest.approx(0.0 if name == "TER" else 100.0)
    assert (wrong.value > right.value) == (name == "TER")


def test_chrf_plus_plus_counts_words_too():
    hypothesis, reference = ["The dog sees a man."], ["The dog sees the man."]
    score = corpus_score("chrF++", hypothesis, reference)
    assert score.value == corpus_chrf(hypothesis, [reference], word_order=2).score
    assert score.value != corpus_score("chrF", hypothesis, reference).value and "|nw:2|" in score.signature


def test_spbleu_counts_flores_pieces_in_every_language(flores_model):
    assert metric_problems("metrics", ["spBLEU"]) == []
    hypothesis, reference = "the dog sees a man", "the dog sees the man"
    score = corpus_score("spBLEU", [hypothesis], [reference], "zh")
    characters = [" ".join(f" {line}".replace(" ", "_")) for line in (hypothesis, reference)]
    assert score.value == pytest.approx(corpus_bleu(characters[:1], [characters[1:]], tokenize="none").score)
    assert "|tok:flores200|" in score.signature


def test_spbleu_without_its_file_says_where_it_belongs(tmp_path):
    with sacrebleu_folder(tmp_path):
        assert metric_problems("metrics", ["BLEU", "chrF++"]) == []
        (problem,) = metric_problems("metrics=[spBLEU]", ["BLEU", "spBLEU"])
        assert problem.startswith("metrics=[spBLEU]: ") and "https://" in problem
        assert f"'{tmp_path / 'models'}" in problem and str(flores_pieces()) in problem
