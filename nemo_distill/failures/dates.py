"""Weekdays, months and days of a month that are lost or changed, in German and English."""

import re
from collections.abc import Iterator

from nemo_distill.failures.number_words import ordinal_words
from nemo_distill.failures.segment import WORD, Found, Segment

# Regular expressions, separated by spaces, of the seven days and twelve months.
_WEEKDAYS = {
    "de": r"montag|mo(?=\.) dienstag|di(?=\.) mittwoch|mi(?=\.) donnerstag|do(?=\.) freitag|fr(?=\.) "
    r"samstag|sonnabend|sa(?=\.) sonntag|so(?=\.)",
    "en": "mon(?:day)? tue(?:s|sday)? wed(?:nesday)? thu(?:r|rs|rsday)? fri(?:day)? sat(?:urday)? sun(?:day)?",
}
_MONTHS = {
    "de": r"januar|jänner|jan(?=\.) februar|feber|feb(?=\.) märz|mrz(?=\.) april|apr(?=\.) mai juni|jun(?=\.) "
    r"juli|jul(?=\.) august|aug(?=\.) september|sept? oktober|okt(?=\.) november|nov(?=\.) dezember|dez(?=\.)",
    "en": "january|jan february|feb march|mar april|apr may june|jun july|jul august|aug september|sept?|sep "
    "october|oct november|nov december|dec",
}
LANGUAGES = tuple(_MONTHS)
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
_DAY = r"\d{1,2}(?:\.|st|nd|rd|th)*"
# Several days can share a month: `8. und 9. September`.
_DAYS = rf"\b{_DAY}(?:\s*(?:[,\-–/&+]|und|bis|and|to)\s*(?:the\s+)?{_DAY})*"
_NUMERIC = (
    re.compile(r"\b(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.(?=\s?\d{2,4}\b)"),
    re.compile(r"\b\d{4}-(?P<month>\d\d)-(?P<day>\d\d)\b"),
    re.compile(r"\b(?P<day>\d{1,2})/(?P<month>\d{1,2})/\d{2,4}\b"),
    re.compile(r"\b(?P<month>\d{1,2})/(?P<day>\d{1,2})/\d{2,4}\b"),
)


def _names(expressions: str, ending: str = "") -> list[re.Pattern[str]]:
    return [re.compile(rf"\b(?:{name}){ending}\b", re.IGNORECASE) for name in expressions.split()]


def _days_of(expressions: str) -> list[re.Pattern[str]]:
    before, after = rf"(?P<before>{_DAYS})\s+(?:of\s+)?", rf"\.?,?\s+(?:the\s+)?(?P<after>{_DAYS})\b(?!:\d)"
    return [
        re.compile(rf"{before}\b(?:{name})\b|\b(?:{name})\b{after}", re.IGNORECASE) for name in expressions.split()
    ]


# Also in words of a weekday and a time of day, such as Sonntagabend.
_ENDINGS = {"de": "(?:s|e|(?:abend|morgen|mittag|vormittag|nachmittag|nacht|früh)s?)?", "en": "(?:s|e)?"}
_PATTERNS = {
    language: [
        *zip(WEEKDAYS, _names(_WEEKDAYS[language], _ENDINGS[language])),
        *zip(MONTHS, _names(_MONTHS[language])),
    ]
    for language in LANGUAGES
}
_WITH_MONTH = {language: [*zip(MONTHS, _days_of(_MONTHS[language]))] for language in LANGUAGES}


def changed_dates(segment: Segment, source_language: str, target_language: str) -> Found:
    """Returns the weekdays, months and days of months that source and reference have and the translation lacks.

    They are returned in English, such as `Tuesday` or `3 October`.
    """
    source = dates(segment.source, source_language)
    if not source:
        return []
    translation, reference = (dates(text, target_language) for text in (segment.translation, segment.reference))
    return sorted((source & reference) - translation)


def dates(text: str, language: str) -> set[str]:
    """Returns the weekdays, months and days of months in a text, in English."""
    found = {
        name
        for name, pattern in _PATTERNS[language]
        # Not the verbs may, march and sat, but montags.
        if any(match[0][0].isupper() or match[0].endswith("tags") for match in pattern.finditer(text))
    }
    return found | set(_days(_with_digits(text, language), language))


def _with_digits(text: str, language: str) -> str:
    """Returns the text with ordinals in digits, so that the first of May is May 1st."""
    known = ordinal_words(language)
    return WORD.sub(lambda word: f"{known[word[0].casefold()]}." if word[0].casefold() in known else word[0], text)


def _days(text: str, language: str) -> Iterator[str]:
    for month, pattern in _WITH_MONTH[language]:
        for match in pattern.finditer(text):
            yield from (f"{int(day)} {month}" for day in re.findall(r"\d+", match["before"] or match["after"]))
    for pattern in _NUMERIC:
        for match in pattern.finditer(text):
            if 1 <= int(match["month"]) <= len(MONTHS):
                month = MONTHS[int(match["month"]) - 1]
                yield from (month, f"{int(match['day'])} {month}")
