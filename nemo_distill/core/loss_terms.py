"""The terms of the distillation objective: built from `distillation.loss`, and computed for each step."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from nemo_distill.config.checks import listing, suggestion
from nemo_distill.config.schedule import Schedule, Weight, as_schedule
from nemo_distill.config.section import argument_problem, read_value
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role, consumed_tensors
from nemo_distill.losses.closed_forms import SmoothedLabels
from nemo_distill.losses.fused import fused_losses

ALLOWED_LOSS_PREFIXES = ("nemo_distill.losses.",)
STUDENT_LOSS = "student"  # the name of the student's own training loss among the terms
LOGGED = ("train", "val", "test")  # `train_loss` and others are logged for the total and for evaluation sets
NEVER = as_schedule(0.0)  # the weight of a loss that is left out
# For each name that a model registers as hidden states or attention maps, the width of each layer's tensor.
Widths = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class LossTerm:
    """One term of the distillation objective: `weight` times `loss`, logged as `name`."""

    name: str
    weight: Schedule
    loss: nn.Module


class StepLosses:
    """The loss terms whose weight is not 0 at an optimizer step.

    Args:
        terms: all loss terms of the training.
        student_weight: weight of the student's own training loss.
        step: the optimizer step.
        fuse: compute the losses that support it from the projection instead of log-probabilities.
        passes: how often the models read the batch. Losses that read only distributions are means over all passes,
            the others are those of the first. 1 if there are no losses of the former kind.
    """

    def __init__(self, terms: Sequence[LossTerm], student_weight: Schedule, step: int, fuse: bool, passes: int = 1):
        self.weights = {term.name: weight for term in terms if (weight := term.weight.at(step))}
        self.terms = [term for term in terms if term.name in self.weights]
        self.step, self.fuse = step, fuse
        self.repeated = [term for term in self.terms if reads_only_distributions(term.loss)]
        self.passes = passes if self.repeated else 1
        self.fused = [term for term in self.terms if fuse and getattr(term.loss, "consumes_projection", False)]
        self.plain = [term for term in self.terms if term not in self.fused]
        if (weight := student_weight.at(step)) or not self.terms:  # a step with only zero weights still needs a loss
            self.weights[STUDENT_LOSS] = weight

    def without_references(self, reference_tensors: Collection[str]) -> "StepLosses":
        """Returns the terms that read no reference translations: neither the student's own loss nor these tensors.

        Their weights are unchanged, so the total of such a step is smaller by the terms that are left out.
        """
        terms = [term for term in self.terms if not read_tensors(term.loss) & set(reference_tensors)]
        return StepLosses(terms, NEVER, self.step, self.fuse, self.passes)

    def of_later_passes(self) -> "StepLosses":
        """Returns the terms of each pass after the first."""
        return StepLosses(self.repeated, NEVER, self.step, self.fuse, self.passes)

    def wanted(self) -> set[tuple[Role, str]]:
        """Returns the roles and names of the tensors that the models must register."""
        wanted = {tensor for term in self.plain for tensor in consumed_tensors(term.loss).values()}
        if self.fuse:  # even without fused terms, because the student's own loss may be fused
            wanted.add((Role.STUDENT, PROJECTION))
        return wanted | {(Role.TEACHER, PROJECTION) for _ in self.fused}

    def compute(self, registry: DistillationRegistry, own: Tensor | SmoothedLabels | None) -> dict[str, Tensor]:
        """Returns the unweighted losses by name, those of several passes divided by the number of passes.

        Args:
            registry: holds the tensors of both models in this pass.
            own: the student's own loss, or the labels from which the fused pass computes it; None if its weight is 0.
        """
        passes = {term.name: self.passes for term in self.repeated}
        losses = {term.name: term.loss(**_loss_inputs(term.loss, registry)) for term in self.plain}
        labels = own if isinstance(own, SmoothedLabels) else None
        names = [term.name for term in self.fused] + ([STUDENT_LOSS] if labels else [])
        if names:
            student: Any = registry.get(Role.STUDENT, PROJECTION)
            teacher: Any = registry.get(Role.TEACHER, PROJECTION) if self.fused else None
            values = fused_losses(
                student,
                teacher,
                registry.mask(PROJECTION),
                [term.loss for term in self.fused],
                [self.weights[name] / passes.get(name, 1) for name in names],
                registry.temperature,
                labels,
                registry.pairs,
            )
            losses |= dict(zip(names, values.unbind()))
        losses = {name: value / passes.get(name, 1) for name, value in losses.items()}
        return losses if own is None or labels else losses | {STUDENT_LOSS: own}

    def weighted_sum(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Returns the weighted sum of the losses."""
        return sum(self.weights[name] * value for name, value in losses.items())


def read_tensors(loss: nn.Module) -> set[str]:
    """Returns the names of the tensors that a loss reads, of both roles."""
    return {name for _, name in consumed_tensors(loss).values()}


def reads_only_distributions(loss: nn.Module) -> bool:
    """True if a loss can be computed wherever both models have log-probabilities."""
    return read_tensors(loss) == {"log_probs"}


def _loss_inputs(loss: nn.Module, registry: DistillationRegistry) -> dict[str, Any]:
    """Returns the arguments of a loss: its tensors, their mask and, if the loss uses it, the temperature."""
    inputs: dict[str, Any] = {
        argument: registry.get(role, name) for argument, (role, name) in consumed_tensors(loss).items()
    }
    if getattr(loss, "uses_temperature", False):
        inputs["temperature"] = registry.temperature
    return inputs | {"mask": registry.mask(next(iter(loss.consumes.values())))}


def build_loss_terms(
    nodes: Mapping[str, Mapping[str, Any]],
    allowed_targets: Collection[str] = (),
    registered: Collection[str] | None = None,
    widths: tuple[Widths, Widths] | None = None,
    where: str = "distillation",
) -> tuple[list[LossTerm], list[str]]:
    """Instantiates the losses of a `distillation.loss` config.

    Args:
        nodes: a mapping from a loss's name to its `_target_`, its `weight` (default 1) and its class's arguments. The
            class refuses an argument by a ValueError that says `argument=value: reason.`
        allowed_targets: prefixes that `_target_` may have besides `nemo_distill.losses.`
        registered: names of the tensors that the models register; None accepts every name.
        widths: layer widths of student and teacher, for losses with a `prepare` method; None skips that method.
        where: the key of the section, for the messages.

    Returns:
        The terms, without those whose weight is always 0, and the problems found, one sentence each.
    """
    terms, problems = [], []
    for name, node in nodes.items():
        key = f"{where}.loss.{name}"
        term, found = _build_loss_term(key, name, node, (*ALLOWED_LOSS_PREFIXES, *allowed_targets))
        found = _name_problems(name, where) + found
        if term and not found:
            found = _unregistered(key, term.loss, registered) or _prepare(key, term.loss, widths)
            terms.append(term)
        problems += found
    return terms, problems


def _name_problems(name: Any, where: str) -> list[str]:
    """Returns a sentence if a loss cannot have this name, which YAML may have read as a number or a truth value."""
    if name in (STUDENT_LOSS, *LOGGED):
        return [f"{where}.loss has the name '{name}', under which another loss is logged; choose another name."]
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict(), name):
        return [f"{where}.loss has the name '{name}', which a torch module cannot have; choose another name."]
    return []


def _unregistered(key: str, loss: nn.Module, registered: Collection[str] | None) -> list[str]:
    return [
        f"{key} reads '{wanted}', which the model does not register; it registers {listing(registered)}."
        for wanted in sorted(set(loss.consumes.values()))
        if registered is not None and wanted not in registered
    ]


def _prepare(key: str, loss: nn.Module, widths: tuple[Widths, Widths] | None) -> list[str]:
    name = next(iter(loss.consumes.values()))
    if widths and hasattr(loss, "prepare") and all(name in model_widths for model_widths in widths):
        try:
            loss.prepare(*(model_widths[name] for model_widths in widths))
        except ValueError as error:
            return [_argument_sentence(key, error)]
    return []


def _argument_sentence(key: str, error: ValueError) -> str:
    """Returns a loss's error with its key: ours say `argument=value: reason.`, those of users' own anything."""
    return f"{key}.{error}" if re.match(r"\w+=", str(error)) else f"{key} cannot be built: {error}"


def _build_loss_term(
    key: str, name: str, node: Mapping[str, Any], prefixes: Collection[str]
) -> tuple[LossTerm | None, list[str]]:
    """Returns the term of a node, or None if its weight is always 0, and the problems."""
    arguments = dict(node)
    weight, problems = read_value(Weight, arguments.pop("weight", 1.0), f"{key}.weight")
    target = arguments.pop("_target_", None)
    try:
        loss_class = _loss_class(f"{key}._target_", target, prefixes)
    except ValueError as error:
        return None, [*problems, str(error)]
    problems += _argument_problems(key, loss_class, arguments)
    if problems or as_schedule(weight).is_zero:
        return None, problems
    try:
        loss = loss_class(**arguments)
    except TypeError as error:  # an abstract class, or one with missing arguments
        return None, [f"{key}._target_={target}: cannot be built: {error}."]
    except ValueError as error:
        return None, [_argument_sentence(key, error)]
    if not hasattr(loss, "consumes"):
        return None, [f"{key}._target_={target}: the class does not say in `consumes` what it reads."]
    return LossTerm(name, as_schedule(weight), loss), []


def _argument_problems(key: str, loss_class: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> list[str]:
    parameters = inspect.signature(loss_class).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    problems = [
        f"{key} has the unknown key '{argument}'{suggestion(argument, parameters)}."
        for argument in arguments
        if argument not in parameters and not takes_any
    ]
    checked = (
        argument_problem(f"{key}.{argument}", value, parameters[argument].annotation)
        for argument, value in arguments.items()
        if argument in parameters
    )
    return problems + [problem for problem in checked if problem]


def _loss_class(key: str, target: Any, prefixes: Collection[str]) -> Callable[..., nn.Module]:
    """Returns the class of a name that stands at a key."""
    if not isinstance(target, str):
        raise ValueError(f"{key} has no value; give the full name of a loss class.")
    if not target.startswith(tuple(prefixes)):
        raise ValueError(f"{key}={target}: must begin with {' or '.join(prefixes)}")
    module_name, _, class_name = target.rpartition(".")
    try:
        found = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{key}={target}: cannot be imported: {error}.") from error
    if not isinstance(found, type) and not inspect.isroutine(found):
        raise ValueError(f"{key}={target}: must be a class.")
    return found


def checked_loss_terms(
    section: DistillationSection,
    nodes: Mapping[str, Mapping[str, Any]],
    registered: Collection[str],
    widths: tuple[Widths, Widths] | None = None,
    where: str = "distillation",
    cached_words: int | None = None,
) -> tuple[list[LossTerm], list[str]]:
    """Instantiates the losses of a `distillation` section and checks them together with its other keys.

    Args:
        section: the section.
        nodes: the config node of each loss by name; see `build_loss_terms`.
        registered: names of the tensors that the models register.
        widths: layer widths of student and teacher, if known.
        where: the key of the section, for the messages.
        cached_words: number of words that the teacher cache stores per token; None if it stores all words, or if the
            number is not known yet.

    Returns:
        The terms, without those whose weight is always 0, and the problems found, one sentence each.
    """
    terms, problems = build_loss_terms(nodes, section.allowed_targets, registered, widths, where)
    problems += _unread_problems(terms, section, where)
    if section.teacher_cache:
        problems += _cached_teacher_problems(terms, section.teacher_cache_tail, cached_words, where)
    if not problems:
        problems = [f"{where}.{problem}" for problem in section.term_problems([(t.name, t.loss) for t in terms])]
    return terms, problems or _nothing_to_train_on(terms, section.student_weight, where)


def _unread_problems(terms: Collection[LossTerm], section: DistillationSection, where: str) -> list[str]:
    """Returns a sentence for each loss that reads a tensor which the teacher does not give."""
    return [
        f"{where}.loss.{term.name} reads the teacher's '{name}', but {reason}."
        for term in terms
        for role, name in consumed_tensors(term.loss).values()
        if role is Role.TEACHER and (reason := section.why_unread(name))
    ]


def _cached_teacher_problems(terms: Collection[LossTerm], tail: str, k: int | None, where: str) -> list[str]:
    """Returns a sentence for each loss that a teacher cache cannot serve, although it reads only what is stored."""
    problems = [
        f"{where}.loss.{term.name} ranks the teacher's {term.loss.ranked_words} best words, but the teacher cache "
        f"stores only {k} (cache.k)."
        for term in terms
        if k is not None and getattr(term.loss, "ranked_words", 0) > k
    ]
    return problems + [
        f"{where}.loss.{term.name} is infinite if the teacher gives a word zero probability; with a teacher cache, "
        f"set {where}.teacher_cache_tail=uniform."
        for term in terms
        if getattr(term.loss, "needs_every_word", False) and tail != "uniform"
    ]


def _nothing_to_train_on(terms: Collection[LossTerm], student_weight: Schedule, where: str) -> list[str]:
    """Returns a sentence if all weights are 0, either from the start or after their schedules end."""
    weights = {f"loss.{term.name}.weight": term.weight for term in terms}
    weights["student_train_loss_weight"] = student_weight
    if any(weight.last for weight in weights.values()):
        return []
    fading = {key: weight for key, weight in weights.items() if not weight.is_zero}
    if not fading:
        return [f"{where} has no loss with a weight above 0, so there is nothing to train on."]
    step = max(weight.steps or 0 for weight in fading.values())
    return [
        f"{where} has no loss with a weight above 0 from step {step} on, so there is nothing to train on; "
        f"set the end of one of these schedules above 0: {listing(fading)}."
    ]
