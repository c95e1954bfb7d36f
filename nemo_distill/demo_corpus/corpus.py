"""Generates a German-English corpus from a grammar: any number of sentence pairs, with nothing to download.

The grammar covers what makes German hard to translate: case and adjective endings, verb-second and verb-final clauses,
separable verbs, participles and infinitives at the end of the clause, compounds, and numbers with the unit first. Some
words have several translations in fixed proportions (see `lexicon`).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from nemo_distill.demo_corpus import lexicon
from nemo_distill.demo_corpus.inflection import (
    adjective_ending,
    decline,
    english_number,
    english_present,
    english_progressive,
    german_number,
    german_present,
    german_verb,
    join_words,
)
from nemo_distill.demo_corpus.lexicon import Noun, Verb
from nemo_distill.storage.files import whole_file

Choice = TypeVar("Choice")
BYTES_PER_PAIR = 134  # mean size of a pair in the files
TENSES = (("present", 4), ("perfect", 4), ("future", 2), ("können", 1), ("müssen", 1), ("wollen", 1))


class Phrase(NamedTuple):
    """A German phrase and its translation."""

    german: str
    english: str


class NounPhrase(NamedTuple):
    """A noun phrase in one case. `person` is 0 for first singular, 1 for third singular and 2 for plural."""

    german: str
    english: str
    person: int
    is_marked: bool = False  # its form shows its case, so that it may precede the verb
    is_indefinite: bool = False


@dataclass
class Clause:
    """A clause before its words are put in order."""

    subject: NounPhrase
    german_finite: str
    german_rest: str  # participle or infinitive; "" if the finite verb is the only one
    prefix: str  # of a separable verb, if its stem is the finite verb
    english_verb: str
    obj: NounPhrase | None
    place: Phrase | None
    time: Phrase | None
    negation: str

    def _middle(self, without: str | None = None) -> list[str]:
        fields = {
            "time": self.time.german if self.time else "",
            "obj": self.obj.german if self.obj else "",
            "negation": self.negation,
            "place": self.place.german if self.place else "",
        }
        return [text for name, text in fields.items() if name != without]

    def german_main(self, first: str | None) -> str:
        """Verb-second order. `first` is the field before the verb; None if a subordinate clause precedes."""
        if first == "subject":
            words = [self.subject.german, self.german_finite, *self._middle()]
        else:
            front = {"time": self.time, "obj": self.obj}.get(first or "")
            words = [front.german if front else "", self.german_finite, self.subject.german, *self._middle(first)]
        return join_words([*words, self.german_rest or self.prefix])

    def german_subordinate(self) -> str:
        """Verb-final order, with the separable prefix attached to its stem."""
        finite = self.german_finite if self.german_rest else self.prefix + self.german_finite
        return join_words([self.subject.german, *self._middle(), self.german_rest, finite])

    def english(self, time_first: bool = False) -> str:
        """Subject, verb, object, place and time, or with the time first."""
        time = self.time.english if self.time else ""
        rest = [self.obj.english if self.obj else "", self.place.english if self.place else ""]
        order = [time, self.subject.english, self.english_verb, *rest]
        return join_words(order if time_first else [*order[1:], time])


class DemoGrammar:
    """Generates random sentence pairs.

    Args:
        seed: the same seed gives the same pairs.
    """

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def sentence(self) -> Phrase:
        """Returns one sentence pair, capitalized and with a full stop."""
        pattern = self._pick((("main", 6), ("subordinate", 3), ("fronted", 1), ("reported", 2)))
        german, english = getattr(self, f"_{pattern}")()
        return Phrase(german[0].upper() + german[1:] + ".", english[0].upper() + english[1:] + ".")

    def _main(self) -> Phrase:
        clause = self.clause()
        firsts = [("subject", 6)] + [("time", 4)] * bool(clause.time)
        firsts += [("obj", 2)] * bool(clause.obj and clause.obj.is_marked)
        first = self._pick(firsts)
        return Phrase(clause.german_main(first), clause.english(first == "time" and self._chance(0.7)))

    def _subordinate(self) -> Phrase:
        main, subordinate = self.clause(), self.clause()
        conjunction, translations = self.random.choice(lexicon.CONJUNCTIONS)
        english = f"{main.english()} {self._pick(translations)[0]} {subordinate.english()}"
        return Phrase(f"{main.german_main('subject')}, {conjunction} {subordinate.german_subordinate()}", english)

    def _fronted(self) -> Phrase:
        main, subordinate = self.clause(), self.clause()
        conjunction, translations = self.random.choice(lexicon.CONJUNCTIONS)
        english = f"{self._pick(translations)[0]} {subordinate.english()}, {main.english()}"
        return Phrase(f"{conjunction} {subordinate.german_subordinate()}, {main.german_main(None)}", english)

    def _reported(self) -> Phrase:
        speaker, clause = self.person_phrase("nom"), self.clause()
        infinitive, third, translations = self.random.choice(lexicon.REPORTING)
        verb = english_present(self._pick(translations)[0], speaker.person)
        that = " that" if self._chance(0.7) else ""
        german = (
            f"{speaker.german} {german_present(infinitive, third, speaker.person)}, dass {clause.german_subordinate()}"
        )
        return Phrase(german, f"{speaker.english} {verb}{that} {clause.english()}")

    def clause(self) -> Clause:
        """Generates a clause. Whether it has a time and a place is random."""
        kind = self._pick(((lexicon.TRANSITIVE, 5), (lexicon.PERSONAL, 3), (lexicon.INTRANSITIVE, 3)))
        verb, tense = self.random.choice(kind), self._pick(TENSES)
        subject = self.subject()
        obj = self._object(verb, verb.case, kind is lexicon.TRANSITIVE) if verb.case else None
        negated = tense in ("present", "perfect", "future", "können") and self._chance(0.15)
        if negated and obj and obj.is_indefinite:
            obj, negation = NounPhrase("k" + obj.german, obj.english, obj.person), ""
        else:
            negation = "nicht" if negated else ""
        finite, rest, prefix = german_verb(verb, tense, subject.person)
        english = self._english_verb(self._pick(verb.english), tense, subject.person, negated)
        place = self.place() if self._chance(0.3) else None
        time = self.time(tense) if self._chance(0.4) else None
        return Clause(subject, finite, rest, prefix, english, obj, place, time, negation)

    def subject(self) -> NounPhrase:
        """Returns a pronoun, or a noun phrase for a person or animal, sometimes with a relative clause."""
        if self._chance(0.25):
            german, english, person = self.random.choice(lexicon.PRONOUNS)
            return NounPhrase(german, english, person)
        phrase, noun = self._noun_phrase(lexicon.PEOPLE, "nom", plural=self._chance(0.25))
        if not self._chance(0.12):
            return phrase
        verb = self.random.choice(lexicon.INTRANSITIVE)
        pronoun = lexicon.DEFINITE["nom"]["p" if phrase.person == 2 else noun.gender]
        german = (
            f"{phrase.german}, {pronoun} {verb.prefix}{german_present(verb.infinitive, verb.third, phrase.person)},"
        )
        relative = self._english_verb(self._pick(verb.english), "present", phrase.person, negated=False)
        return NounPhrase(german, f"{phrase.english} who {relative}", phrase.person)

    def person_phrase(self, case: str) -> NounPhrase:
        """Returns a noun phrase for a person or animal, without a relative clause."""
        return self._noun_phrase(lexicon.PEOPLE, case, plural=self._chance(0.25))[0]

    def _object(self, verb: Verb, case: str, is_thing: bool) -> NounPhrase:
        if not is_thing:
            return self.person_phrase(case)
        if verb.infinitive in lexicon.MEASURED_BY and not verb.prefix and self._chance(0.3):
            return self._measure()
        if self._chance(0.1):
            return self._owned(case)
        nouns = (self._compound(),) if self._chance(0.25) else lexicon.THINGS
        return self._noun_phrase(nouns, case, plural=self._chance(0.3))[0]

    def _compound(self) -> Noun:
        german, english = self.random.choice(lexicon.COMPOUND_MODIFIERS)
        head = self.random.choice(lexicon.COMPOUND_HEADS)
        translations = tuple((tuple(f"{english} {form}" for form in forms), share) for forms, share in head.english)
        return Noun(german + head.singular.lower(), head.gender, german + head.plural.lower(), translations)

    def _measure(self) -> NounPhrase:
        unit, english_unit = self.random.choice(lexicon.MEASURES)
        goods, english_goods = self.random.choice(lexicon.GOODS[unit])
        number = self.random.choice(
            (self.random.randint(2, 99), self.random.randint(11, 99) / 10, self.random.randint(1000, 9999))
        )
        english_number = f"{number:,}"
        german_number = english_number.translate(str.maketrans(",.", ".,"))
        return NounPhrase(f"{german_number} {unit} {goods}", f"{english_number} {english_unit} of {english_goods}", 2)

    def _owned(self, case: str) -> NounPhrase:
        """Returns a possession such as `das Buch des Lehrers`: `the teacher's book` or `the book of the teacher`."""
        noun, owner = self.random.choice(lexicon.THINGS), self.random.choice(lexicon.PEOPLE)
        german = f"{lexicon.DEFINITE[case][noun.gender]} {decline(noun, case, False)}"
        german += f" {lexicon.DEFINITE['gen'][owner.gender]} {decline(owner, 'gen', False)}"
        thing, person = self._pick(noun.english)[0], self._pick(owner.english)[0]
        english = f"the {person}'s {thing}" if self._chance(0.7) else f"the {thing} of the {person}"
        return NounPhrase(german, english, 1, is_marked=noun.gender == "m")

    def _noun_phrase(self, nouns: Sequence[Noun], case: str, plural: bool) -> tuple[NounPhrase, Noun]:
        noun = self.random.choice(nouns)
        determiners = (("definite", 5), ("possessive", 2), ("number", 2) if plural else ("indefinite", 4))
        kind = self._pick(determiners)
        form = "p" if plural else noun.gender
        german, english = self._determiner(kind, case, form)
        ending = adjective_ending(kind, case, form)
        adjective, translated = "", ""
        if self._chance(0.35):
            fitting = lexicon.PEOPLE_ADJECTIVES if noun in lexicon.PEOPLE else lexicon.THING_ADJECTIVES
            stem, translations = self.random.choice(fitting)
            adjective, translated = stem + ending, self._pick(translations)[0]
        rest = join_words([translated, self._pick(noun.english)[plural]])
        if english == "a" and rest[0] in "aeiou":
            english = "an"
        phrase = NounPhrase(
            join_words([german, adjective, decline(noun, case, plural)]),
            join_words([english, rest]),
            2 if plural else 1,
            is_marked=case == "dat" or (case == "acc" and form == "m"),
            is_indefinite=kind == "indefinite",
        )
        return phrase, noun

    def _determiner(self, kind: str, case: str, form: str) -> Phrase:
        if kind == "definite":
            return Phrase(lexicon.DEFINITE[case][form], "the")
        if kind == "indefinite":
            return Phrase("ein" + lexicon.INDEFINITE[case][form], "a")
        if kind == "possessive":
            german, english = self.random.choice(lexicon.POSSESSIVES)
            return Phrase(german + lexicon.INDEFINITE[case][form], english)
        number = self.random.randint(2, 99)
        return Phrase(german_number(number), english_number(number))

    def place(self) -> Phrase:
        """Returns a place: a preposition with the dative."""
        noun, german, english = self.random.choice(lexicon.PLACES)
        article = lexicon.DEFINITE["dat"][noun.gender]
        preposition = {"in dem": "im", "an dem": "am"}.get(f"{german} {article}", f"{german} {article}")
        return Phrase(f"{preposition} {noun.singular}", f"{english} the {self._pick(noun.english)[0]}")

    def time(self, tense: str) -> Phrase:
        """Returns a time that fits the tense: a day, an hour or a year."""
        kind = self._pick(
            (("adverb", 3), ("weekday", 2), ("hour", 2), ("half", 1), ("year", 1 if tense == "perfect" else 0))
        )
        if kind == "adverb":
            adverbs = {"perfect": ("gestern", "yesterday"), "present": ("heute", "today")}
            return Phrase(*adverbs.get(tense, ("morgen", "tomorrow")))
        if kind == "weekday":
            german, english = self.random.choice(lexicon.WEEKDAYS)
            return Phrase(f"am {german}", f"on {english}")
        if kind == "year":
            year = self.random.randint(1950, 2025)
            return Phrase(f"im Jahr {year}", f"in {year}")
        hour = self.random.randint(2, 11)
        if kind == "half":
            return Phrase(f"um halb {german_number(hour + 1)}", f"at half past {english_number(hour)}")
        return Phrase(f"um {german_number(hour)} Uhr", f"at {english_number(hour)} o'clock")

    def _english_verb(self, forms: tuple[str, ...], tense: str, person: int, negated: bool) -> str:
        base, past, participle = forms
        be, have, do = ("am", "is", "are")[person], ("have", "has", "have")[person], ("do", "does", "do")[person]
        no = " not" if negated else ""
        if tense == "present":
            simple = f"{do} not {base}" if negated else english_present(base, person)
            return simple if self._chance(0.6) else f"{be}{no} {english_progressive(base)}"
        if tense == "perfect":
            simple = f"did not {base}" if negated else past
            return simple if self._chance(0.7) else f"{have}{no} {participle}"
        if tense == "future":
            return f"will{no} {base}" if self._chance(0.7) else f"{be}{no} going to {base}"
        if tense == "können":
            able = f"{be}{no} able to {base}"
            return able if self._chance(0.2) else f"can{'not' if negated else ''} {base}"
        if tense == "müssen":
            return f"must {base}" if self._chance(0.5) else f"{have} to {base}"
        return f"{english_present('want', person)} to {base}"

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _pick(self, weighted: Sequence[tuple[Choice, float]]) -> Choice:
        return self.random.choices([item for item, _ in weighted], [weight for _, weight in weighted])[0]


def distinct_sentences(seed: int) -> Iterator[Phrase]:
    """Yields pairs without end. No German and no English sentence is repeated."""
    grammar = DemoGrammar(seed)
    seen: set[str] = set()
    while True:
        pair = grammar.sentence()
        if pair.german not in seen and pair.english not in seen:
            seen.update(pair)
            yield pair


def write_demo_corpus(
    folder: str | Path, train: int, validation: int, test: int, monolingual: int, seed: int = 0
) -> None:
    """Writes `train`, `val` and `test`, each as `.de` and `.en`, and `mono.de`, one sentence per line.

    No sentence of either language is repeated, within a file or across files.

    Args:
        folder: created if it does not exist. Existing files with these names are replaced.
        train, validation, test: number of pairs in each part.
        monolingual: number of German sentences without translations.
        seed: the same seed and sizes give the same files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sentences = distinct_sentences(seed)
    for name, count in (("test", test), ("val", validation), ("train", train), ("mono", monolingual)):
        pairs = [next(sentences) for _ in range(count)]
        for suffix in ("de",) if name == "mono" else ("de", "en"):
            lines = (pair.german if suffix == "de" else pair.english for pair in pairs)
            with whole_file(folder / f"{name}.{suffix}") as stream:
                stream.writelines(f"{line}\n".encode() for line in lines)
