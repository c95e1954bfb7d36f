"""The words of the demo corpus: German forms, and English translations with their proportions.

Words with several translations are translated at random, in the given proportions. A teacher learns the proportions. A
student learns them faster from the teacher's probabilities than from single random choices.
"""

from dataclasses import dataclass

# The forms of an English translation and its proportion. Nouns have two forms, adjectives one, verbs three.
Translation = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Noun:
    """A noun. A weak noun has its plural form in all singular cases except the nominative."""

    singular: str
    gender: str  # m, f or n
    plural: str
    english: tuple[Translation, ...]
    weak: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb with its separable prefix ("" if it has none) and the case of its object (None if it has none)."""

    infinitive: str
    third: str
    participle: str
    english: tuple[Translation, ...]
    case: str | None = "acc"
    prefix: str = ""
    auxiliary: str = "haben"


def _translations(text: str) -> tuple[Translation, ...]:
    """Parses "picture pictures 3 | image images 1". `_` is a space inside a form; the default proportion is 1."""
    translations = []
    for part in text.split("|"):
        *forms, last = part.split()
        forms, share = (forms, float(last)) if last.isdigit() else ([*forms, last], 1.0)
        translations.append((tuple(form.replace("_", " ") for form in forms), share))
    return tuple(translations)


def _nouns(table: str) -> tuple[Noun, ...]:
    nouns = []
    for line in table.strip().splitlines():
        german, english = line.split(":")
        singular, gender, plural, *weak = german.split()
        nouns.append(Noun(singular, gender, plural, _translations(english), bool(weak)))
    return tuple(nouns)


def _verbs(table: str, case: str | None) -> tuple[Verb, ...]:
    verbs = []
    for line in table.strip().splitlines():
        german, english = line.split(":")
        infinitive, third, participle, *auxiliary = german.split()
        prefix, _, stem = infinitive.rpartition("|")
        verbs.append(Verb(stem, third, participle, _translations(english), case, prefix, *auxiliary))
    return tuple(verbs)


PEOPLE = _nouns("""
Mann m Männer: man men
Frau f Frauen: woman women 4 | lady ladies 1
Kind n Kinder: child children 7 | kid kids 3
Lehrer m Lehrer: teacher teachers
Ärztin f Ärztinnen: doctor doctors 4 | physician physicians 1
Student m Studenten weak: student students
Junge m Jungen weak: boy boys
Mädchen n Mädchen: girl girls
Nachbar m Nachbarn weak: neighbour neighbours
Koch m Köche: cook cooks 3 | chef chefs 2
Freund m Freunde: friend friends
Bauer m Bauern weak: farmer farmers 9 | peasant peasants 1
Händlerin f Händlerinnen: merchant merchants 5 | trader traders 3 | dealer dealers 2
Großmutter f Großmütter: grandmother grandmothers 7 | grandma grandmas 3
Hund m Hunde: dog dogs
Katze f Katzen: cat cats
Pferd n Pferde: horse horses
""")
THINGS = _nouns("""
Buch n Bücher: book books
Brief m Briefe: letter letters
Tisch m Tische: table tables
Lampe f Lampen: lamp lamps 4 | light lights 1
Haus n Häuser: house houses 7 | home homes 3
Auto n Autos: car cars
Fahrrad n Fahrräder: bike bikes 6 | bicycle bicycles 4
Boot n Boote: boat boats
Bild n Bilder: picture pictures 6 | painting paintings 2 | image images 2
Schlüssel m Schlüssel: key keys
Tasche f Taschen: bag bags 4 | pocket pockets 1
Tür f Türen: door doors
Fenster n Fenster: window windows
Stuhl m Stühle: chair chairs
Koffer m Koffer: suitcase suitcases 7 | case cases 3
Karte f Karten: map maps 4 | card cards 3 | ticket tickets 3
Schrank m Schränke: cupboard cupboards 5 | wardrobe wardrobes 3 | cabinet cabinets 2
Messer n Messer: knife knives
Geschichte f Geschichten: story stories
Zeitung f Zeitungen: newspaper newspapers 3 | paper papers 2
""")
PLACES = tuple(
    (noun, *prepositions)
    for noun, prepositions in zip(
        _nouns("""
Garten m Gärten: garden gardens 7 | yard yards 3
Küche f Küchen: kitchen kitchens
Stadt f Städte: city cities 3 | town towns 2
Schule f Schulen: school schools
Wald m Wälder: forest forests 3 | woods woods 2
Büro n Büros: office offices
Straße f Straßen: street streets 7 | road roads 3
Bahnhof m Bahnhöfe: station stations
Brücke f Brücken: bridge bridges
Keller m Keller: cellar cellars 1 | basement basements 1
"""),
        (("in", "in"),) * 6 + (("auf", "on"), ("an", "at"), ("unter", "under"), ("in", "in")),
    )
)
COMPOUND_HEADS = tuple(
    noun
    for noun in THINGS
    if noun.singular in ["Tisch", "Lampe", "Haus", "Boot", "Tür", "Fenster", "Stuhl", "Schrank", "Messer", "Karte"]
)
COMPOUND_MODIFIERS = (
    ("Küchen", "kitchen"), ("Garten", "garden"), ("Holz", "wooden"), ("Schul", "school"), ("Stadt", "city"),
    ("Kinder", "children's"), ("Winter", "winter"), ("Sommer", "summer"), ("Glas", "glass"), ("Papier", "paper"),
    ("Metall", "metal"), ("Reise", "travel"), ("Arbeits", "work"), ("Hotel", "hotel"), ("Museums", "museum"),
)  # fmt: skip


def _adjectives(table: str) -> tuple[tuple[str, tuple[Translation, ...]], ...]:
    lines = (line.split(":") for line in table.strip().splitlines())
    return tuple((stem.strip(), _translations(english)) for stem, english in lines)


ADJECTIVES = _adjectives("""
groß: big 5 | large 4 | tall 1
klein: small 3 | little 2
alt: old
stark: strong
schnell: fast 3 | quick 2
schön: beautiful 3 | nice 2
""")
PEOPLE_ADJECTIVES = ADJECTIVES + _adjectives("""
jung: young
freundlich: friendly 7 | kind 3
fröhlich: happy 1 | cheerful 1
klug: clever 3 | smart 2
hungrig: hungry
""")
THING_ADJECTIVES = ADJECTIVES + _adjectives("""
neu: new
rot: red
blau: blue
grün: green
schwarz: black
weiß: white
teur: expensive
schwer: heavy
hell: bright 3 | light 1
billig: cheap
""")
TRANSITIVE = _verbs(
    """
sehen sieht gesehen: see saw seen
kaufen kauft gekauft: buy bought bought 4 | purchase purchased purchased 1
tragen trägt getragen: carry carried carried
finden findet gefunden: find found found
suchen sucht gesucht: look_for looked_for looked_for 7 | search_for searched_for searched_for 3
bringen bringt gebracht: bring brought brought
malen malt gemalt: paint painted painted
reparieren repariert repariert: repair repaired repaired 3 | fix fixed fixed 2
putzen putzt geputzt: clean cleaned cleaned
verkaufen verkauft verkauft: sell sold sold
zeichnen zeichnet gezeichnet: draw drew drawn
auf|machen macht aufgemacht: open opened opened
zu|machen macht zugemacht: close closed closed 7 | shut shut shut 3
mit|bringen bringt mitgebracht: bring_along brought_along brought_along
ab|holen holt abgeholt: pick_up picked_up picked_up 4 | collect collected collected 1
weg|werfen wirft weggeworfen: throw_away threw_away thrown_away
an|schauen schaut angeschaut: look_at looked_at looked_at 7 | watch watched watched 3
auf|heben hebt aufgehoben: pick_up picked_up picked_up 1 | lift lifted lifted 1
""",
    "acc",
)
PERSONAL = _verbs(
    """
besuchen besucht besucht: visit visited visited
fotografieren fotografiert fotografiert: photograph photographed photographed
an|rufen ruft angerufen: call called called 3 | phone phoned phoned 2
ein|laden lädt eingeladen: invite invited invited
""",
    "acc",
) + _verbs(
    """
helfen hilft geholfen: help helped helped
danken dankt gedankt: thank thanked thanked
folgen folgt gefolgt sein: follow followed followed
antworten antwortet geantwortet: answer answered answered 7 | reply_to replied_to replied_to 3
zu|hören hört zugehört: listen_to listened_to listened_to
""",
    "dat",
)
INTRANSITIVE = _verbs(
    """
schlafen schläft geschlafen: sleep slept slept
laufen läuft gelaufen sein: run ran run 3 | walk walked walked 2
arbeiten arbeitet gearbeitet: work worked worked
warten wartet gewartet: wait waited waited
singen singt gesungen: sing sang sung
lachen lacht gelacht: laugh laughed laughed
tanzen tanzt getanzt: dance danced danced
an|kommen kommt angekommen sein: arrive arrived arrived
auf|stehen steht aufgestanden sein: get_up got_up got_up 7 | stand_up stood_up stood_up 3
auf|wachen wacht aufgewacht sein: wake_up woke_up woken_up
""",
    None,
)
# Finite forms by person: first singular, third singular, plural.
AUXILIARIES = {
    "haben": ("habe", "hat", "haben"),
    "sein": ("bin", "ist", "sind"),
    "werden": ("werde", "wird", "werden"),
    "können": ("kann", "kann", "können"),
    "müssen": ("muss", "muss", "müssen"),
    "wollen": ("will", "will", "wollen"),
}
PRONOUNS = (("ich", "I", 0), ("er", "he", 1), ("sie", "she", 1), ("wir", "we", 2))
# Case by gender (m, f, n) and plural (p).
DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
    "gen": {"m": "des", "f": "der", "n": "des", "p": "der"},
}
# Endings of ein, mein and kein. For the plural, of mein and kein.
INDEFINITE = {
    "nom": {"m": "", "f": "e", "n": "", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
    "gen": {"m": "es", "f": "er", "n": "es", "p": "er"},
}
POSSESSIVES = (("mein", "my"), ("sein", "his"), ("ihr", "her"), ("unser", "our"))
UNITS = """
null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn
achtzehn neunzehn
""".split()
TENS = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
ENGLISH_UNITS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
""".split()
ENGLISH_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WEEKDAYS = tuple(
    zip(
        ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"],
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
    )
)
MEASURES = (("Kilo", "kilos"), ("Liter", "litres"))
MEASURED_BY = {"kaufen", "verkaufen", "bringen", "tragen", "finden"}  # verbs whose object may be a quantity
GOODS = {
    "Kilo": (("Äpfel", "apples"), ("Mehl", "flour"), ("Reis", "rice")),
    "Liter": (("Milch", "milk"), ("Öl", "oil")),
}
CONJUNCTIONS = (
    ("weil", _translations("because")),
    ("obwohl", _translations("although 7 | even_though 3")),
    ("während", _translations("while")),
    ("wenn", _translations("when 1 | if 1")),
)
REPORTING = (
    ("sagen", "sagt", _translations("say said said")),
    ("glauben", "glaubt", _translations("think thought thought 3 | believe believed believed 2")),
    ("hoffen", "hofft", _translations("hope hoped hoped")),
)
