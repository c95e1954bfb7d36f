"""How a multilingual model is told its languages: what `source_language` and `target_language` mean to it.

A language may be given by any of its codes. A model that cannot choose a language refuses one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS
from nemo_distill.text.files import as_list
from nemo_distill.text.languages import NO_LANGUAGE, choose_language

KEYS = ("source_language", "target_language")
LANGUAGE_TOKEN = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")  # of NLLB and mBART, such as `deu_Latn` and `de_DE`
# Before a line of OPUS-MT or MADLAD-400: the target language.
TAG = re.compile(r">>(?P<marian>.+)<<|<2(?P<madlad>.+)>")
TASK = re.compile(r"translation_(.+)_to_(.+)")  # in T5's config, with the words that stand before a line


@dataclass(frozen=True)
class Direction:
    """What a Hugging Face model reads to know its languages.

    Args:
        before: stands before each line.
        source: the tokenizer's `src_lang`, if it has one.
        target: the token that a translation begins with.
    """

    before: str = ""
    source: str | None = None
    target: str | None = None


def not_asked_for(languages: Sequence[str | None], what: str) -> list[str]:
    """Returns a sentence for each of the source and target languages that is given to what has none to choose from."""
    return [
        f"{key}={language}: {what} has no languages to choose from; remove it."
        for key, language in zip(KEYS, languages)
        if language not in (None, NO_LANGUAGE)
    ]


def nemo_languages(
    config: Mapping[str, Any], languages: Sequence[str | None]
) -> tuple[tuple[str | None, ...], list[str]]:
    """Returns the languages of a `.nemo` in its own codes, and a sentence for each problem.

    Of a multilingual model, what is not given is its only one. Another model has no use for what is given.

    Args:
        config: the model's config.
        languages: the source and target language that are asked for.
    """
    own = [config.get(key) for key in LANGUAGE_KEYS]
    if not config.get("multilingual"):
        return tuple(own), not_asked_for(languages, "this model")
    chosen: list[str | None] = []
    problems = []
    for key, language, known in zip(KEYS, languages, map(as_list, own)):
        if language is not None:
            code, wrong = choose_language(key, language, known)
        elif len(known) == 1:
            code, wrong = known[0], []
        else:
            code, wrong = None, [f"{key} has no value: the model is multilingual and knows {', '.join(known)}."]
        chosen.append(code)
        problems += wrong
    return tuple(chosen), problems


def folder_direction(
    tokenizer: Any, config: Mapping[str, Any], languages: Sequence[str | None]
) -> tuple[Direction, list[str]]:
    """Returns what a Hugging Face model must read, and a sentence for each problem.

    Args:
        tokenizer: the model's tokenizer.
        config: the model's `config.json`.
        languages: the source and target language that are asked for.
    """
    if hasattr(tokenizer, "src_lang"):
        return _by_tokens(tokenizer, languages)
    if len(tags := language_tags(tokenizer)) > 1 or (tags and languages[1] is not None):
        return _by_tag(tags, languages)
    if tasks := _tasks(config):
        return _by_task(tasks, languages)
    return Direction(), not_asked_for(languages, "this model")


def language_tokens(tokenizer: Any) -> dict[str, str]:
    """Returns the tokens that name languages to NLLB, M2M-100 and mBART, by the tokenizer's codes."""
    special = map(str, tokenizer.additional_special_tokens)
    return getattr(tokenizer, "lang_code_to_token", None) or {
        token: token for token in special if LANGUAGE_TOKEN.fullmatch(token)
    }


def _by_tokens(tokenizer: Any, languages: Sequence[str | None]) -> tuple[Direction, list[str]]:
    """Of NLLB, M2M-100 and mBART: a token each for the source and the target language."""
    tokens = language_tokens(tokenizer)
    (source, target), problems = _chosen(languages, list(tokens), list(tokens))
    return Direction("", source, tokens.get(target or "")), problems


def _by_tag(tags: Mapping[str, str], languages: Sequence[str | None]) -> tuple[Direction, list[str]]:
    problems = not_asked_for((languages[0], None), "this model's source")
    if languages[1] == NO_LANGUAGE:
        return Direction(), problems
    (_, target), wrong = _chosen((NO_LANGUAGE, languages[1]), [NO_LANGUAGE], list(tags), "the tag")
    return Direction(f"{tags.get(target or '', '')} "), problems + wrong


def _by_task(tasks: Mapping[tuple[str, str], str], languages: Sequence[str | None]) -> tuple[Direction, list[str]]:
    if languages[1] == NO_LANGUAGE:
        return Direction(), not_asked_for((languages[0], None), "this model's source")
    sources, targets = (sorted(set(codes)) for codes in zip(*tasks))
    (source, target), problems = _chosen(languages, sources, targets, "such a beginning")
    if not problems and (source, target) not in tasks:
        known = ", ".join(f"{one} to {other}" for one, other in sorted(tasks))
        problems = [
            f"target_language={languages[1]}: from {languages[0]}, the model does not know it; it knows {known}."
        ]
    return Direction(tasks.get((source or "", target or ""), "")), problems


def _chosen(
    languages: Sequence[str | None], sources: list[str], targets: list[str], in_lines: str | None = None
) -> tuple[list[str | None], list[str]]:
    """Returns both languages in the model's codes, and a sentence for each problem.

    Args:
        languages: what is asked for.
        sources: the model's codes of source languages.
        targets: the model's codes of target languages.
        in_lines: what the lines may hold themselves instead.
    """
    chosen: list[str | None] = []
    problems = []
    for key, language, known in zip(KEYS, languages, (sources, targets)):
        if language is None:
            listed = ", ".join(sorted(known)[:30]) + ("" if len(known) <= 30 else f" and {len(known) - 30} others")
            remedy = f" Set it to {NO_LANGUAGE} if the lines have {in_lines} themselves." if in_lines else ""
            problems.append(f"{key} has no value: the model knows {listed}.{remedy}")
            chosen.append(None)
        else:
            code, wrong = choose_language(key, language, known)
            chosen.append(code)
            problems += wrong
    return chosen, problems


def language_tags(tokenizer: Any) -> dict[str, str]:
    """Returns the tags in a vocabulary by their languages."""
    found = ((TAG.fullmatch(token), token) for token in tokenizer.get_vocab())
    return {match["marian"] or match["madlad"]: token for match, token in found if match}


def _tasks(config: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Returns the beginnings of lines in T5's config, by source and target language."""
    tasks = config.get("task_specific_params") or {}
    return {
        (match[1], match[2]): task.get("prefix") or ""
        for name, task in tasks.items()
        if (match := TASK.fullmatch(name))
    }
