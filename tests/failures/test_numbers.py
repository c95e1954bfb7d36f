import pytest

from nemo_distill.failures.numbers import changed_numbers, values_of
from nemo_distill.failures.segment import Segment

# source, translation, reference
KEPT = [
    ("Es kostet 1.000,5 Euro.", "It costs 1,000.5 euros.", "It costs 1,000.5 euros."),
    ("Es kostet 1.000 Euro.", "It costs 1000 euros.", "It costs 1,000 euros."),
    ("Es sind 245000 Waisen.", "There are 245,000 orphans.", "There are 245,000 orphans."),
    ("Es sind 30 000 Nächte.", "That is 30,000 nights.", "That is 30,000 nights."),
    ("2 Mio. Kunden", "2,000,000 customers", "2 million customers"),
    ("2,5 Milliarden", "2.5bn", "2.5 billion"),
    ("um 14.30 Uhr", "at 2:30 p.m.", "at 2:30 pm"),
    ("um 20 Uhr", "at 8 p.m.", "at 8 o'clock"),
    ("um fünf Uhr", "at 5:00", "at five"),
    ("das 3. Mal", "the third time", "the 3rd time"),
    ("zum zweiten Mal", "for the 2nd time", "a second time"),
    ("vor zehn Jahren", "a decade ago", "ten years ago"),
    ("die zwei Kinder", "both children", "the two children"),
    ("21 Schafe", "twenty-one sheep", "twenty one sheep"),
    ("der Zweite Weltkrieg", "World War II", "the Second World War"),
    ("die 80er Jahre", "the 1980s", "the eighties of 1980"),
    ("Ende der achtziger Jahre", "in the late 1980s", "in the late eighties"),
    ("die 1940er", "the forties", "the 1940s"),
    ("zum zwanzigjährigen Bestehen", "for the 20th anniversary", "two decades"),
    ("mit 120:108", "120:108", "by points"),
    ("die fünf Besten", "the top fünf", "the five best"),
    ("ein 3:1 im Achtelfinale", "a 3-1 in the round of 16", "3:1 in the last sixteen"),
    ("am 12.03.2013", "on 3/12/2013", "on 12 March 2013, the 3rd"),
    ("Er wartet 12 Tage.", "He waits.", "He waits."),  # the reference has lost it too
    ("Der A380", "The A 380", "The A380"),
    ("Antonín", "AntonÃ3n", "Antonín"),  # broken characters, but no number
    ("Es kostet ３０ Euro.", "It costs 30 euros.", "It costs 30 euros."),
    ("Es kamen 200 Leute.", "Two hundred people came.", "200 people came."),
    ("Es kamen zweihundert Leute.", "200 people came.", "Two hundred people came."),
    ("Es kamen 5000 Leute.", "Five thousand people came.", "5,000 people came."),
    ("Es kamen 2.500.000 Leute.", "Two and a half million people came.", "2,500,000 people came."),
    ("Es waren 1984 Leute.", "There were nineteen eighty-four.", "There were 1,984."),
    ("Es kostet anderthalb Euro.", "It costs 1.5 euros.", "It costs one and a half euros."),
    ("300.000 bis 450.000", "300 to 450 thousand", "300,000 to 450,000"),
    ("Es waren 29 Tische.", "Twenty-nine tables were set.", "There were 29 tables."),
    ("mir bleiben 5.000", "five thousands are left", "5,000 are left"),
    ("eine halbe Million", "500,000", "half a million"),
    ("zweihundertfünfundzwanzigtausend Leute", "225,000 people", "people"),
    ("um 14.30 Uhr", "at half past two", "at 2:30 pm"),
    ("um halb drei", "at 2:30", "at half past two"),
    ("um Viertel vor 8", "at 7:45", "at a quarter to 8"),
    ("Es sind 1.234.567 Leute.", "There are 12,34,567 people.", "There are 1,234,567 people."),
    ("Es kostet 1.234.567,50.", "It costs 12,34,567.50.", "It costs 1,234,567.50."),
    ("Es kostet 100.000 Euro.", "It costs 1,00,000 euros.", "It costs 100,000 euros."),
    ("Wasser gefriert bei 0 Grad.", "Water freezes at zero degrees.", "Water freezes at 0 degrees."),
    ("Wasser gefriert bei null Grad.", "Water freezes at 0 degrees.", "Water freezes."),
    ("Sie gewannen 3:0.", "They won three nil.", "They won 3-0."),
]
IRREGULAR = ["192.168.1.1", "10.0.0.255", "555.123.4567", "5.15.120", "1.234.56", "0.0"]
CHANGED = [
    ("Es sind 245000 Waisen.", "There are 247,000 orphans.", "There are 245,000 orphans.", ["245000", "+247,000"]),
    ("Es kostet 1.000,5 Euro.", "It costs 1,005 euros.", "It costs 1,000.5 euros.", ["1.000,5", "+1,005"]),
    ("um 23 Uhr", "at 2 p.m.", "at 11 p.m.", ["23", "+2"]),
    ("drei Söhne", "sons", "three sons", ["drei"]),
    ("Rufen Sie 101 an.", "Call 911.", "Call 101.", ["101", "+911"]),
    ("bis zu 99 %", "probably", "up to 99%", ["99"]),
    ("Es kostet 50.000 Euro.", "It costs 50 euros.", "It costs 50,000 euros.", ["50.000", "+50"]),
    ("1.000 Menschen kamen.", "A few people came.", "1,000 people came.", ["1.000"]),
    ("3,5 Prozent", "5.3 percent", "3.5 percent", ["3,5"]),
    ("Es kamen 205 Leute.", "Two hundred and six came.", "205 people came.", ["205"]),
    ("Es kostet 1 234,50 Euro.", "It costs euros.", "It costs 1,234.50 euros.", ["1 234,50"]),
    ("Es sind 30\u2009000 Nächte.", "There are nights.", "There are 30,000 nights.", ["30\u2009000"]),
    ("Es hat 192.168.1.1.", "It has no address.", "It has 192.168.1.1.", ["192.168.1.1"]),
    ("Es hat 192.168.1.1.", "It has 192.168.1.7.", "It has 192.168.1.1.", ["+192.168.1.7"]),
    ("Es sind 12,34,567.", "There are many.", "There are 12,34,567.", ["12,34,567"]),
    ("Bei 0 Grad.", "At degrees.", "At 0 degrees.", ["0"]),
]
IN_GERMAN = [
    ("25 people", "fünfundzwanzig Leute", "25 Leute"),
    ("the 21st time", "zum einundzwanzigsten Mal", "zum 21. Mal"),
    ("at 2:30", "um halb drei", "um 14.30 Uhr"),
    ("150 pages", "hundertfünfzig Seiten", "150 Seiten"),
    ("2.5 pages", "zweieinhalb Seiten", "2,5 Seiten"),
    ("at 0 degrees", "am Nullpunkt", "bei 0 Grad"),
    ("0.5 pages", "eine halbe Seite", "0,5 Seiten"),
]
INTO_JAPANESE = [
    ("12,345 people", "1万2345人", "12345人", []),
    ("1,234,567 yen", "123万4567円", "1234567円", []),
    ("123,456,789 yen", "1億2345万6789円", "123,456,789円", []),
    ("25,321 yen", "2万5320円", "25321円", ["25,321"]),
    ("150,000,000 yen", "1.5億円", "1億5000万円", []),
]
INTO_ARABIC = [
    ("1,234 people and 5,678 cats", "١٬٢٣٤ شخصا و ٥٬٦٧٨", "1234 و 5678", []),
    ("1,234 people and 5.5 cats", "١٬٢٣٥ شخصا و ٥٫٥", "1234 و 5.5", ["1,234"]),
]
IN_JAPANESE = [
    ("約500人が参加した。", "About people took part.", "About 500 people took part.", ["500"]),
    ("約500人が参加した。", "About 500 people took part.", "About 500 people took part.", []),
    ("総額1億5000万円です。", "It is 150 million yen.", "It is 150 million yen.", []),
    ("A380が着いた。", "The A 380 arrived.", "The A380 arrived.", []),
]


@pytest.mark.parametrize(
    ("texts", "source", "target"),
    [*((texts, "de", "en") for texts in KEPT), *((texts, "en", "de") for texts in IN_GERMAN)],
)
def test_a_number_in_another_form_is_kept(texts, source, target):
    assert changed_numbers(Segment(*texts), source, target) == []


@pytest.mark.parametrize(("source", "translation", "reference", "found"), CHANGED)
def test_lost_and_invented_numbers_are_found(source, translation, reference, found):
    assert changed_numbers(Segment(source, translation, reference), "de", "en") == found


@pytest.mark.parametrize(("source", "translation", "reference", "found"), IN_JAPANESE)
def test_numbers_among_japanese_characters_are_compared(source, translation, reference, found):
    assert changed_numbers(Segment(source, translation, reference), "ja", "en") == found


@pytest.mark.parametrize(
    ("texts", "target"),
    [*((texts, "ja") for texts in INTO_JAPANESE), *((texts, "ar") for texts in INTO_ARABIC)],
)
def test_numbers_in_digits_of_other_scripts_are_compared(texts, target):
    *segment, found = texts
    assert changed_numbers(Segment(*segment), "en", target) == found


@pytest.mark.parametrize("number", [*IRREGULAR, "12,34,567"])
def test_a_number_in_parts_of_unequal_length_is_kept_where_both_sides_have_it(number):
    assert changed_numbers(Segment(*[number] * 3), "de", "en") == []
    assert changed_numbers(Segment(number, "", number), "de", "en") == [number]


@pytest.mark.parametrize("number", ["20", "100", "1000"])
def test_round_numbers_are_not_compared_without_the_number_words_of_the_language(number):
    segment = Segment(f"{number} Leute", "Vingt, cent ou mille personnes", f"{number} personnes")
    assert changed_numbers(segment, "de", "fr") == []


def test_the_longest_of_numbers_are_compared_too():
    long = "1" * 5000
    assert changed_numbers(Segment(f"{long} {long}.30", long, long), "de", "en") == []
    assert changed_numbers(Segment("", f"{long} 0{long}0", ""), "de", "fr") == [f"+{long}", f"+0{long}0"]


@pytest.mark.parametrize(("language", "word", "five"), [("en", "hundred", "five"), ("de", "hundert", "fünf")])
def test_a_loop_of_number_words_is_no_error(language, word, five):
    assert "5" in values_of(f"zwei two {f'{word} ' * 500}{five}", language)


@pytest.mark.parametrize(
    ("translation", "found"),
    [("trois enfants en 2013", []), ("des enfants en 2013", []), ("trois enfants en 2014", ["2013", "+2014"])],
)
def test_small_numbers_are_not_compared_without_the_number_words_of_the_language(translation, found):
    segment = Segment("3 Kinder in 2013", translation, "3 enfants en 2013")
    assert changed_numbers(segment, "de", "fr") == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("十六日", "16"),
        ("四百", "400"),
        ("三百二十", "320"),
        ("一万二千", "12000"),
        ("二〇一三", "2013"),
        ("一億二千万", "120000000"),
    ],
)
def test_numbers_in_chinese_characters_are_read(text, value):
    assert value in values_of(text, "zh")


@pytest.mark.parametrize(
    ("text", "language", "read", "unread"),
    [
        ("um 14.30 Uhr", "de", {"2:30", "14.3"}, {"14:30"}),
        ("24.30", "de", {"24.3"}, {"0:30"}),  # no time
        ("8.60", "de", {"8.6"}, {"8:60"}),
        ("1.234,567", "de", {"1234.567"}, {"1234567"}),
        ("1.234.567", "de", {"1234567"}, {"1234.567"}),
        ("12.34,5", "de", {"12", "34", "5"}, {"1234.5"}),
        ("the eighties and five more", "en", {"1880", "1980", "2080", "5"}, {"1805", "1905", "2005"}),
        ("two thousand three hundred", "en", {"2300"}, {"200300"}),
        ("three million two hundred", "en", {"3000200"}, {"200"}),
        ("hundert zweihundert", "de", {"100", "200"}, {"300"}),
        ("tausendfünf und hundertsieben", "de", {"1005", "107"}, set()),
        ("20 Mrd. und anderthalb", "de", {"20000000000", "1.5"}, set()),
        ("einige", "de", set(), {"1"}),
        ("ten five", "en", {"10", "5"}, {"15"}),
        ("fünfzehnjährige", "de", {"15"}, {"5"}),
        ("halb 11", "de", {"10:30"}, set()),
        ("dreiviertel acht", "de", {"7:45"}, {"8:45"}),
        ("quarter past four", "en", {"4:15"}, {"3:15"}),
        ("half past twelve", "en", {"0:30"}, {"12:30"}),
    ],
)
def test_a_number_is_read_in_the_ways_that_it_may_be_meant_and_in_no_others(text, language, read, unread):
    values = values_of(text, language)
    assert read <= values and not unread & values


def test_signs_of_ten_thousands_multiply():
    assert "30000" in values_of("3万円", "ja")
