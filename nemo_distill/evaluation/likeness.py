"""Decides which systems of an evaluation can be compared.

Speeds and sizes are compared within one engine, precision and beam size. Scores of models of one size are compared if
the models were trained for as many optimizer steps, with as many tokens in a batch.
"""

import statistics
from collections.abc import Mapping
from typing import Any

from nemo_distill.evaluation.evaluation_record import TEXT_ONLY

Systems = Mapping[str, Mapping[str, Any]]  # of an evaluation, by name, as in `evaluation.json`
ENGINES = {
    "nemo_distill": "PyTorch",
    "nemo": "NeMo's own search",
    "ctranslate2": "CTranslate2",
    "hugging_face": "Hugging Face",
    TEXT_ONLY: "only text",
}
MARK = "†"  # behind scores by a metric that also selected labels
COUNTED = {"steps": "steps", "tokens_in_batch": "tokens in a batch"}  # what makes two trainings alike


def group_of(systems: Systems, name: str) -> str:
    """Returns the group of a system."""
    return systems[name].get("group") or name


def groups_of(systems: Systems) -> list[str]:
    """Returns all groups in order."""
    return list(dict.fromkeys(group_of(systems, name) for name in systems))


def members(systems: Systems, group: str) -> dict[int | None, str]:
    """Returns the names of a group's systems by seed; None is the seed of a system without one."""
    return {system.get("seed"): name for name, system in systems.items() if group_of(systems, name) == group}


def first_of(systems: Systems, group: str) -> Mapping[str, Any]:
    """Returns the first system of a group."""
    return systems[next(iter(members(systems, group).values()))]


def kind(systems: Systems, group: str) -> tuple[Any, ...]:
    """Returns what two groups must have in common for their speeds and sizes to be compared."""
    system = first_of(systems, group)
    return system.get("engine"), system.get("precision"), system.get("beam_size")


def kind_in_words(systems: Systems, group: str) -> str:
    """Returns engine and precision, such as `CTranslate2 int8`, and the beam size where the systems' differ."""
    engine, precision, beam_size = kind(systems, group)
    words = f"{ENGINES.get(engine, engine)} {precision or ''}".strip()
    beams = {system.get("beam_size") for system in systems.values()} - {None}
    if len(beams) > 1 and beam_size:
        words += ", greedy" if beam_size == 1 else f", beam {beam_size}"
    return words


def like_teacher(systems: Systems, group: str) -> str | None:
    """Returns the group of the first system's model that runs as another group does; None if there is none."""
    return next((other for other in teachers(systems) if kind(systems, group) == kind(systems, other)), None)


def teachers(systems: Systems) -> list[str]:
    """Returns the groups of the first system's model: itself, its exports, and its variants with other beam sizes."""
    first = next(iter(systems))
    origin = systems[first].get("same_model_as") or first
    return list(
        dict.fromkeys(
            group_of(systems, name)
            for name, system in systems.items()
            if origin in (name, system.get("same_model_as"))
        )
    )


def of_one_size(systems: Systems, group: str, other: str) -> bool:
    """True if the models of two groups have the same, known numbers of parameters."""
    sizes, theirs = (
        {systems[name].get("parameters") for name in members(systems, one).values()} for one in (group, other)
    )
    return sizes == theirs and None not in sizes


def training_difference(systems: Systems, group: str, other: str) -> str | None:
    """Returns in words how the trainings of two groups differ in steps or batches; None if that is not known."""
    differences = []
    for key, words in COUNTED.items():
        mine, theirs = (_counted(systems, one, key) for one in (group, other))
        if mine and theirs and mine != theirs:
            differences.append(f"{_listed(mine)} {words} against {_listed(theirs)}")
    return ", ".join(differences) or None


def steps_of(systems: Systems, group: str) -> set[int]:
    """Returns the steps that the models of a group were trained for; empty if they are not known."""
    return _counted(systems, group, "steps")


def _counted(systems: Systems, group: str, key: str) -> set[int]:
    trainings = [systems[name].get("training") or {} for name in members(systems, group).values()]
    return {training[key] for training in trainings if training.get(key) is not None}


def _listed(numbers: set[int]) -> str:
    return " or ".join(f"{number:,}" for number in sorted(numbers))


def unfair_comparison(systems: Systems, group: str, other: str) -> str | None:
    """Returns why no sentence may say that one of two groups beats the other: one size, but different trainings."""
    return training_difference(systems, group, other) if of_one_size(systems, group, other) else None


def trained_otherwise(systems: Systems, group: str) -> str:
    """Returns the names of the groups that have a group's size, run as it does, but were trained otherwise; or ""."""
    others = [other for other in groups_of(systems) if kind(systems, other) == kind(systems, group)]
    return ", ".join(other for other in others if other != group and unfair_comparison(systems, group, other))


def marked(text: str, systems: Systems, metric: str, *groups: str) -> str:
    """Returns a metric's name or score, with `MARK` behind it if the metric selected labels for one of the groups."""
    return f"{text}{MARK}" if any(selected_labels(systems, metric, group) for group in groups) else text


def selected_labels(systems: Systems, metric: str, group: str) -> bool:
    """True if a metric selected labels that a group was trained on. Then it is no independent judge of the group."""
    names = (name for member in members(systems, group).values() for name in systems[member].get("selected_by") or ())
    return metric.casefold() in map(str.casefold, names)


def mean_of(systems: Systems, group: str, key: str) -> float | None:
    """Returns the mean of a size or speed over those systems of a group of which it is known; None without one."""
    rows = [{**systems[name], **(systems[name].get("speed") or {})} for name in members(systems, group).values()]
    known = [row[key] for row in rows if row.get(key) is not None]
    return statistics.mean(known) if known else None


def factor(systems: Systems, group: str, other: str | None, key: str) -> float | None:
    """Returns how many times smaller or faster a group is than another one; None if that is not known.

    Args:
        systems: all systems.
        group: a group.
        other: the group that it is compared with; None if there is none.
        key: `bytes` or `sentences_per_second`.
    """
    mine, theirs = (one and mean_of(systems, one, key) for one in (group, other))
    if not mine or not theirs:
        return None
    return theirs / mine if key == "bytes" else mine / theirs


def compared_with(systems: Systems, group: str) -> str | None:
    """Returns the group of the teacher that runs most like a group; None for systems of text only.

    It is the teacher in the same engine and precision, with the same beam size if it was evaluated so, or else the
    first system.
    """
    if first_of(systems, group)["engine"] == TEXT_ONLY:
        return None
    near = [teacher for teacher in teachers(systems) if kind(systems, teacher)[:2] == kind(systems, group)[:2]]
    return like_teacher(systems, group) or (near or groups_of(systems))[0]


def factor_sentence(systems: Systems, group: str, other: str) -> str | None:
    """Says how many times smaller and faster a group is than another one, and if they do not run alike; or None."""
    size = factor(systems, group, other, "bytes")
    speed = factor(systems, group, other, "sentences_per_second")
    parts = [_size_in_words(size)] if size else []
    parts += [f"{speed:.1f} times as fast"] if speed else []
    if not parts:
        return None
    alike = kind(systems, group) == kind(systems, other)
    mine, theirs = (kind_in_words(systems, one) for one in (group, other))
    where = f" (both {mine})" if alike else ""
    unlike = "" if alike else f"; this compares {mine} with {theirs}"
    return f"Compared with {other}{where}, {group} is {' and '.join(parts)}{unlike}."


def _size_in_words(factor: float) -> str:
    if round(factor, 1) == 1:
        return "as large on disk"
    return f"{factor:.1f} times smaller on disk" if factor > 1 else f"{1 / factor:.1f} times larger on disk"
