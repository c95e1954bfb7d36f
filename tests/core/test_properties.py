"""Whatever a configuration holds: each problem is a sentence, and what has none is a valid object."""

import math
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nemo_distill import losses
from nemo_distill.config.schedule import Schedule, Weight, as_schedule
from nemo_distill.config.section import read_section, read_value
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.loss_terms import build_loss_terms, checked_loss_terms
from nemo_distill.decoding.engines import ModelSection
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.speed import SpeedSettings
from nemo_distill.evaluation.student_sizes import SizeTarget
from nemo_distill.evaluation.system_sections import Models
from nemo_distill.models.distillation_section import REGISTERED_TENSORS
from nemo_distill.pseudo_labels.filters import FilterSettings
from nemo_distill.teacher_cache.settings import CacheSettings
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.source_noise import SourceNoise
from tests.json_values import KEYS, VALUES, sections

KINDS = ("constant", "linear", "cosine")
SECTIONS = (LinePolicy, SearchSettings, FilterSettings, SourceNoise, CacheSettings, SpeedSettings, SizeTarget)


def assert_sentences(problems):
    assert problems and all(isinstance(problem, str) and problem.endswith(".") for problem in problems)


schedules = VALUES | st.fixed_dictionaries(
    {"schedule": st.sampled_from(KINDS) | VALUES},
    optional={"start": VALUES, "end": VALUES, "steps": VALUES, "more": VALUES},
)


@given(schedules, st.integers(0, 10**6))
def test_any_value_is_a_schedule_of_allowed_numbers_or_a_sentence(value, step):
    found, problems = read_value(Weight, value, "weight")
    if problems:
        assert_sentences(problems)
        assert all(problem.startswith("weight") for problem in problems)
        return
    number = as_schedule(found).at(step)
    assert math.isfinite(number) and number >= 0


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.integers(1, 10**6), st.sampled_from(KINDS), st.integers(0, 2 * 10**6))
def test_a_schedule_stays_between_its_ends_and_reaches_both(start, end, steps, kind, step):
    schedule = Schedule(kind, start) if kind == "constant" else Schedule(kind, start, end=end, steps=steps)
    last = start if kind == "constant" else end
    assert schedule.at(0) == pytest.approx(start) and schedule.at(steps) == pytest.approx(last)
    assert min(start, last) - 1e-6 <= schedule.at(step) <= max(start, last) * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize("section_class", SECTIONS, ids=lambda section_class: section_class.__name__)
@given(data=st.data())
def test_any_section_is_valid_or_told_by_name(section_class, data):
    names = [field.name for field in fields(section_class)]
    values = data.draw(VALUES | sections(names) | sections(names, st.integers(-3, 3) | st.floats(-2, 2)))
    section, problems = read_section(section_class, values, "here")
    if problems:
        assert_sentences(problems)
        assert all(problem.startswith("here") for problem in problems)
        return
    assert {key: asdict(section)[key] for key in values} == values
    assert all(math.isfinite(value) for value in asdict(section).values() if isinstance(value, float))


LOSS_CLASSES = {name: getattr(losses, name) for name in losses.__all__}
ARGUMENTS = ["beta", "k", "layers", "share", "queue_size", "log_probs", "hidden_states", "include_embeddings"]
targets = (
    st.sampled_from([f"nemo_distill.losses.{name}" for name in LOSS_CLASSES])
    | st.sampled_from(
        [f"nemo_distill.losses.{name}" for name in ("", ".", "fused.torch", "top_k.TAILS", "layer_map.layer_pairs")]
    )
    | st.sampled_from([f"nemo_distill.losses.{name}" for name in ("word_level.WordLevelLoss", "a\0b", "fused.x.y")])
    | VALUES
)
loss_nodes = VALUES | st.builds(
    lambda node, arguments: {**arguments, **node},
    st.fixed_dictionaries({}, optional={"_target_": targets, "weight": schedules}),
    sections(ARGUMENTS),
)
WIDTHS = {name: [8] * 3 if "layers" in name else [2] * 2 for name in REGISTERED_TENSORS if name not in ("log_probs",)}


@given(st.dictionaries(KEYS, loss_nodes.filter(lambda node: isinstance(node, dict)), max_size=3), VALUES)
def test_any_loss_section_is_losses_or_sentences(nodes, allowed):
    registered = REGISTERED_TENSORS if allowed else None
    terms, problems = build_loss_terms(nodes, registered=registered, widths=(WIDTHS, WIDTHS))
    if problems:
        assert_sentences(problems)
    else:
        assert all(isinstance(term.loss, nn.Module) and term.loss.consumes for term in terms)


@pytest.mark.parametrize("name", LOSS_CLASSES)
@given(data=st.data())
def test_any_arguments_of_a_loss_are_taken_as_they_are_or_told(name, data):
    arguments = data.draw(sections(ARGUMENTS))
    node = {"_target_": f"nemo_distill.losses.{name}", **arguments}
    terms, problems = build_loss_terms({"one": node}, registered=REGISTERED_TENSORS, widths=(WIDTHS, WIDTHS))
    if problems:
        assert_sentences(problems)
        assert all(problem.startswith("distillation.loss.one") for problem in problems)
    else:
        assert type(terms[0].loss) is LOSS_CLASSES[name]


CORE_KEYS = [field.name for field in fields(DistillationSection)]


@given(sections(CORE_KEYS, VALUES | schedules | st.dictionaries(KEYS, loss_nodes, max_size=2)))
def test_any_distillation_section_is_right_or_told(values):
    section, problems = read_section(DistillationSection, values, "distillation")
    if section:
        problems += checked_loss_terms(section, section.loss, REGISTERED_TENSORS, (WIDTHS, WIDTHS))[1]
    assert all(problem.startswith("distillation") for problem in problems)
    if problems:
        assert_sentences(problems)


@given(VALUES, st.integers(1, 3))
def test_any_shares_of_models_are_right_or_told(weights, count):
    if problems := read_section(ModelSection, {"model": ["a"] * count, "weights": weights})[1]:
        assert_sentences(problems)


@given(st.dictionaries(KEYS, VALUES | sections(["model", "engine", "dtype"]), max_size=3))
def test_any_models_of_an_evaluation_are_right_or_told(models):
    if problems := read_value(Models, models, "models")[1]:
        assert_sentences(problems)
