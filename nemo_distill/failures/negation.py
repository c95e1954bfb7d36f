"""Negations that are lost, in German and English.

A source is negated if it has a word that always negates. A translation has lost the negation if it has no such word,
and no other word that can express a negation either, such as `without`, `unable` or `has yet to`.
"""

import re

from nemo_distill.failures.segment import Found, Segment

# Regular expressions, separated by spaces. `ob nicht` only asks, as do `whether or not`, `nicht wahr` and `isn't it`;
# `nicht nur`, `not until`, `no more than` and their like are often said without a negation.
_CERTAIN = {
    "de": r"(?<!ob\ )nicht(?!\ (?:nur|wahr|mehr\ als|weniger\ als|vor|zuletzt)\b) kein(?:e|en|em|er|es)? nie niemals "
    r"niemand(?:en|em|es)? nichts nirgend(?:s|wo) keinesfalls keineswegs keinerlei",
    "en": r"(?<!or\ )not(?!\ (?:only|until|more\ than|less\ than|least|just)\b) "
    r"no(?!\ (?:more\ than|less\ than|later\ than|matter|doubt)\b) never nobody nothing nowhere none cannot "
    r"\w+n['’]t(?!\ (?:it|he|she|we|you|they|I|there)\s*\?) cant dont wont",
}
# Words and parts of words that may express a negation.
_POSSIBLE = {
    "de": r"nicht ohne weder kaum statt anstatt außer \w*los(?:e|en|em|er|es)? un\w+ miss\w+ fehl\w* verhinder\w* "
    r"vermeid\w* verweiger\w* ab(?:ge)?lehn\w* weniger wenig\w* nein selten entgangen noch(?=\ zu) "
    r"erst höchstens lediglich sowohl",
    "en": r"""
        not no both most \w+n['’]t without neither nor non hardly barely scarcely rarely seldom few fewer little
        less least nil zero \w{3,}less
        other(?=\ than) rather instead except\w* until unless beyond away off out(?=\ of) far free yet(?=\ to)
        anything anyone anybody anywhere isn don doesn didn wasn aren
        lack\w* fail\w* miss\w* absen\w* loss los[et] end(?:ed|s)? stop\w* ceas\w* withdr\w* abandon\w* exclud\w*
        refus\w* reject\w* declin\w* den(?:y|ies|ied|ying|ial) doubt\w* ignor\w* neglect\w* insist\w*
        avoid\w* prevent\w* forb\w+ ban\w* prohibit\w* barr?\w* block\w* ke(?:ep|pt)\w*
        hard harder difficult\w* ambig\w* dis\w+ mis\w+
        un(?!der|it|ion|iqu|ivers|less|ify)\w+ im(?:poss|mun|mob|perfect|prob|patien)\w* ir(?:reg|rel|rep|resp|rev)\w*
        il(?:leg|log)\w*
        in(?:accura|adequ|capab|complet|correct|depend|direct|effect|effic|evit|sign|stab|suffic|visib|valid)\w*
        in(?:consist|conceiv|credib|definit|differ|expens|exorab|secur|toler)\w*""",
}
LANGUAGES = tuple(_CERTAIN)


def _pattern(*expressions: str) -> re.Pattern[str]:
    parts = [part for expression in expressions for part in re.split(r"(?<!\\)\s+", expression.strip())]
    return re.compile(rf"\b(?:{'|'.join(parts)})\b", re.IGNORECASE)


_NEGATES = {language: _pattern(_CERTAIN[language]) for language in LANGUAGES}
_MAY_NEGATE = {language: _pattern(_CERTAIN[language], _POSSIBLE[language]) for language in LANGUAGES}


def lost_negation(segment: Segment, source_language: str, target_language: str) -> Found:
    """Returns the negations of the source if the reference has one too and the translation has none."""
    negations = _NEGATES[source_language].findall(segment.source)
    is_lost = (
        negations
        and _NEGATES[target_language].search(segment.reference)
        and not _MAY_NEGATE[target_language].search(segment.translation)
    )
    return negations if is_lost else []
