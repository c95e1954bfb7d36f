"""Numbers, ordinals and times that are lost or changed.

A number can be written in many ways: `1.000,5` and `1,000.5`, `14.30 Uhr` and `2:30 p.m.`, `3.` and `third`, `2 Mio.`
and `2,000,000`. Each number therefore has several readings, and it is kept if the translation contains one of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import pairwise

from nemo_distill.failures.segment import Found, Segment

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
        **{"ein": 1, "eins": 1, "eine": 1, "einen": 1, "einem": 1, "einer": 1, "einmal": 1, "erste": 1, "ersten": 1},
        **{"erster": 1, "erstes": 1, "einzige": 1, "beide": 2, "beiden": 2, "beider": 2, "zweimal": 2, "zwo": 2},
        **{"paar": 2, "doppelt": 2, "doppelte": 2, "zweier": 2, "zweien": 2, "zweitens": 2, "dreimal": 3, "dreier": 3},
        **{"drittel": 3, "drittens": 3, "trio": 3, "viertel": 4, "viermal": 4, "fünftel": 5, "dutzend": 12},
        **{"halb": 2, "hälfte": 2, "halben": 2, "halbe": 2},
        **{"halbfinale": 4, "viertelfinale": 8, "achtelfinale": 16, "jahrzehnt": 10, "jahrzehnte": 10},
        **{"jahrzehnten": 10, "jahrhundert": 100},
    },
    "en": {
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
        **{"hundred": 100, "thousand": 10**3, "k": 10**3, "million": 10**6, "m": 10**6, "mn": 10**6, "mln": 10**6},
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


NUMBER = re.compile(r"\d{1,3}(?:[ '’\u00a0\u202f]\d{3})+(?!\d)|\d+(?:[.,:]\d+)*")
FREE_NUMBER = re.compile(rf"(?<![\w.,:⁄])(?:{NUMBER.pattern})")
SPACES = re.compile(r"[ '’\u00a0\u202f]")
WORD = re.compile(r"[^\W\d_]+|[千万億亿兆]")
SCALE_AFTER = re.compile(r"[\s\u00a0-]*([千万億亿兆]|[^\W\d_]+)")
ROMAN = ("", *"I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX XXI".split())
LETTERS = re.compile(r"\b[IVX]+\b")
CENTURIES = (18, 19, 20)
DECADES = range(20, 100, 10)  # the eighties are the 1980s
IDEOGRAPHIC_DIGITS = "〇一二三四五六七八九"
IDEOGRAPHIC_SCALES = {"十": 10, "百": 100, "千": 10**3, "万": 10**4, "億": 10**8, "亿": 10**8}
LARGE_SCALE = 10**4  # from here on, a sign multiplies all signs before it
IDEOGRAPHS = re.compile(f"[{IDEOGRAPHIC_DIGITS}{''.join(IDEOGRAPHIC_SCALES)}]+")
GROUP = 3  # digits between separators of thousands
SPELLED = 13  # smaller numbers are often written as words

Reading = frozenset[str]  # values that together mean the same as the number


@dataclass(frozen=True)
class Number:
    """A number as written, and what it may mean."""

    text: str
    readings: tuple[Reading, ...]

    def is_in(self, values: Reading) -> bool:
        """True if these values contain one of the readings."""
        return any(reading <= values for reading in self.readings)


def changed_numbers(segment: Segment, source_language: str | None, target_language: str | None) -> Found:
    """Returns the numbers that are lost, and with a plus those that are invented.

    A number is lost if source and reference have it and the translation does not. It is invented if it is written in
    digits and neither source nor reference has it. Numbers below 13 are compared only if the number words of the
    target language are known.
    """
    reference = values_of(segment.reference, target_language)
    translation = values_of(segment.translation, target_language)
    known = values_of(segment.source, source_language) | reference
    source = [*free_digits(segment.source, source_language), *spelled(segment.source, source_language)]
    copied = {word.casefold() for word in WORD.findall(segment.translation)}  # such as Top Five
    lost = [
        number
        for number in source
        if number.is_in(reference) and not number.is_in(translation) and number.text.casefold() not in copied
    ]
    added = [number for number in free_digits(segment.translation, target_language) if not number.is_in(known)]
    if not counted_words(target_language):
        lost, added = ([one for one in numbers if not _may_be_spelled(one)] for numbers in (lost, added))
    return list(dict.fromkeys([*(number.text for number in lost), *(f"+{number.text}" for number in added)]))


def values_of(text: str, language: str | None) -> Reading:
    """Returns all values that the numbers and number words of a text may have."""
    found = {value for number in digits(text, language) for reading in number.readings for value in reading}
    found |= {_value(Decimal(ROMAN.index(one))) for one in LETTERS.findall(text) if one in ROMAN}  # World War II
    found |= {_value(ideographic(number)) for number in IDEOGRAPHS.findall(text)}
    known = accepted_words(language)
    words = [_stem(word.casefold(), language) for word in WORD.findall(text)]
    for value in (known[word] for word in words if word in known):
        found |= {_value(value), *(_value(100 * century + value) for century in CENTURIES if value in DECADES)}
    pairs = [pair for pair in pairwise(words) if known.keys() >= set(pair)]  # twenty one
    found |= {_value(known[tens] + known[ones]) for tens, ones in pairs}
    return frozenset(found)


def _stem(word: str, language: str | None) -> str:
    """Returns the number word that a word begins with, as in `zwanzigjährig`; the word itself if there is none."""
    if word in accepted_words(language):
        return word
    return next((begin for begin in beginnings(language) if word.startswith(begin)), word)


def ideographic(number: str) -> Decimal:
    """Returns the value of a number in Chinese characters, such as `三百二十`."""
    total = part = Decimal(0)
    digit: Decimal | None = None
    for sign in number:
        if sign in IDEOGRAPHIC_DIGITS:
            digit = 10 * (digit or 0) + Decimal(IDEOGRAPHIC_DIGITS.index(sign))
            continue
        scale = Decimal(IDEOGRAPHIC_SCALES[sign])
        if scale < LARGE_SCALE:
            part += scale * (1 if digit is None else digit)
        else:
            total, part = total + scale * (part + (digit or 0)), Decimal(0)
        digit = None
    return total + part + (digit or 0)


def free_digits(text: str, language: str | None) -> Iterator[Number]:
    """Yields the numbers that are written in digits, except those after a letter, which are parts of names."""
    return digits(text, language, FREE_NUMBER)


def digits(text: str, language: str | None, pattern: re.Pattern[str] = NUMBER) -> Iterator[Number]:
    """Yields the numbers that are written in digits."""
    known = scales(language)
    for match in pattern.finditer(text):
        readings = list(_readings(match[0]))
        after = SCALE_AFTER.match(text, match.end())
        if after and (scale := known.get(after[1].casefold())):
            readings += [frozenset({_value(Decimal(one) * scale)}) for one in _plain(match[0])]
        yield Number(match[0], tuple(readings))


def spelled(text: str, language: str | None) -> Iterator[Number]:
    """Yields the cardinals and ordinals from two to twelve that are written as words."""
    known = counted_words(language)
    for word in WORD.findall(text):
        if word.casefold() in known:
            yield Number(word, (frozenset({_value(known[word.casefold()])}),))


def _readings(written: str) -> Iterator[Reading]:
    written = SPACES.sub("", written)
    for value in _plain(written):
        yield frozenset({_value(Decimal(value))})
    parts = re.split(r"[.,:]", written)
    if len(parts) > 1 and (":" in written or all(len(part) != GROUP for part in parts)):
        yield frozenset(_value(Decimal(part)) for part in parts)  # a score, a date
    if len(parts) == 2 and len(parts[1]) == 2 and int(parts[0]) < 24 and int(parts[1]) < 60:
        yield frozenset({f"{int(parts[0]) % 12}:{parts[1]}"})
        if parts[1] == "00":
            yield frozenset({_value(Decimal(parts[0]))})  # 5:00 and five o'clock
    if len(parts) == 1 and len(written) == 2:
        yield from (frozenset({f"{century}{written}"}) for century in CENTURIES)  # '80 and 1980
    if len(parts) == 1 and int(written) < 24 and len(written) <= 2:
        yield frozenset({f"{int(written) % 12}:00"})  # 20 Uhr and 8 p.m.


def _plain(written: str) -> Iterator[str]:
    """Yields the number without separators of thousands, with a point before decimals."""
    compact = SPACES.sub("", written)
    parts, signs = re.split(r"[.,:]", compact), re.findall(r"[.,:]", compact)
    grouped = all(len(part) == GROUP for part in parts[1:-1]) and len(parts[0]) <= GROUP
    if not signs:
        yield compact
    elif ":" not in signs:
        if grouped and len(parts[-1]) == GROUP and len(set(signs)) == 1:
            yield "".join(parts)
        if signs[-1] not in signs[:-1] and (len(signs) == 1 or grouped):
            yield f"{''.join(parts[:-1])}.{parts[-1]}"


def _value(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _may_be_spelled(number: Number) -> bool:
    return any(":" not in value and Decimal(value) < SPELLED for reading in number.readings for value in reading)
