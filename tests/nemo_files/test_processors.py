import pytest

from nemo_distill.nemo_files.processors import load_processors

LINES = ["Der Hund, der »rot« sieht, hat's; z.B. um 3.30 Uhr & 5 % mehr!", "“Quoted”…  and (so) on – isn't it?", "a"]


@pytest.mark.parametrize("language", ["de", "en", "xx"])
def test_moses_is_nemos(language):
    from nemo.collections.common.tokenizers.moses_tokenizers import MosesProcessor

    ours, _ = load_processors(language, "ignore")
    nemos = MosesProcessor(language)
    for line in LINES:
        tokenized = ours.tokenize(ours.normalize(line))
        assert tokenized == nemos.tokenize(nemos.normalize(line))
        assert ours.detokenize(tokenized.split(" ")) == nemos.detokenize(tokenized.split(" "))


def test_no_language_needs_no_processor():
    assert load_processors("ignore", None) == (None, None)


def test_languages_with_processors_of_nemos_own_get_them():
    source, target = load_processors("zh", "en")
    assert [type(source).__name__, type(target).__name__] == ["ChineseProcessor", "MosesProcessor"]
