"""German and English inflection for the demo corpus."""

from collections.abc import Sequence

from nemo_distill.demo_corpus import lexicon
from nemo_distill.demo_corpus.lexicon import Noun, Verb

DOUBLING = {"run", "get", "shut"}  # verbs that double their last letter before -ing


def join_words(words: Sequence[str]) -> str:
    """Joins the non-empty words with spaces."""
    return " ".join(word for word in words if word)


def german_verb(verb: Verb, tense: str, person: int) -> tuple[str, str, str]:
    """Returns the finite verb, the participle or infinitive at the end, and the separated prefix."""
    if tense == "present":
        return german_present(verb.infinitive, verb.third, person), "", verb.prefix
    if tense == "perfect":
        return lexicon.AUXILIARIES[verb.auxiliary][person], verb.participle, ""
    auxiliary = "werden" if tense == "future" else tense
    return lexicon.AUXILIARIES[auxiliary][person], verb.prefix + verb.infinitive, ""


def german_present(infinitive: str, third: str, person: int) -> str:
    """Returns the present tense: `sehe`, `sieht`, `sehen`."""
    return (infinitive[:-1], third, infinitive)[person]


def adjective_ending(determiner: str, case: str, form: str) -> str:
    """Returns an adjective's ending after `definite`, `indefinite`, `possessive` or `number`. Form: m, f, n or p."""
    if determiner == "number":
        return {"nom": "e", "acc": "e", "dat": "en", "gen": "er"}[case]
    if form == "p" or case in ("dat", "gen") or (case == "acc" and form == "m"):
        return "en"
    if determiner == "definite" or form == "f":
        return "e"
    return "er" if form == "m" else "es"


def decline(noun: Noun, case: str, plural: bool) -> str:
    """Returns a noun's form in a case and number."""
    if plural:
        return noun.plural + ("n" if case == "dat" and noun.plural[-1] not in "ns" else "")
    if noun.weak and case != "nom":
        return noun.plural
    if case == "gen" and noun.gender != "f":
        return noun.singular + ("s" if noun.singular.endswith(("er", "en", "el", "o")) else "es")
    return noun.singular


def english_present(base: str, person: int) -> str:
    """Returns the simple present. In a phrasal verb, the first word is inflected."""
    if person != 1:
        return base
    verb, *particle = base.split()
    if verb.endswith(("s", "x", "ch", "sh", "o")):
        verb += "es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return join_words([verb, *particle])


def english_progressive(base: str) -> str:
    """Returns the -ing form. In a phrasal verb, the first word is inflected."""
    verb, *particle = base.split()
    if verb in DOUBLING:
        verb += verb[-1]
    elif verb.endswith("e") and not verb.endswith("ee"):
        verb = verb[:-1]
    return join_words([verb + "ing", *particle])


def german_number(number: int) -> str:
    """Spells 1 to 99 in German, units before tens."""
    if number < 20:
        return lexicon.UNITS[number]
    tens, unit = lexicon.TENS[number // 10 - 2], number % 10
    return f"{lexicon.UNITS[unit]}und{tens}" if unit else tens


def english_number(number: int) -> str:
    """Spells 1 to 99 in English."""
    if number < 20:
        return lexicon.ENGLISH_UNITS[number]
    tens, unit = lexicon.ENGLISH_TENS[number // 10 - 2], number % 10
    return f"{tens}-{lexicon.ENGLISH_UNITS[unit]}" if unit else tens
