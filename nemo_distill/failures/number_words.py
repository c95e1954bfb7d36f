"""Words for numbers, in German and English, and what runs of them mean, such as `two hundred and five`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache

# Units of counting: number words up to twelve are looked for in the source, all others only accepted in a translation.
COUNTED = tuple(range(2, 13))
SHORTEST_BEGINNING = 4  # letters; "ten" begins too many other words
_CARDINALS = {
    "de": "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "en": "two three four five six seven eight nine ten eleven twelve",
}
_ORDINALS = {
    "de": "zweite dritte vierte fünfte sechste siebte achte neunte zehnte elfte zwölfte",
    "en": "second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
}
_ENDINGS = {"de": ("", "r", "n", "s", "m", "ns"), "en": ("", "s")}
_LARGER = {
    "de": {
        **{"dreizehn": 13, "vierzehn": 14, "fünfzehn": 15, "sechzehn": 16, "siebzehn": 17, "achtzehn": 18},
        **{"neunzehn": 19, "zwanzig": 20, "dreißig": 30, "vierzig": 40, "fünfzig": 50, "sechzig": 60},
        **{"siebzig": 70, "achtzig": 80, "neunzig": 90, "hundert": 100, "tausend": 1000},
    },
    "en": {
        **{"thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18},
        **{"nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70},
        **{"eighty": 80, "ninety": 90, "hundred": 100, "thousand": 1000, "twenties": 20, "thirties": 30},
        **{"forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80, "nineties": 90},
        **{"hundreds": 100, "thousands": 1000, "twentieth": 20, "hundredth": 100},
    },
}
_OTHER = {
    "de": {
        **{"null": 0},
        **{"ein": 1, "eins": 1, "eine": 1, "einen": 1, "einem": 1, "einer": 1, "einmal": 1, "erste": 1, "ersten": 1},
        **{"erster": 1, "erstes": 1, "einzige": 1, "beide": 2, "beiden": 2, "beider": 2, "zweimal": 2, "zwo": 2},
        **{"paar": 2, "doppelt": 2, "doppelte": 2, "zweier": 2, "zweien": 2, "zweitens": 2, "dreimal": 3, "dreier": 3},
        **{"drittel": 3, "drittens": 3, "trio": 3, "viertel": 4, "viermal": 4, "fünftel": 5, "dutzend": 12},
        **{"halb": 2, "hälfte": 2, "halben": 2, "halbe": 2},
        **{"halbfinale": 4, "viertelfinale": 8, "achtelfinale": 16, "jahrzehnt": 10, "jahrzehnte": 10},
        **{"jahrzehnten": 10, "jahrhundert": 100},
    },
    "en": {
        **{"zero": 0, "nil": 0},
        **{"one": 1, "a": 1, "an": 1, "once": 1, "first": 1, "single": 1, "both": 2, "twice": 2, "couple": 2},
        **{"pair": 2, "double": 2, "doubled": 2, "twofold": 2, "twin": 2, "dual": 2, "half": 2, "other": 2},
        **{"either": 2, "neither": 2, "another": 2, "secondly": 2, "runner": 2, "duo": 2, "bilateral": 2},
        **{"thrice": 3, "triple": 3, "trio": 3, "threefold": 3, "trilateral": 3, "quarter": 4, "quarters": 4},
        **{"quartet": 4, "quadruple": 4, "dozen": 12, "twelfths": 12, "noon": 12, "midday": 12, "midnight": 12},
        **{"decade": 10, "decades": 10, "century": 100, "semifinals": 4, "quarterfinals": 8},
    },
}
# What a number is multiplied by.
_SCALES = {
    "de": {
        **{"hundert": 100, "tausend": 10**3, "tsd": 10**3, "million": 10**6, "millionen": 10**6, "mio": 10**6},
        **{"milliarde": 10**9, "milliarden": 10**9, "mrd": 10**9, "billion": 10**12, "billionen": 10**12},
    },
    "en": {
        **{
            "hundred": 100,
            "thousand": 10**3,
            "thousands": 10**3,
            "k": 10**3,
            "million": 10**6,
            "m": 10**6,
            "mn": 10**6,
            "mln": 10**6,
        },
        **{"billion": 10**9, "bn": 10**9, "b": 10**9, "trillion": 10**12, "tn": 10**12},
    },
}
_SIGNS = {"千": 10**3, "万": 10**4, "億": 10**8, "亿": 10**8, "兆": 10**12}


@cache
def counted_words(language: str | None) -> Mapping[str, Decimal]:
    """Returns the cardinals and ordinals from two to twelve, also inflected; none if the language is not known."""
    if language not in _CARDINALS:
        return {}
    found: dict[str, Decimal] = {}
    for names in (_CARDINALS[language].split(), _ORDINALS[language].split()):
        for name, value in zip(names, COUNTED):
            found |= {name + ending: Decimal(value) for ending in _ENDINGS[language]}
    return found


@cache
def ordinal_words(language: str | None) -> Mapping[str, int]:
    """Returns the ordinals from one to twelve, also inflected; none if the language is not known."""
    if language not in _ORDINALS:
        return {}
    names = [{"de": "erste", "en": "first"}[language], *_ORDINALS[language].split()]
    return {name + ending: value for value, name in enumerate(names, 1) for ending in _ENDINGS[language]}


@cache
def accepted_words(language: str | None) -> Mapping[str, Decimal]:
    """Returns all words that can stand for a number, such as "both" for 2; none if the language is not known."""
    others = {**_LARGER.get(language or "", {}), **_OTHER.get(language or "", {})}
    if language == "de":
        others |= {
            word + ending: value for word, value in others.items() if word.endswith("ig") for ending in ("er", "ern")
        }
    return {**{word: Decimal(value) for word, value in others.items()}, **counted_words(language)}


@cache
def beginnings(language: str | None) -> Sequence[str]:
    """Returns the number words that longer words begin with, as `zwanzigjährig` does, the longest first."""
    found = {word for word in accepted_words(language) if len(word) >= SHORTEST_BEGINNING}
    return sorted(found, key=len, reverse=True)


@cache
def scales(language: str | None) -> Mapping[str, int]:
    """Returns the words that multiply the number before them."""
    return {**_SCALES.get(language or "", {}), **_SIGNS}


def number_word(word: str, language: str | None) -> str:
    """Returns the number word that a word begins with, as in `zwanzigjährig`; the word itself if there is none."""
    if word in accepted_words(language):
        return word
    return next((begin for begin in beginnings(language) if word.startswith(begin)), word)


HALF, HALVES = Decimal("0.5"), {"half", "halb", "halbe", "halben"}
JOINING = {"and", "und", "a"}  # in the middle of a number
CENTURIES = (18, 19, 20)
_ONES = dict(zip("ein zwei drei vier fünf sechs sieben acht neun".split(), range(1, 10)))
_TEENS = {**dict(zip("zehn elf zwölf".split(), range(10, 13))), **{w: n for w, n in _LARGER["de"].items() if n < 20}}
_TENS = {word: value for word, value in _LARGER["de"].items() if 20 <= value < 100}


def _below_thousand(name: str) -> str:
    """Returns a regular expression of German number words, with a group `name_part` for each part."""
    ones, small, tens = ("|".join(sorted(words, reverse=True)) for words in (_ONES, _ONES | _TEENS, _TENS))
    return (
        rf"(?:(?P<{name}_hundreds>{ones})?(?P<{name}_hundred>hundert)(?:und)?)?"
        rf"(?:(?:(?P<{name}_ones>{ones})und)?(?P<{name}_tens>{tens})|(?P<{name}_small>{small}))?"
    )


_COMPOUND = re.compile(rf"(?:{_below_thousand('before')}(?P<thousand>tausend)(?:und)?)?{_below_thousand('after')}")
_AND_A_HALF = re.compile(rf"(?:(?P<whole>{'|'.join(_ONES | _TEENS)})(?:und)?ein|andert)halb")


def _compound(word: str) -> Decimal | None:
    """Returns the value that a German word of several number words begins with, such as `zweihundertfünfzig`."""
    if match := _AND_A_HALF.match(word):
        return HALF + (_ONES | _TEENS).get(match["whole"], 1)
    match = _COMPOUND.match(word)
    if match is None or sum(map(bool, match.groups())) < 2:
        return None

    def value(name: str) -> int:
        hundreds = 100 * _ONES.get(match[f"{name}_hundreds"], 1) if match[f"{name}_hundred"] else 0
        tens = _TENS.get(match[f"{name}_tens"], 0) + _ONES.get(match[f"{name}_ones"], 0)
        return hundreds + tens + (_ONES | _TEENS).get(match[f"{name}_small"], 0)

    return Decimal((1000 * (value("before") or 1) if match["thousand"] else 0) + value("after"))


def composed(words: Sequence[str], language: str | None) -> Iterator[Decimal]:
    """Yields the values of runs of number words, such as `two hundred and five` and `zweihundertfünf`.

    Args:
        words: in lower case.
        language: of the text; nothing is found if its number words are not known.
    """
    known, multipliers = accepted_words(language), {w: n for w, n in scales(language).items() if len(w) > SHORT}
    total, current, parts = Decimal(0), Decimal(0), 0
    for word in [*words, ""] if known else []:
        compound = _compound(word) if language == "de" else None
        value = HALF if word in HALVES else compound or known.get(number_word(word, language))
        if parts and word in JOINING:
            continue
        if parts and word in multipliers:
            current *= multipliers[word]
            if multipliers[word] >= 1000:
                total, current = total + current, Decimal(0)
            parts += 1
        elif parts and value and _goes_on(current, value):
            current = current + value if value < 10 or current not in CENTURIES else 100 * current + value
            parts += 1
        else:
            if parts > 1:
                yield total + current
            total, current, parts = Decimal(0), value or Decimal(0), (2 if compound else 1) if value else 0


SHORT = 3  # letters of an abbreviation
LARGEST = 10**12  # what is larger is a loop, such as "hundred hundred hundred ..."


def _goes_on(current: Decimal, value: Decimal) -> bool:
    """True if a number word goes on with the number before it, as in `hundred five` and `nineteen eighty`."""
    if value == HALF or not current:
        return True
    if current > LARGEST:
        return False
    tens = current % 100
    return (
        (not tens and value < 100)
        or (tens >= 20 and not tens % 10 and value < 10)
        or (current in CENTURIES and 10 <= value < 100)
    )


# The words before an hour, the hour that they count from, and the minutes.
_CLOCK = {
    "de": (("halb", -1, 30), ("viertel nach", 0, 15), ("viertel vor", -1, 45), ("dreiviertel", -1, 45)),
    "en": (("half past", 0, 30), ("quarter past", 0, 15), ("quarter to", -1, 45)),
}


def clock_times(text: str, language: str | None) -> Iterator[tuple[str, str]]:
    """Yields the words of each time that is told by the hour's name or number, and the time, such as `2:30`."""
    for words, hours, minutes in _CLOCK.get(language or "", ()):
        for match in re.finditer(rf"\b{words}\s+(\w+)", text, re.IGNORECASE):
            hour = match[1].casefold()
            value = int(hour) if hour.isascii() and hour.isdigit() and len(hour) < SHORT else None
            value = value or (int(known) if (known := accepted_words(language).get(hour)) else None)
            if value:
                yield match[0], f"{(value + hours) % 12}:{minutes}"
