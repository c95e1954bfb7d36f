"""Decides which systems of an evaluation can be compared.

Speeds and sizes are compared within one engine, precision and beam size. So are scores, but Hugging Face's search
counts as ours: both rank translations by their probability. Scores of models of one size are compared if the models
were trained for as many optimizer steps, with as many tokens in a batch.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from nemo_distill.evaluation.evaluation_record import BASELINE, DISTILLED, TEXT_ONLY
from nemo_distill.metrics.significance import Pair, pairs_with

Systems = Mapping[str, Mapping[str, Any]]  # of an evaluation, by name, as in `evaluation.json`
ENGINES = {
    "nemo_distill": "PyTorch",
    "nemo": "NeMo's own search",
    "ctranslate2": "CTranslate2",
    "hugging_face": "Hugging Face",
    TEXT_ONLY: "only text",
}
SEARCHES = {"hugging_face": "nemo_distill"}  # by engine, the one whose search it counts as
MARK = "†"  # behind scores by a metric that also selected labels
COUNTED = {"steps": "steps", "tokens_in_batch": "tokens in a batch"}  # what makes two trainings alike


def groups_of(systems: Systems) -> list[str]:
    """Returns all groups in order."""
    return list(dict.fromkeys(system["group"] for system in systems.values()))


def members(systems: Systems, group: str) -> dict[int | None, str]:
    """Returns the names of a group's systems by seed; None is the seed of a system without one."""
    return {system["seed"]: name for name, system in systems.items() if system["group"] == group}


def seeds_match(systems: Systems, name: str, other: str) -> bool:
    """False if two systems have different seeds and their groups have a seed in common, by which to compare them."""
    mine, theirs = (systems[one]["seed"] for one in (name, other))
    if mine == theirs or None in (mine, theirs):
        return True
    seeds, others = (members(systems, systems[one]["group"]).keys() for one in (name, other))
    return seeds.isdisjoint(others)


def first_of(systems: Systems, group: str) -> Mapping[str, Any]:
    """Returns the first system of a group."""
    return systems[next(iter(members(systems, group).values()))]


def kind(systems: Systems, group: str) -> tuple[Any, ...]:
    """Returns what two groups must have in common for their speeds and sizes to be compared."""
    system = first_of(systems, group)
    return system["engine"], system["precision"], system["beam_size"]


def kind_in_words(systems: Systems, group: str) -> str:
    """Returns engine and precision, such as `CTranslate2 int8`, and the beam size where the systems' differ."""
    engine, precision, beam_size = kind(systems, group)
    words = f"{ENGINES.get(engine, engine)} {precision or ''}".strip()
    beams = {system["beam_size"] for system in systems.values()} - {None}
    if len(beams) > 1 and beam_size:
        words += ", greedy" if beam_size == 1 else f", beam {beam_size}"
    return words


def like_teacher(systems: Systems, group: str) -> str | None:
    """Returns the group of the first system's model that runs as another group does; None if there is none."""
    return next((other for other in teachers(systems) if kind(systems, group) == kind(systems, other)), None)


def _scored_kind(systems: Systems, group: str) -> tuple[Any, ...]:
    """Returns what two groups must have in common for their scores to be compared."""
    engine, *others = kind(systems, group)
    return SEARCHES.get(engine, engine), *others


def scored_like_teacher(systems: Systems, group: str) -> str | None:
    """Returns the group of the first system's model whose scores compare with another group's; None without one."""
    found = (other for other in teachers(systems) if _scored_kind(systems, group) == _scored_kind(systems, other))
    return like_teacher(systems, group) or next(found, None)


def has_teacher(systems: Systems) -> bool:
    """False if the first system is a baseline or distilled itself."""
    return not next(iter(systems.values()))["role"]


def teachers(systems: Systems) -> list[str]:
    """Returns the groups of the first system's model: itself, its exports, and its variants with other beam sizes."""
    first = next(iter(systems))
    origin = systems[first]["same_model_as"] or first
    return list(
        dict.fromkeys(system["group"] for name, system in systems.items() if origin in (name, system["same_model_as"]))
    )


def of_one_size(systems: Systems, group: str, other: str) -> bool:
    """True if the models of two groups have the same, known numbers of parameters."""
    sizes = _sizes(systems, group)
    return sizes == _sizes(systems, other) and None not in sizes


def _sizes(systems: Systems, group: str) -> set[int | None]:
    return {systems[name]["parameters"] for name in members(systems, group).values()}


def baselines_of_size(systems: Systems, group: str) -> list[str]:
    """Returns the baselines of a distilled group's size that run in its engine and precision."""
    if first_of(systems, group)["role"] != DISTILLED:
        return []
    return [
        other
        for other in groups_of(systems)
        if first_of(systems, other)["role"] == BASELINE
        and of_one_size(systems, group, other)
        and kind(systems, group) == kind(systems, other)
    ]


def compared_pairs(systems: Systems, baselines: Sequence[str], exports: Mapping[str, str]) -> list[Pair]:
    """Returns which systems are compared with which: each system, and the one that it is compared with.

    Args:
        systems: all systems; the first one is what others are measured by.
        baselines: names of systems that all others but exports are compared with. The first system is also compared
            with those that have the role, in its own engine and precision, for the gap between them, and so is each
            distilled system, with those of its size and seed.
        exports: the exports that the evaluation makes, each by the name of what it is made from. It is compared with
            that, and with the exports of the baselines.
    """
    given = [name for name in systems if name not in exports.values()]
    pairs = pairs_with(baselines, given)
    pairs += [(export, origin) for origin, export in exports.items()]
    pairs += pairs_with([exports[name] for name in baselines if name in exports], list(exports.values()))
    groups = [
        (teacher, other)
        for teacher in teachers(systems)
        for other in groups_of(systems)
        if first_of(systems, other)["role"] == BASELINE
        and _scored_kind(systems, other) == _scored_kind(systems, teacher)
    ]
    students = dict.fromkeys(systems[name]["group"] for name in given)
    groups += [(student, other) for student in students for other in baselines_of_size(systems, student)]
    pairs += [
        (name, other)
        for mine, theirs in groups
        for name in members(systems, mine).values()
        for other in members(systems, theirs).values()
        if seeds_match(systems, name, other)
    ]
    unique: dict[frozenset[str], Pair] = {}
    for pair in pairs:
        unique.setdefault(frozenset(pair), pair)
    return [pair for both, pair in unique.items() if len(both) == 2]


def training_difference(systems: Systems, group: str, other: str) -> str | None:
    """Returns in words how the trainings of two groups differ in steps or batches; None if that is not known."""
    differences = []
    for key, words in COUNTED.items():
        mine, theirs = (counted(systems, one, key) for one in (group, other))
        if mine and theirs and mine != theirs:
            differences.append(f"{_listed(mine)} {words} against {_listed(theirs)}")
    return ", ".join(differences) or None


def counted(systems: Systems, group: str, key: str) -> set[int]:
    """Returns the numbers, by a key of `COUNTED`, that the models of a group were trained with; empty if not known."""
    trainings = [systems[name]["training"] or {} for name in members(systems, group).values()]
    return {training[key] for training in trainings if training.get(key) is not None}


def _listed(numbers: set[int]) -> str:
    return " or ".join(f"{number:,}" for number in sorted(numbers))


def unfair_comparison(systems: Systems, group: str, other: str) -> str | None:
    """Returns why no sentence may say that one of two groups beats the other: one size, but different trainings."""
    return training_difference(systems, group, other) if of_one_size(systems, group, other) else None


def trained_otherwise(systems: Systems) -> dict[str, str]:
    """Returns for each group the names of those that have its size and run as it does, but were trained otherwise."""
    # A study has hundreds of groups, so what is compared for each pair is looked up once for each group.
    known = {
        group: (kind(systems, group), _sizes(systems, group), [counted(systems, group, key) for key in COUNTED])
        for group in groups_of(systems)
    }

    def differ(group: str, other: str) -> bool:
        (runs, sizes, counted), (theirs, others, counts) = known[group], known[other]
        unlike = any(one and another and one != another for one, another in zip(counted, counts))
        return unlike and runs == theirs and sizes == others and None not in sizes

    return {group: ", ".join(other for other in known if differ(group, other)) for group in known}


def marked(text: str, systems: Systems, metric: str, *groups: str) -> str:
    """Returns a metric's name or score, with `MARK` behind it if the metric selected labels for one of the groups."""
    return f"{text}{MARK}" if any(selected_labels(systems, metric, group) for group in groups) else text


def selected_labels(systems: Systems, metric: str, group: str) -> bool:
    """True if a metric selected labels that a group was trained on. Then it is no independent judge of the group."""
    names = (name for member in members(systems, group).values() for name in systems[member]["selected_by"])
    return metric.casefold() in map(str.casefold, names)


def mean_of(systems: Systems, group: str, key: str) -> float | None:
    """Returns the mean of a size or speed over those systems of a group of which it is known; None without one."""
    rows = [{**systems[name], **(systems[name]["speed"] or {})} for name in members(systems, group).values()]
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
