import pytest

from nemo_distill.config.section import read_section
from nemo_distill.pseudo_labels.filters import FILTERS, NO_FILTERS, FilterSettings, Pair, first_reason
from tests.pseudo_labels.fakes import only

# Filter, setting, source, target, whether it drops the pair.
CASES = [
    ("empty", True, "Ja .", "", True),
    ("empty", True, "Ja .", "  ", True),
    ("empty", True, "Ja .", "Yes .", False),
    ("identical", True, "Angela Merkel", "Angela Merkel", True),
    ("identical", True, "Der  Hund ", "der Hund", True),
    ("identical", True, "Der Hund", "The dog", False),
    ("length_ratio", 3.0, "Nein .", "Absolutely not .", False),
    ("length_ratio", 3.0, "Ja .", "No , that is not what I have said to you yesterday .", True),
    ("length_ratio", 3.0, "a" * 100, "b" * 26, True),
    ("length_ratio", 3.0, "a" * 100, "b" * 27, False),
    ("length_ratio", 3.0, "a" * 27, "b" * 100, False),
    ("length_ratio", 3.0, "a" * 26, "b" * 100, True),
    ("length_ratio", 6.0, "a" * 26, "b" * 100, False),
    ("repetitions", 3, "der Hund und die Katze", "the dog the dog the dog the dog", True),
    ("repetitions", 3, "der Hund und die Katze", "the dog the dog the dog and so on", False),
    ("repetitions", 3, "der Hund", "dog dog dog dog", True),
    ("repetitions", 3, "ein sehr, sehr, sehr, sehr großer Hund", "a very, very, very, very big dog", False),
    ("repetitions", 3, "猫が好きです", "好き好き好き好き好きです", True),
    ("repetitions", 3, "1.000.000.000", "1,000,000,000", False),
    ("repetitions", 3, "- - - - - - -", "- - - - - - -", False),
    ("repetitions", 3, "No ---------- way", "Neinnnnnnn------------", False),
    ("repetitions", 3, "No ---------- way", "Nein" + "n" * 50, True),
    ("repetitions", 3, "Neinnnnnnn------------", "No ---------- way", False),
    ("repetitions", 3, "Nein ...... ", "no no no no no", True),
    ("repetitions", 3, "very very very very good", "非常非常非常非常好", False),
    ("repetitions", 3, "非常非常非常非常好", "very very very very good", False),
    ("repetitions", 3, "the big dog and the cat " * 4, "大狗和猫，" * 4, False),
    ("repetitions", 3, "very good", "非常非常非常非常好", True),
    ("repetitions", 3, "非常好", "very very very very good", True),
    ("repetitions", 3, "哈哈哈哈", "ha ha ha ha ha ha", False),
    ("repetitions", 3, "ha ha ha ha", "哈" * 7, True),
    ("repetitions", 3, "die Bundesregierung", "a b c d e f g h i j a b c d e f g h i j a b c d e f g h i j a b c d e f g h i j", True),
    ("repetitions", 3, "the dog", "कुत्ता कुत्ता कुत्ता कुत्ता", True),
    ("repetitions", 3, "Das Haus kostet 100.000 Euro.", "这栋房子价值100000欧元。", False),
    ("repetitions", 3, "Rund 1 Million Menschen leben hier.", "约1000000人居住在这里。", False),
    ("repetitions", 3, "Er hat 200,000 Yen.", "彼は200000円持っている。", False),
    ("repetitions", 3, "Er hat 200,000 Yen.", "เขามีเงิน 200000 เยน", False),
    ("repetitions", 3, "1 Mrd. Euro", "1000000000欧元", False),
    ("repetitions", 3, "Einwohnerzahl: 100.000", "Bevölkerungszahl:100000", False),
    ("repetitions", 3, "Das kostet 5 Euro.", "这个5欧元5欧元5欧元5欧元", True),
    ("repetitions", 3, "Es gab 2, 3 oder 4.", "有2,2,2,2,2,2,2,2个", True),
    ("repetitions", 3, "Das kostet 100.000 Euro.", "价值价值价值价值100000欧元", True),
    ("repetitions", 3, "Das kostet 5 Euro.", f"这个1{'0' * 40}欧元", True),
    ("repetitions", 3, "Kapitel1..........", "第一章..........1", False),
    ("repetitions", 5, "der Hund", "dog dog dog dog", False),
    ("untranslated", 0.6, "der Hund sieht den roten Mann", "der Hund sieht den roten man", True),
    ("untranslated", 0.6, "der Hund sieht den roten Mann", "the dog sees the red man", False),
    ("untranslated", 0.6, "Angela Merkel traf Emmanuel Macron in Paris", "Angela Merkel met Emmanuel Macron in Paris", False),
    ("untranslated", 0.6, "am 3. 4. 2020 um 12.30", "on 3 4 2020 at 12.30", False),
    ("untranslated", 0.6, "Hotel in Berlin", "Hotel in Berlin", False),
    ("untranslated", 0.6, "Siehe https://a.org/new/page", "See https://a.org/new/page", False),
    ("untranslated", 0.6, "https://a.org。den,roten,mann", "siehe https://a.org。den,roten,mann", True),
    ("untranslated", 0.9, "den roten Hund sieht er nicht", "the roten Hund sieht er nicht", False),
    ("untranslated", 0.6, "в лесу родилась ёлочка", "в лесу родилась ёлочка", True),
    ("untranslated", 0.6, "भारत के प्रधानमंत्री ने आज दिल्ली में कहा कि देश की अर्थव्यवस्था मजबूत है",
     "भारताच्या पंतप्रधानांनी आज दिल्लीत सांगितले की देशाची अर्थव्यवस्था मजबूत आहे", False),
    ("untranslated", 0.6, "वह अपने घर जा रहा है", "वह अपने घर जा रहा आहे", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "setting", "source", "target", "drops"), CASES)
def test_each_filter_drops_what_it_should_and_nothing_else(name, setting, source, target, drops):
    pair = Pair(source, target)
    assert FILTERS[name](pair, setting) == drops
    assert first_reason(pair, only(**{name: setting})) == (name if drops else None)


def test_cut_hypotheses_and_cut_sources_are_told_by_the_engine():
    assert first_reason(Pair("a", "b", finished=False), only(unfinished=True)) == "unfinished"
    assert first_reason(Pair("a", "b", source_cut=True), only(source_cut=True)) == "source_cut"
    assert first_reason(Pair("a", "b"), only(unfinished=True, source_cut=True)) is None


def test_all_filters_can_be_off():
    worst = Pair("a b c d", "", finished=False, source_cut=True)
    assert first_reason(worst, NO_FILTERS) is None
    assert first_reason(worst, FilterSettings()) == "empty"


def test_a_pair_is_counted_under_its_first_reason():
    settings = only(empty=True, identical=True, unfinished=True)
    assert first_reason(Pair("a", "a", finished=False), settings) == "identical"


@pytest.mark.parametrize(
    ("key", "value"),
    [("length_ratio", 0.5), ("repetitions", -1), ("untranslated", 1.0), ("score_quantile", 1.5), ("reverse_score_quantile", -0.1)],
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_told(key, value):
    (problem,) = read_section(FilterSettings, {key: value}, "filters")[1]
    assert problem.startswith(f"filters.{key}") and str(value) in problem and "must be null" in problem


# The filter, source, target, whether it drops the pair.
SURVIVAL = [
    ("unknown", "das Smörgåsbord", "the Sm ⁇ rg ⁇ sbord", True),
    ("unknown", "was ⁇ heißt", "what ⁇ means", False),
    ("numbers", "1.234,50 Euro im Jahr 1999", "1,234.50 euros in 1999", False),
    ("numbers", "im Jahr 1999", "in 1998", True),
    ("numbers", "2 Hunde", "two dogs", False),
    ("numbers", "12 und 12", "12", True),
    ("numbers", "１２ Hunde", "12 dogs", False),
    ("numbers", "keine", "30 dogs", False),
    ("numbers", "Die Stadt hat 10 000 Einwohner.", "The city has 10,000 inhabitants.", False),
    ("numbers", "Die Stadt hat 10,000 Einwohner.", "The city has 10 000 inhabitants.", False),
    ("numbers", "Die Stadt hat 10\u2009000 Einwohner.", "The city has 10,000 inhabitants.", False),
    ("numbers", "Die Stadt hat 1\u00a0234\u00a0567,50 Euro.", "The city has 1,234,567.50 euros.", False),
    ("numbers", "Die Stadt hat 10 000 Einwohner.", "The city has inhabitants.", True),
    ("numbers", "Die Stadt hat 1 000 Einwohner.", "The city has 2,000 inhabitants.", True),
    ("numbers", "Es waren im Jahr 2000 100 Menschen.", "In 2000, there were 100 people.", False),
    ("numbers", "Es waren im Jahr 2000 100 Menschen.", "There were 2,000,100 people.", True),
    ("numbers", "10...20 Hunde", "10 to 20 dogs", False),
    ("urls", "siehe https://example.org/a?b=1.", "see https://example.org/a?b=1!", False),
    ("urls", "siehe (www.example.org)", "see www.example.com", True),
    ("urls", "an info@example.org schreiben", "write to info @ example.org", True),
    ("urls", "更多信息请访问https://example.com。谢谢您的来信。",
     "For more information visit https://example.com. Thank you for your letter.", False),
    ("urls", "更多信息请访问https://example.com。谢谢您的来信。", "For more information visit https://example.org.", True),
    ("urls", "请联系info@example.com吧，谢谢您的来信。", "Please contact info@example.com, thank you for your letter.", False),
    ("urls", "请联系info@example.com吧，谢谢您的来信。", "Please contact us, thank you for your letter.", True),
    ("urls", "詳細はhttps://example.com/をご覧ください。", "See https://example.com/ for details.", False),
    ("urls", "자세한 내용은 https://example.com에서 확인하세요.", "See https://example.com for details.", False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "source", "target", "drops"), SURVIVAL)
def test_what_must_survive_a_translation(name, source, target, drops):
    assert first_reason(Pair(source, target), only(**{name: True})) == (name if drops else None)


GERMAN, ENGLISH = "Der Hund sieht den Mann im Garten nicht.", "The dog does not see the man in the garden."
CHINESE = "这只狗看不见花园里的那个男人。"


@pytest.mark.parametrize(
    ("pair", "languages", "drops"),
    [
        (Pair(GERMAN, ENGLISH), ["de", "en"], False),
        (Pair(GERMAN, GERMAN), ["de", "en"], True),
        (Pair(ENGLISH, ENGLISH), ["de", "en"], True),
        (Pair(ENGLISH, ENGLISH), [None, "en"], False),
        (Pair("12 : 30", "OK"), ["de", "en"], False),  # too little to be certain
        (Pair(GERMAN, "See https://zeit.de/zwischen-deutschland-und-frankreich"), ["de", "en"], False),
        (Pair(f"https://example.com。{CHINESE}", ENGLISH), ["ja", "en"], True),
    ],
)
def test_a_side_that_is_certainly_in_another_language_drops_the_pair(pair, languages, drops):
    assert first_reason(pair, only(languages=languages)) == ("languages" if drops else None)


def test_languages_have_any_of_their_codes():
    settings, problems = read_section(FilterSettings, {"languages": ["deu_Latn", "cmn"]}, "filters")
    assert not problems and settings.languages == ["de", "zh"]


@pytest.mark.parametrize("languages", [["de"], ["de", "xx"], "de"])
def test_languages_must_be_two_that_are_known(languages):
    _, problems = read_section(FilterSettings, {"languages": languages}, "filters")
    assert len(problems) == 1 and problems[0].startswith("filters.languages")
