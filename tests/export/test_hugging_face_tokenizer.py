"""An exported `tokenizer.json` against sentencepiece, on text that is written in more than one way in Unicode."""

import random
import unicodedata

import pytest
import sentencepiece

from nemo_distill.export.hugging_face_tokenizer import build_tokenizer
from nemo_distill.export.record import ExportRecord, TextSide
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from tests.conftest import train_sentencepiece

ACCENTS = [chr(code) for code in range(0x1EA0, 0x1EFA)]
KANA = [chr(code) for code in range(0x304B, 0x30FF) if chr(code).isalpha()]
SYLLABLES = [chr(code) for code in range(0xAC00, 0xD7A4, 97)]
LETTERS = {
    "hangul": SYLLABLES,
    "kana": KANA,
    "vietnamese": [*ACCENTS, *"êôưđ", *"abcnghti"],
    "bengali": ["কো", "খৌ", "গা", "ড়", "য়", "ক্ষ"],
    "tamil": ["கொ", "சோ", "தௌ", "க", "தி"],
    "devanagari": ["क", "ऩ", "ऱ", "ऴ", "का", "ड़", "क्ष"],
}
ARABIC = ["مُحَمَّدٌ رَسُولُ اللَّهِ", "الشَّمْسُ", "م\u064e\u0651", "م\u0651\u064e"]
HEBREW = ["בְּרֵאשִׁית בָּרָא אֱלֹהִים", "ש\u05c1\u05bc", "ש\u05bc\u05c1"]
HALF_WIDTH = ["ﾃﾞｰﾀ ﾊﾞｽ", "ｳﾞ ﾊﾟﾝ ｶﾞｽ", "ﾞﾟｶ", "ｧｨｩ｡｢｣"]


def random_lines(letters, count, seed):
    generator = random.Random(seed)
    return [" ".join("".join(generator.choices(letters, k=4)) for _ in range(3)) for _ in range(count)]


def both_tokenizers(folder, lines, **options):
    """Returns sentencepiece's tokenizer of these lines, and Hugging Face's that is made from it."""
    (folder / "text.txt").write_text("\n".join(lines * 20), encoding="utf-8")
    options = {"vocab_size": 400, "character_coverage": 1.0, **options}
    path = train_sentencepiece(folder / "shared_tokenizer", folder / "text.txt", **options)
    vocabulary = read_vocabulary(path)
    side = TextSide(path.name, "sentencepiece", None, len(vocabulary.pieces), vocabulary.special_ids, 512)
    record = ExportRecord("m.nemo", "0", "hugging_face", "float32", {}, side, side, {})
    return sentencepiece.SentencePieceProcessor(model_file=str(path)), build_tokenizer(folder, record, 0)


def split_otherwise(tokenizers, lines):
    """Returns the lines that Hugging Face's tokenizer splits into other pieces than sentencepiece's."""
    own, exported = tokenizers
    return [line for line in lines if exported(line)["input_ids"] != [own.bos_id(), *own.encode(line), own.eos_id()]]


@pytest.mark.parametrize("rule", ["nmt_nfkc", "nfkc"])
@pytest.mark.parametrize("script", LETTERS)
def test_decomposed_text_is_split_as_composed_text_is(script, rule, tmp_path):
    lines = random_lines(LETTERS[script], 40, seed=0)
    tokenizers = both_tokenizers(tmp_path, lines, normalization_rule_name=rule)
    decomposed = [unicodedata.normalize("NFD", line) for line in lines]
    assert decomposed != lines
    assert split_otherwise(tokenizers, lines) == split_otherwise(tokenizers, decomposed) == []


def test_half_width_katakana_and_single_jamo_are_composed(tmp_path):
    lines = ["データ バス", "ヴ パン ガス", "큐 크크", "10～20"]
    tokenizers = both_tokenizers(tmp_path, lines)
    half = [chr(code) for code in range(0xFF66, 0xFFA0)]
    odd = [*HALF_WIDTH, "ㅋㅋㅋ ㅋㅠ", "10～20 ~", "①② ﬁ ™ Å", *random_lines(half, 100, seed=0)]
    assert split_otherwise(tokenizers, lines + odd) == []


@pytest.mark.parametrize(
    "lines",
    [ARABIC, HEBREW, ["tiê\u0301ng viê\u0323t"] * 4, ["န\u103a\u1037 င\u103a\u1037"] * 4],
    ids=["arabic", "hebrew", "vietnamese", "burmese"],
)
def test_marks_that_the_models_text_has_in_another_order_than_unicodes_keep_it(lines, tmp_path):
    assert any(unicodedata.normalize("NFC", line) != line for line in lines)
    assert split_otherwise(both_tokenizers(tmp_path, lines), lines) == []


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"split_by_whitespace": False}, "▁den▁Mann"),
        ({"user_defined_symbols": ["<sep>", "Hund", "a|b.", "™", "<sep><sep>"]}, "<sep>"),
        ({"unk_surface": "??"}, "▁Hunde"),
    ],
)
def test_symbols_and_pieces_of_several_words_stay_whole(model_type, options, kept, tmp_path):
    words = "der Hund sieht den Mann <sep> Hunde Hundefreund".split()
    lines = [" ".join(random.Random(seed).choices(words, k=5)) + " den Mann" for seed in range(40)]
    own, exported = both_tokenizers(tmp_path, lines, vocab_size=80, model_type=model_type, **options)
    odd = ["<sep> der Hund", "der<sep>Hund<sep><sep> Hund", "a|b. aabb. den™der ™", "☃ den ☃ Mann"]
    assert kept in own.encode(" ".join(lines), out_type=str) + own.encode("<sep> der den Mann", out_type=str)
    assert split_otherwise((own, exported), [*lines, *odd[:2], odd[3]]) == []
    assert [exported.decode(own.encode(line)) for line in odd] == [own.decode(own.encode(line)) for line in odd]


@pytest.mark.parametrize("rule", ["identity", "nfkc", "nmt_nfkc", "nmt_nfkc_cf"])
@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_only_the_space_is_taken_from_the_ends(model_type, rule, tmp_path):
    lines = ["der Hund sieht den Mann", "Hund\u3000Mann\u00a0den"]
    options = {"vocab_size": 35, "model_type": model_type, "normalization_rule_name": rule}
    tokenizers = both_tokenizers(tmp_path, lines, **options)
    ends = ["\u00a0", "\u3000", "\u2003", "\t", " ", "  ", " \u3000 ", "\n"]
    around = [f"{one}der  Hund{other}" for one in ends for other in ends]
    assert split_otherwise(tokenizers, [*lines, *around, "der \n Hund", " ", "\u3000"]) == []
