"""Numbers, ordinals and times that are lost or changed.

A number can be written in many ways: `1.000,5` and `1,000.5`, `14.30 Uhr` and `2:30 p.m.`, `3.` and `third`, `2 Mio.`
and `2,000,000`. Each number therefore has several readings, and it is kept if the translation contains one of them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from nemo_distill.failures.number_words import (
    CENTURIES,
    HALF,
    HALVES,
    accepted_words,
    clock_times,
    composed,
    counted_words,
    number_word,
    scales,
)
from nemo_distill.failures.segment import SPACELESS_LETTERS, Found, Segment

SPACES = re.compile(r"[ '’\u00a0\u2009\u202f]")
ARABIC_SIGNS = {0x066B: ".", 0x066C: ","}  # of decimals, and of thousands
NUMBER = re.compile(rf"\d{{1,3}}(?:{SPACES.pattern}\d{{3}})+(?!\d)(?:[.,:٫٬]\d+)*|\d+(?:[.,:٫٬]\d+)*")
INDIAN = re.compile(r"\d{1,2}(?:,\d\d)+,\d{3}(?:\.\d+)?")  # lakhs and crores: 12,34,567
# No part of a name, such as A380, and no part of a number with several signs, such as 1億5000万.
FREE_NUMBER = re.compile(
    rf"(?:(?<![\w.,:٫٬⁄])|(?<=[{SPACELESS_LETTERS}])(?<![千万億亿兆]))(?>{NUMBER.pattern})(?![千万億亿兆]\d)"
)
WORD = re.compile(r"[^\W\d_]+|[千万億亿兆]")
# Also after the second of two numbers, as in `300 to 450 thousand`.
SCALE_AFTER = re.compile(
    rf"(?:\s*(?:to|and|or|bis|und|oder|[-–])\s*(?:{NUMBER.pattern}))?[\s\u00a0-]*([千万億亿兆]|[^\W\d_]+)"
)
ROMAN = ("", *"I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX XXI".split())
LETTERS = re.compile(r"\b[IVX]+(?=(?:e|er|re|ème)?\b)")  # also XXe
DECADES = range(20, 100, 10)  # the eighties are the 1980s
IDEOGRAPHIC_DIGITS = "〇一二三四五六七八九"
IDEOGRAPHIC_SCALES = {"十": 10, "百": 100, "千": 10**3, "万": 10**4, "億": 10**8, "亿": 10**8}
LARGE_SCALE = 10**4  # from here on, a sign multiplies all signs before it
IDEOGRAPHS = re.compile(f"[{IDEOGRAPHIC_DIGITS}{''.join(IDEOGRAPHIC_SCALES)}]+")
SIGN_OF_SCALE = re.compile(r"(\d[\d,]*(?:\.\d+)?)([千万億亿兆])")
DIGITS_AND_SIGNS = re.compile(rf"(?:{SIGN_OF_SCALE.pattern})+(?:\d+(?:,\d{{3}})*)?")  # such as 2万5321
GROUP = 3  # digits between separators of thousands
SIGNS_OF_THOUSANDS = {"de": ".", "en": ","}

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
    digits and neither source nor reference has it. Numbers that are often written as words, which are those up to 100
    and round ones, are compared only if the number words of the target language are known.
    """
    reference = values_of(segment.reference, target_language)
    translation = values_of(segment.translation, target_language)
    known = values_of(segment.source, source_language, as_grouped)
    known |= values_of(segment.reference, target_language, as_grouped)
    text = segment.source
    for words in (words for words, time in clock_times(text, source_language) if time in translation):
        text = text.replace(words, "")  # its hour may have another name: a quarter to eight is 7:45
    written = (as_grouped(number, source_language) for number in free_digits(text, source_language))
    source = [*written, *spelled(text, source_language)]
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


def values_of(text: str, language: str | None, read: Callable[[Number, str | None], Number] | None = None) -> Reading:
    """Returns all values that the numbers and number words of a text may have.

    Args:
        text: the text.
        language: its language, if it is known.
        read: what leaves out some of the readings of a number, such as `as_grouped`.
    """
    numbers = (read(number, language) if read else number for number in digits(text, language))
    found = {value for number in numbers for reading in number.readings for value in reading}
    found |= {_value(Decimal(ROMAN.index(one))) for one in LETTERS.findall(text) if one in ROMAN}  # World War II
    found |= {_value(ideographic(number)) for number in IDEOGRAPHS.findall(text)}
    found |= {_value(_digits_and_signs(match[0])) for match in DIGITS_AND_SIGNS.finditer(text)}
    known = accepted_words(language)
    words = [word.casefold() for word in WORD.findall(text)]
    found |= {_value(HALF)} if HALVES.intersection(words) else set()
    for value in (known[word] for word in (number_word(word, language) for word in words) if word in known):
        found |= {_value(value), *(_value(100 * century + value) for century in CENTURIES if value in DECADES)}
    return frozenset(
        found | set(map(_value, composed(words, language))) | {time for _, time in clock_times(text, language)}
    )


def ideographic(number: str) -> Decimal:
    """Returns the value of a number in Chinese characters, such as `三百二十`."""
    total = part = digit = Decimal(0)
    for sign in number:
        if sign in IDEOGRAPHIC_DIGITS:
            digit = 10 * digit + IDEOGRAPHIC_DIGITS.index(sign)
            continue
        scale = Decimal(IDEOGRAPHIC_SCALES[sign])
        if scale < LARGE_SCALE:
            part += scale * (digit or 1)
        else:
            total, part = total + scale * (part + digit), Decimal(0)
        digit = Decimal(0)
    return total + part + digit


def _digits_and_signs(number: str) -> Decimal:
    """Returns the value of a number in digits and Chinese signs of scales, such as `2万5321`."""
    parts = list(SIGN_OF_SCALE.finditer(number.replace(",", "")))
    scaled = (Decimal(part[1]) * scales(None)[part[2]] for part in parts)
    return sum(scaled, Decimal(parts[-1].string[parts[-1].end() :] or 0))


def as_grouped(number: Number, language: str | None) -> Number:
    """Returns the number with the reading of its language alone, if its signs can only part thousands there.

    So a German `50.000` is not kept by a translation that has 50.
    """
    sign = SIGNS_OF_THOUSANDS.get(language or "")
    parts = number.text.split(sign) if sign else []
    if len(parts) < 2 or not all(part.isdigit() for part in parts) or not 0 < len(parts[0]) <= GROUP:
        return number
    if any(len(part) != GROUP for part in parts[1:]):
        return number
    return Number(number.text, tuple(one for one in number.readings if not _is_decimal(one, "".join(parts))))


def _is_decimal(reading: Reading, whole: str) -> bool:
    """True if a reading takes the digits of a whole number for those of a smaller one with decimals."""
    return reading <= {_value(Decimal(f"{whole[:-GROUP]}.{whole[-GROUP:]}"))}


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
    written = SPACES.sub("", written).translate(ARABIC_SIGNS)
    plain = list(_plain(written))
    for value in plain:
        yield frozenset({_value(Decimal(value))})
    parts = re.split(r"[.,:]", written)
    is_decimal = len(parts) == 2 and "," in written  # 3,5 is no score
    is_list = ":" in written or (not is_decimal and all(len(part) != GROUP for part in parts))
    if not plain or (len(parts) > 1 and is_list):
        yield frozenset(_value(Decimal(part)) for part in parts)  # a score, a date, an IP address
    if len(parts) == 2 and len(parts[0]) <= 2 == len(parts[1]) and int(parts[0]) < 24 and int(parts[1]) < 60:
        yield frozenset({f"{int(parts[0]) % 12}:{parts[1]}"})
        if parts[1] == "00":
            yield frozenset({_value(Decimal(parts[0]))})  # 5:00 and five o'clock
    if len(parts) == 1 and len(written) == 2:
        yield from (frozenset({f"{century}{written}"}) for century in CENTURIES)  # '80 and 1980
    if len(parts) == 1 and len(written) <= 2 and int(written) < 24:
        yield frozenset({f"{int(written) % 12}:00"})  # 20 Uhr and 8 p.m.


def _plain(written: str) -> Iterator[str]:
    """Yields the number without separators of thousands, with a point before decimals."""
    compact = SPACES.sub("", written)
    parts, signs = re.split(r"[.,:]", compact), re.findall(r"[.,:]", compact)
    grouped = all(len(part) == GROUP for part in parts[1:-1]) and len(parts[0]) <= GROUP
    if not signs:
        yield compact
    elif INDIAN.fullmatch(compact):
        yield compact.replace(",", "")
    elif ":" not in signs:
        if grouped and len(parts[-1]) == GROUP and len(set(signs)) == 1:
            yield "".join(parts)
        if signs[-1] not in signs[:-1] and (len(signs) == 1 or grouped):
            yield f"{''.join(parts[:-1])}.{parts[-1]}"


def _value(number: Decimal) -> str:
    written = f"{number:f}"  # `normalize` would round long numbers
    return written.rstrip("0").rstrip(".") if "." in written else written


def _may_be_spelled(number: Number) -> bool:
    return any(Decimal(value) <= 100 or value.endswith("00") for reading in number.readings for value in reading)
