"""Language codes, and what scores and Moses need to know about a language.

A code may be of ISO 639-1 or 639-3 (`de`, `deu`), BCP 47 (`zh-CN`, `pt_BR`) or FLORES (`zho_Hans`), or be written as
models write it (`>>fra<<`, `__zh__`, `ja_XX`). langcodes knows the codes and the script of each language. The script
decides how BLEU and TER find words.
"""

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import langcodes
import regex
from langcodes.language_lists import CLDR_LANGUAGES
from sacrebleu.metrics import BLEU

from nemo_distill.storage.files import user_path
from nemo_distill.text.files import SAMPLED_LINES, as_list
from nemo_distill.text.lines import TextFiles

NO_LANGUAGE = "ignore"  # NeMo's word
WORDS, CHARACTERS = "13a", "char"  # sacrebleu's tokenizers of text with spaces, and of any text
# The tokenizer that BLEU needs, by script. Chinese, Japanese and Korean have their own. The others have no spaces
# between words: those that Unicode calls South East Asian (UAX 14), Tibetan, Javanese and Balinese.
BLEU_TOKENIZERS = {
    **dict.fromkeys(("Hans", "Hant", "Hani", "Bopo"), "zh"),
    **dict.fromkeys(("Jpan", "Hrkt", "Hira", "Kana"), "ja-mecab"),
    **dict.fromkeys(("Kore", "Hang"), "ko-mecab"),
    **dict.fromkeys(("Thai", "Laoo", "Khmr", "Mymr", "Tale", "Talu", "Lana", "Tavt", "Ahom"), CHARACTERS),
    **dict.fromkeys(("Tibt", "Java", "Bali"), CHARACTERS),
}
# A language of each script that can be seen in text; Korean is left out because it has spaces.
SCRIPT_LANGUAGES = {
    "Hani": "zh", "Hira": "ja", "Kana": "ja", "Thai": "th", "Laoo": "lo", "Khmr": "km", "Mymr": "my", "Tibt": "bo",
    "Tale": "tdd", "Talu": "khb", "Lana": "nod", "Tavt": "blt", "Ahom": "aho", "Java": "jv-Java", "Bali": "ban-Bali",
}  # fmt: skip
# A character of such a script; the signs that kana share with other scripts are among them.
_SCRIPTS = "".join(rf"\p{{Script={script}}}" for script in SCRIPT_LANGUAGES)
SPACELESS = regex.compile(rf"[{_SCRIPTS}\u3099-\u309c・ーｰﾞﾟ]")
_LETTER = regex.compile(r"\p{L}")
_SCRIPT_LETTERS = {script: regex.compile(rf"\p{{L}}(?<=\p{{Script={script}}})") for script in SCRIPT_LANGUAGES}
KANA = 0.05  # Japanese text has at least this share of kana among kana and Chinese characters
# OPUS-MT's name of Japanese, NeMo's of Japanese that MeCab has split, and Norwegian, which is nearly always Bokmål.
ALIASES = {"jap": "ja", "ja-mecab": "ja", "no": "nb", "nor": "nb"}
MOST_LISTED = 30  # codes in a message
MOSES_WITHOUT_PREFIXES = ("ja", "ko")  # sacremoses has rules for them, but no list of abbreviations
NO_REGION = "XX"  # in mBART's codes, such as `en_XX`
NEMO_OWN = ("ja-mecab", "hi")  # NeMo's processors for them are not Moses


def read_language(code: Any) -> langcodes.Language | None:
    """Returns what a code stands for, with macrolanguage and script (`zh`, `Hans`); None if it is no language's."""
    plain = code.strip("_<> ").replace("_", "-") if isinstance(code, str) else ""
    tag = ALIASES.get(plain.lower(), plain)
    if not tag or not langcodes.tag_is_valid(tag):
        return None
    language = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True))
    script = language.maximize().script
    return langcodes.Language.make(language=language.language, script=script, territory=language.territory)


def bleu_tokenization(language: str | None) -> str:
    """Returns sacrebleu's tokenizer for a target language; `13a` if it has spaces or is not known."""
    known = read_language(language)
    return BLEU_TOKENIZERS.get(known.script or "", WORDS) if known else WORDS


def has_spaces(language: str | None) -> bool:
    """True if text in a language has spaces between words, or if the language is not known."""
    return bleu_tokenization(language) in (WORDS, "ko-mecab")


def is_spaceless(text: str) -> bool:
    """True if more than half of the characters are of scripts without spaces between words."""
    return 2 * len(SPACELESS.findall(text)) > len(text)


def text_language(lines: Iterable[str]) -> str | None:
    """Returns the language of text in a script without spaces; None if most letters are of other scripts.

    Args:
        lines: the first 1,000 are read.
    """
    characters = Counter("".join(itertools.islice(lines, SAMPLED_LINES)))

    def count(letter: regex.Pattern[str]) -> int:
        return sum(number for character, number in characters.items() if letter.match(character))

    counts = Counter({script: count(letter) for script, letter in _SCRIPT_LETTERS.items()})
    if 2 * counts.total() <= count(_LETTER):
        return None
    kana = counts.pop("Hira") + counts.pop("Kana")
    if kana > KANA * (kana + counts["Hani"]):
        counts["Hira"] = kana + counts.pop("Hani")
    return SCRIPT_LANGUAGES[counts.most_common(1)[0][0]]


def first_lines(path: Path) -> Iterator[str]:
    """Yields the lines by which `text_language` knows a file's language; none if there is no file."""
    if path.is_file():
        lines = itertools.islice(TextFiles([path]), SAMPLED_LINES)
        yield from (line.decode("utf-8", "replace") for line in lines)


def scored_language(language: str | None, lines: Iterable[str]) -> str | None:
    """Returns the language to score text as: the given one, or that of the text if only the text has no spaces.

    Args:
        language: the target language according to the model; `ignore` and None say nothing.
    """
    return language if bleu_tokenization(language) != WORDS else text_language(lines) or language


def code_problems(where: str, language: Any) -> list[str]:
    """Returns a sentence that begins with `where` if a value is no language's code; None is allowed."""
    if language is None or read_language(language):
        return []
    if not isinstance(language, str):
        norwegian = "; YAML takes no for false, so write nb" if language is False else ""
        return [f"{where}={language}: must be the code of a language{norwegian}."]
    close = _closest_codes(language)
    named = f"; the closest is {' or '.join(close)}" if close else ""
    return [f"{where}={language}: no language has this code in ISO 639, BCP 47 or FLORES{named}."]


def tokenizer_problems(where: str, tokenizer: str, remedy: str = "") -> list[str]:
    """Returns a sentence that begins with `where` if sacrebleu lacks a package for one of its tokenizers.

    Args:
        tokenizer: sacrebleu's name.
        remedy: the end of the sentence, if there is another way than to install it.
    """
    if tokenizer not in ("ja-mecab", "ko-mecab") or _is_installed(tokenizer):
        return []
    return [f"{where}: BLEU by {tokenizer} needs pip install 'sacrebleu[{tokenizer[:2]}]'{remedy}."]


def language_problems(where: str, language: str | None) -> list[str]:
    """Returns a sentence if a target language's code is unknown, or if sacrebleu lacks a package for it."""
    named = f"{where}={language}" if language else where
    return code_problems(where, language) or tokenizer_problems(named, bleu_tokenization(language))


def validation_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each reason why validation could not score translations of a training's sets."""
    chosen = model.get("bleu_tokenizer")
    if chosen is not None and chosen not in list(BLEU.TOKENIZERS):  # a section has no hash
        return [f"model.bleu_tokenizer={chosen}: must be null or one of {', '.join(BLEU.TOKENIZERS)}."]
    problems = []
    for key in ("src_language", "tgt_language"):
        for language in as_list(model.get(key)):
            problems += code_problems(f"model.{key}", None if language == NO_LANGUAGE else language)
    for section in ("validation_ds", "test_ds"):
        references = [
            path for path in as_list((model.get(section) or {}).get("tgt_file_name")) if isinstance(path, str)
        ]
        languages = as_list(model.get("tgt_language")) or [None]
        for index, path in enumerate(references):
            language = languages[index] if len(languages) == len(references) else languages[0]
            tokenizer = chosen or bleu_tokenization(scored_language(language, first_lines(user_path(path))))
            where = f"model.bleu_tokenizer={chosen}" if chosen else f"model.{section}.tgt_file_name names '{path}'"
            problems += tokenizer_problems(where, tokenizer, f"; or set model.bleu_tokenizer={CHARACTERS}")
    return list(dict.fromkeys(problems))


def same_language(language: str, known: Iterable[str]) -> list[str]:
    """Returns which of the known codes mean a language: the code itself, or those of equal language and script.

    Two codes with a region each must also agree in it: `pt` means `pt_BR`, but `pt_PT` does not.
    """
    known = list(known)
    if language in known:
        return [language]
    wanted = read_language(language)
    if wanted is None:
        return []
    return [code for code in known if (other := read_language(code)) and _are_equal(wanted, other)]


def choose_language(where: str, language: str, known: Collection[str]) -> tuple[str, list[str]]:
    """Returns the code that a model has for a language, and a sentence if it has none or several."""
    found = same_language(language, known)
    if len(found) == 1:
        return found[0], []
    if found:
        return language, [f"{where}={language}: the model has several of this language: {', '.join(sorted(found))}."]
    if len(known) <= MOST_LISTED:
        return language, [f"{where}={language}: the model knows {', '.join(sorted(known))}."]
    guesses = [re.split("[-_]", language)[0], *_closest_codes(language)]
    close = [code for guess in guesses for code in same_language(guess, known)]
    close = close or difflib.get_close_matches(language, known, n=3)
    named = f"; the closest is {' or '.join(dict.fromkeys(close))}" if close else ""
    return language, [f"{where}={language}: is not among the model's {len(known)} codes{named}."]


def moses_notes(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each language of a model for which Moses would use English's rules."""
    notes = []
    for key in ("src_language", "tgt_language"):
        for language in as_list(model.get(key)):
            if not isinstance(language, str) or language in (NO_LANGUAGE, *NEMO_OWN, *moses_languages()):
                continue
            known = same_language(language, moses_languages())
            remedy = f"; it has rules for {', '.join(known)}" if known else ""
            notes.append(f"model.{key}={language}: Moses does not know this code, and takes English's rules{remedy}.")
    return notes


@cache
def moses_languages() -> tuple[str, ...]:
    """The codes that sacremoses has rules for."""
    from sacremoses.corpus import NonbreakingPrefixes

    return (*sorted(set(NonbreakingPrefixes().available_langs.values())), *MOSES_WITHOUT_PREFIXES)


def _are_equal(one: langcodes.Language, other: langcodes.Language) -> bool:
    regions = {one.territory, other.territory} - {None, NO_REGION}
    return (one.language, one.script) == (other.language, other.script) and len(regions) < 2


def _closest_codes(code: str) -> list[str]:
    """Returns the languages that a country's code, a name or a misspelling may mean."""
    close = difflib.get_close_matches(code.lower(), CLDR_LANGUAGES, n=2)
    if re.fullmatch("[A-Za-z]{2}", code) and code.upper() != NO_REGION:
        close.insert(0, langcodes.Language.make(territory=code.upper()).maximize().language or "")
    if len(code) > 3:
        with suppress(LookupError):
            close.insert(0, langcodes.find(code).to_tag())  # an English name
    return list(dict.fromkeys(filter(None, close)))


@cache
def language_identifier() -> Any:
    """Returns py3langid's classifier (Lui & Baldwin 2012), which has `classify`, `rank` and `nb_classes`."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes a moment to load

    load = getattr(LanguageIdentifier, "from_model_file", None) or LanguageIdentifier.from_pickled_model  # before 0.3
    return load(MODEL_FILE, norm_probs=True)


def identified_language(code: str | None) -> str | None:
    """Returns the identifier's code of a language, `de` for `deu_Latn`; the code itself if it knows none like it."""
    names = language_identifier().nb_classes
    plain = re.split("[-_]", (code or "").strip("_<> ").lower())[0]
    wanted = read_language(code)
    if plain in names or wanted is None:
        return plain or None
    equal = [name for name in names if (known := read_language(name)) and known.language == wanted.language]
    return min(equal, default=wanted.language)


@cache
def _is_installed(tokenizer: str) -> bool:
    try:
        BLEU(tokenize=tokenizer)
    except RuntimeError:
        return False
    return True
