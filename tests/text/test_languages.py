"""Codes of languages, and what is known about each."""

import pytest
from sacrebleu.metrics import BLEU

from nemo_distill.text import languages
from nemo_distill.text.languages import (
    bleu_tokenization,
    choose_language,
    code_problems,
    has_spaces,
    identified_language,
    is_spaceless,
    language_problems,
    moses_notes,
    same_language,
    scored_language,
    text_language,
    validation_problems,
)

TOKENIZERS = {
    "zh": ["zh", "ZH", "zho", "chi", "cmn", "yue", "zh-CN", "zh_CN", "zh-Hans", "zh_TW", "zho_Hans", "zho_Hant",
           "yue_Hant", "cmn_Hans", "cmn_Bopo", "__zh__", ">>cmn_Hans<<", "zh-Hant-HK", "wuu", "lzh"],
    "ja-mecab": ["ja", "jpn", "jap", "jpn_Jpan", "ja_XX", "ja-JP", "ja-mecab", "__ja__"],
    "ko-mecab": ["ko", "kor", "kor_Hang", "ko_KR"],
    "char": ["th", "tha_Thai", "th_TH", "lo", "lao_Laoo", "km", "khm_Khmr", "my", "mya_Mymr", "my_MM", "shn_Mymr", "shn",
             "bo", "bod_Tibt", "dzo_Tibt", "jav_Java"],
    "13a": ["en", "eng_Latn", "en_XX", "deu", "pt_BR", "pt-br", "zho_Latn", "ja-Latn", "jv", "vi", "hin_Deva", "arb_Arab",
            "zha", "ignore", "", None, "xx", "german"],
}  # fmt: skip


@pytest.mark.parametrize(("code", "tokenizer"), [(code, name) for name, codes in TOKENIZERS.items() for code in codes])
def test_a_language_is_known_by_each_of_its_codes(code, tokenizer):
    assert bleu_tokenization(code) == tokenizer
    assert has_spaces(code) is (tokenizer in ("13a", "ko-mecab"))
    assert code in ("ignore", "xx", "german") or code_problems("key", code or None) == []


def test_sacrebleu_chooses_the_same_where_it_knows_a_language():
    assert {code: bleu_tokenization(code) for code in BLEU._TOKENIZER_MAP} == BLEU._TOKENIZER_MAP
    assert bleu_tokenization("en") == BLEU.TOKENIZER_DEFAULT
    assert set(TOKENIZERS) <= set(BLEU.TOKENIZERS)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("我喜欢狗。", "zh"),
        ("東京都議会", "zh"),  # in Chinese characters alone, which one line of Japanese may have
        ("私は犬が好きです。", "ja"),
        ("コンピューター", "ja"),
        ("ฉันชอบหมา", "th"),
        ("ຂ້ອຍມັກໝາ", "lo"),
        ("ខ្ញុំចូលចិត្តឆ្កែ", "km"),
        ("ကျွန်တော်ခွေးကြိုက်တယ်", "my"),
        ("བོད་ཡིག", "bo"),
        ("我喜欢 Linux。", None),  # as many letters of one as of the other would be a toss-up: five are Latin
        ("中国 China is a large country", None),
        ("나는 개를 좋아한다", None),  # Korean has spaces
        ("I like dogs.", None),
        ("Я люблю собак", None),
        ("12:30 😀", None),
        ("", None),
    ],
)
def test_text_without_spaces_says_its_language(text, language):
    assert text_language([text]) == language


def test_japanese_is_told_from_chinese_by_the_whole_text():
    assert text_language(["東京都議会", "私は犬が好きです。"]) == "ja"
    assert text_language(["我喜欢狗，" * 50, "の"]) == "zh"
    assert text_language(["の" * 5 + "我" * 95]) == "zh" and text_language(["の" * 6 + "我" * 94]) == "ja"


@pytest.mark.parametrize(
    ("language", "text", "scored"),
    [
        ("ignore", "我喜欢狗。", "zh"), (None, "ฉันชอบหมา", "th"), ("en", "私は犬が好きです。", "ja"),
        ("ja", "我喜欢狗。", "ja"), ("ignore", "I like dogs.", "ignore"), ("ko", "I like dogs.", "ko"),
    ],
)  # fmt: skip
def test_the_text_speaks_where_its_language_does_not(language, text, scored):
    assert scored_language(language, [text]) == scored


@pytest.mark.parametrize(
    ("code", "closest"),
    [
        ("jp", "ja"), ("cz", "cs"), ("gr", "el"), ("dk", "da"), ("cn", "zh"), ("ua", "uk"), ("german", "de"),
        ("japanese", "ja"), ("zhs", "zh"),
    ],
)  # fmt: skip
def test_an_unknown_code_is_refused_with_the_closest_known_one(code, closest):
    (problem,) = code_problems("tgt_language", code)
    assert problem.startswith(f"tgt_language={code}: no language") and f"the closest is {closest}" in problem


@pytest.mark.parametrize("code", ["xx", "e", "12", "en-", "zh,en", "ignore", "eng_Latin"])
def test_what_is_no_code_is_refused(code):
    assert [problem.split(":")[0] for problem in code_problems("key", code)] == [f"key={code}"]


@pytest.mark.parametrize(("value", "end"), [(False, "so write nb."), (True, "a language."), (5, "a language.")])
def test_what_is_no_text_is_no_code(value, end):
    """YAML's `no`, for one, is not Norwegian."""
    (problem,) = code_problems("tgt_language", value)
    assert problem.startswith(f"tgt_language={value}: must be the code of a language") and problem.endswith(end)
    assert moses_notes({"src_language": value}) == [] and bleu_tokenization(value) == "13a"
    assert validation_problems({"src_language": value, "validation_ds": {"tgt_file_name": 5}})[0].endswith(end)


NLLB = ["zho_Hans", "zho_Hant", "deu_Latn", "srp_Cyrl", "por_Latn", "yue_Hant", "arb_Arab", "arz_Arab", "zsm_Latn"]


@pytest.mark.parametrize(
    ("language", "known", "found"),
    [
        ("zho_Hans", NLLB, ["zho_Hans"]), ("zh", NLLB, ["zho_Hans"]), ("zh-TW", NLLB, ["zho_Hant"]),
        ("cmn", NLLB, ["zho_Hans"]), ("yue", NLLB, ["yue_Hant"]), ("de", NLLB, ["deu_Latn"]), ("sr", NLLB, ["srp_Cyrl"]),
        ("sr-Latn", NLLB, []), ("ar", NLLB, ["arb_Arab"]), ("ms", NLLB, ["zsm_Latn"]), ("pt_BR", NLLB, ["por_Latn"]),
        ("pt", ["pt_PT", "pt_BR"], ["pt_PT", "pt_BR"]), ("pt_PT", ["pt_BR", "de"], []), ("deu", ["de", "es"], ["de"]),
        ("en", ["de_DE", "en_XX"], ["en_XX"]), ("ro_RO", ["ron", "fra"], ["ron"]), ("fr", ["zz", "fra"], ["fra"]),
        ("nb", ["no", "sv"], ["no"]), ("no", ["nob_Latn", "nno_Latn"], ["nob_Latn"]), ("yue", ["zh", "en"], []),
        ("xx", NLLB, []),
    ],
)  # fmt: skip
def test_a_model_knows_a_language_by_another_code(language, known, found):
    assert same_language(language, known) == found


def test_a_language_that_a_model_does_not_know_is_refused_with_what_it_knows():
    assert choose_language("target_language", "zh", NLLB) == ("zho_Hans", [])
    _, (several,) = choose_language("target_language", "pt", ["pt_PT", "pt_BR"])
    assert several == "target_language=pt: the model has several of this language: pt_BR, pt_PT."
    _, (few,) = choose_language("target_language", "fr", ["en", "de"])
    assert few == "target_language=fr: the model knows de, en."
    _, (many,) = choose_language("target_language", "sr-Latn", [*NLLB, *(f"q{i}" for i in range(40))])
    assert many == "target_language=sr-Latn: is not among the model's 49 codes; the closest is srp_Cyrl."
    _, (unknown,) = choose_language("target_language", "cn", [*NLLB, *(f"q{i}" for i in range(40))])
    assert unknown.endswith("the closest is zho_Hans.")


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(languages, "_is_installed", lambda tokenizer: False)
    assert language_problems("language", "ja") == ["language=ja: BLEU by ja-mecab needs pip install 'sacrebleu[ja]'."]
    assert "sacrebleu[ko]" in language_problems("language", "kor_Hang")[0]
    assert language_problems("language", "th") == language_problems("language", None) == []


def test_a_training_says_before_it_starts_how_it_cannot_be_validated(tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "_is_installed", lambda tokenizer: False)
    japanese, english = tmp_path / "val.ja", tmp_path / "val.en"
    japanese.write_text("私は犬が好きです。\n")
    english.write_text("I like dogs.\n")

    def problems(*references, **model):
        return validation_problems({"validation_ds": {"tgt_file_name": list(map(str, references))}} | model)

    (missing,) = problems(english, japanese, tgt_language="ignore")
    assert f"model.validation_ds.tgt_file_name names '{japanese}'" in missing and "sacrebleu[ja]" in missing
    assert missing.endswith("; or set model.bleu_tokenizer=char.")
    assert problems(japanese, bleu_tokenizer="char") == problems(english) == problems(tmp_path / "gone") == []
    (unknown,) = problems(english, bleu_tokenizer="mecab")
    assert unknown.startswith("model.bleu_tokenizer=mecab: must be null or one of none, zh, 13a")
    (code,) = problems(english, src_language=["de", "jp"], tgt_language="en")
    assert code.startswith("model.src_language=jp: no language")
    (asked,) = problems(english, bleu_tokenizer="ko-mecab")
    assert "sacrebleu[ko]" in asked


def test_a_language_that_moses_does_not_know_is_told_with_one_that_it_does():
    notes = moses_notes({"src_language": "pt_BR", "tgt_language": ["deu", "uk", "en", "zh", "ja", "hi", "ignore"]})
    assert [note.split(":")[0] for note in notes] == [
        "model.src_language=pt_BR", "model.tgt_language=deu", "model.tgt_language=uk",
    ]  # fmt: skip
    assert notes[0].endswith("rules for pt.") and notes[1].endswith("rules for de.")


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("de", "de"), ("deu_Latn", "de"), ("ger", "de"), ("pt-BR", "pt"), ("__en__", "en"), (">>fra<<", "fr"), ("jap", "ja"),
        ("ja_XX", "ja"), ("cmn_Hant", "zh"), ("zh-TW", "zh"), ("fil", "tl"), ("tl", "tl"), ("no", "no"),
        ("arb_Arab", "ar"), ("iw", "he"), ("shn", "shn"), ("xx", "xx"), ("", None), (None, None),
    ],
)  # fmt: skip
def test_a_language_is_identified_whatever_its_code(code, language):
    assert identified_language(code) == language


def test_an_older_identifier_tells_two_kinds_of_norwegian_apart():
    names = languages.language_identifier().nb_classes
    assert identified_language("nob") == ("nb" if "nb" in names else "no")


def test_the_identifier_knows_itself():
    names = languages.language_identifier().nb_classes
    assert [identified_language(name) for name in names] == names


@pytest.mark.parametrize(
    ("text", "spaceless"),
    [
        ("我喜欢狗。", True), ("はーーーーー", True), ("がﾞｰ・", True), ("ฉันชอบหมา", True), ("བོད་ཡིག", True), ("ꦧꦱꦗꦮ", True),
        ("나는 개를 좋아한다", False), ("我喜欢 Linux", False), ("aé日", False), ("日a", False), ("", False),
    ],
)  # fmt: skip
def test_text_is_spaceless_if_most_characters_are(text, spaceless):
    assert is_spaceless(text) is spaceless
