"""Checks of a configuration that need no NeMo, so that a user's mistakes are told within seconds and all at once."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import nn

from nemo_distill.config.checks import listing, suggestion
from nemo_distill.config.plain_types import fits, words
from nemo_distill.config.schedule import Schedule, parse_schedule
from nemo_distill.core.registry import Role, consumed_tensors

ALLOWED_LOSS_PREFIXES = ("nemo_distill.losses.",)
CORE_KEYS = {
    "model_path",
    "teacher_weights",
    "teacher_cache",
    "teacher_cache_tail",
    "teacher_precision",
    "temperature",
    "student_train_loss_weight",
    "loss",
    "allowed_targets",
    "compile",
    "fused",
}
CACHED_TENSORS = ("log_probs", "nll")  # of the teacher, in a teacher cache
TEACHER_PRECISIONS = (None, "bfloat16")  # None: that of its weights


@dataclass(frozen=True)
class LossTerm:
    """One summand of the distillation objective: `weight` times `loss`, logged as `name`."""

    name: str
    weight: Schedule
    loss: nn.Module


# For each name that a model registers as hidden states or attention maps, the width of each layer's tensor.
Widths = Mapping[str, Sequence[int]]


def build_loss_terms(
    nodes: Mapping[str, Mapping[str, Any]],
    allowed_targets: Collection[str] = (),
    registered: Collection[str] | None = None,
    widths: tuple[Widths, Widths] | None = None,
) -> tuple[list[LossTerm], list[str]]:
    """Instantiates the losses of a `distillation.loss` config.

    Args:
        nodes: a mapping from a loss's name to its `_target_`, its `weight` (default 1) and its class's arguments.
        allowed_targets: prefixes that `_target_` may have besides `nemo_distill.losses.`
        registered: the names that the models register; None accepts every name.
        widths: the student's and the teacher's, for losses that must be prepared for them; None prepares none.

    Returns:
        The terms whose weight is not 0 throughout, and the problems found, a sentence each.
    """
    if not isinstance(nodes, Mapping):
        return [], [f"distillation.loss={nodes}: must be a section of losses by name."]
    if not fits(allowed_targets, list) or not all(isinstance(name, str) for name in allowed_targets):
        return [], [f"distillation.allowed_targets={allowed_targets}: must be a list of the beginnings of names."]
    terms, problems = [], []
    for name, node in nodes.items():
        if not isinstance(node, Mapping):
            problems.append(f"distillation.loss.{name}={node}: must be a section with _target_ and weight.")
            continue
        try:
            term = _build_loss_term(name, node, (*ALLOWED_LOSS_PREFIXES, *allowed_targets))
        except ValueError as error:
            problems.append(f"distillation.loss.{name} {error}.")
            continue
        if term is None:
            continue
        for wanted in set(term.loss.consumes.values()) - set(registered or term.loss.consumes.values()):
            problems.append(
                f"distillation.loss.{name} reads '{wanted}', which the model does not register; "
                f"it registers {listing(registered)}."
            )
        try:
            _prepare(term.loss, widths)
        except ValueError as error:
            problems.append(f"distillation.loss.{name} {error}.")
        terms.append(term)
    return terms, problems


def _prepare(loss: nn.Module, widths: tuple[Widths, Widths] | None) -> None:
    name = next(iter(loss.consumes.values()))
    if widths and hasattr(loss, "prepare") and all(name in of_model for of_model in widths):
        loss.prepare(*(of_model[name] for of_model in widths))


def _build_loss_term(name: str, node: Any, prefixes: Collection[str]) -> LossTerm | None:
    if not isinstance(node, Mapping):
        raise ValueError(f"is {node!r}; a section with _target_ is needed")
    arguments = dict(node)
    weight = parse_schedule(arguments.pop("weight", 1.0), "weight", minimum=0)
    loss_class = _loss_class(arguments.pop("_target_", None), prefixes)
    _check_arguments(loss_class, arguments)
    if weight.is_zero:
        return None
    try:
        loss = loss_class(**arguments)
    except TypeError as error:  # of one that is abstract, or of which an argument is missing
        raise ValueError(f"has _target_ '{node['_target_']}', which cannot be built: {error}") from error
    if not hasattr(loss, "consumes"):
        raise ValueError(f"uses {loss_class.__name__}, which does not say in `consumes` what it reads")
    return LossTerm(name, weight, loss)


def _check_arguments(loss_class: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(loss_class).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for key, value in arguments.items():
        if key not in parameters and not takes_any:
            raise ValueError(
                f"has the key '{key}', which {loss_class.__name__} does not take{suggestion(key, parameters)}"
            )
        if key in parameters and not fits(value, parameters[key].annotation):
            raise ValueError(f"has {key}={value!r}; {words(parameters[key].annotation)} is needed")


def _loss_class(target: Any, prefixes: Collection[str]) -> Callable[..., nn.Module]:
    if not isinstance(target, str):
        raise ValueError("has no _target_, the full name of a loss class")
    if not target.startswith(tuple(prefixes)):
        raise ValueError(f"has _target_ '{target}'; allowed are names that begin with {listing(prefixes)}")
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"has _target_ '{target}', which cannot be imported: {error}") from error
    if not isinstance(found, type) and not inspect.isroutine(found):
        raise ValueError(f"has _target_ '{target}', which is no class")
    return found


def check_distillation(
    distillation: Mapping[str, Any],
    registered: Collection[str],
    task_keys: Collection[str] = (),
    widths: tuple[Widths, Widths] | None = None,
) -> list[str]:
    """Returns the problems of a `distillation` config, apart from its teacher.

    Args:
        distillation: the resolved config.
        registered: the names that the models register.
        task_keys: keys that the task knows besides the core's own.
        widths: the student's and the teacher's, where they are known.
    """
    known = CORE_KEYS | set(task_keys)
    if not isinstance(distillation.get("loss") or {}, Mapping):
        return [f"distillation.loss={distillation['loss']}: must be a section, with a node for each loss."]
    problems = [
        f"distillation has the unknown key '{key}'{suggestion(key, known)}."
        for key in distillation
        if key not in known
    ]
    schedules = {}
    for key, default, above in (("temperature", 1.0, True), ("student_train_loss_weight", 0.0, False)):
        try:
            schedules[key] = parse_schedule(distillation.get(key, default), key, minimum=0, above=above)
        except ValueError as error:
            problems.append(f"distillation {error}.")
    problems += _compile_problems(distillation.get("compile"))
    if not isinstance(fused := distillation.get("fused", True), bool):
        problems.append(f"distillation has fused={fused!r}; allowed are true and false.")
    if (precision := distillation.get("teacher_precision")) not in TEACHER_PRECISIONS:
        problems.append(f"distillation has teacher_precision={precision!r}; allowed are null and bfloat16.")
    terms, loss_problems = build_loss_terms(
        distillation.get("loss") or {}, distillation.get("allowed_targets") or (), registered, widths
    )
    problems += loss_problems
    if distillation.get("teacher_cache"):
        problems += cached_teacher_problems(terms, distillation.get("teacher_cache_tail"))
    return problems or nothing_to_train_on(terms, schedules["student_train_loss_weight"])


def cached_teacher_problems(terms: Collection[LossTerm], tail: str | None, k: int | None = None) -> list[str]:
    """Returns a sentence for each loss that reads of the teacher what a teacher cache does not hold.

    Args:
        terms: the losses.
        tail: the tail policy; see `nemo_distill.losses.top_k`.
        k: words that the cache keeps of a token; None for all, or where it is not known yet.
    """
    problems = [
        f"distillation.loss.{term.name} ranks the teacher's {term.loss.ranked_words} best words; the teacher cache "
        f"keeps {k}, by cache.k."
        for term in terms
        if k is not None and getattr(term.loss, "ranked_words", 0) > k
    ]
    problems += [
        f"distillation.loss.{term.name} reads the teacher's '{name}', but a teacher cache holds only "
        f"{listing(CACHED_TENSORS)}."
        for term in terms
        for role, name in consumed_tensors(term.loss).values()
        if role is Role.TEACHER and name not in CACHED_TENSORS
    ]
    return problems + [
        f"distillation.loss.{term.name} is infinite where the teacher gives a word no probability; from a teacher "
        "cache it needs distillation.teacher_cache_tail=uniform."
        for term in terms
        if getattr(term.loss, "needs_every_word", False) and tail != "uniform"
    ]


def _compile_problems(backend: Any) -> list[str]:
    if backend is None:
        return []
    allowed = [*torch.compiler.list_backends(), "eager", "aot_eager"]  # torch hides these two, which are for tests
    if backend in allowed:
        return []
    return [f"distillation has compile={backend!r}; allowed are null and torch.compile's {listing(allowed)}."]


def nothing_to_train_on(terms: Collection[LossTerm], student_weight: Schedule) -> list[str]:
    """Returns a sentence if all weights are 0, from the first step on or from where their schedules end."""
    weights = {f"loss.{term.name}.weight": term.weight for term in terms}
    weights["student_train_loss_weight"] = student_weight
    if any(weight.end for weight in weights.values()):
        return []
    fading = {key: weight for key, weight in weights.items() if not weight.is_zero}
    if not fading:
        return ["distillation has no loss of a weight above 0, so there is nothing to train on."]
    step = max(weight.steps for weight in fading.values())
    return [
        f"distillation has no loss of a weight above 0 from step {step} on, so there is nothing to train on; "
        f"of {listing(fading)}, let one end above 0."
    ]
