import pytest

from nemo_distill.config.schedule import Weight, as_schedule
from nemo_distill.config.section import read_value


def read(value):
    return read_value(Weight, value, "weight")


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (0.5, {0: 0.5, 1000: 0.5}),
        ({"schedule": "constant", "start": 2}, {0: 2.0, 7: 2.0}),
        ({"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 10}, {0: 1.0, 5: 0.5, 10: 0.0, 99: 0.0}),
        ({"schedule": "linear", "start": 1, "end": 5, "steps": 4}, {0: 1.0, 1: 2.0, 4: 5.0}),
        (
            {"schedule": "cosine", "start": 1.0, "end": 0.0, "steps": 6},
            {0: 1.0, 2: 0.75, 3: 0.5, 4: 0.25, 6: 0.0, 7: 0.0},
        ),
    ],
)
def test_a_number_follows_its_schedule(value, at):
    found, problems = read(value)
    assert problems == []
    assert {step: as_schedule(found).at(step) for step in at} == pytest.approx(at)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"schedule": "exponential", "start": 1}, ["weight.schedule=exponential: must be one of constant, linear, cosine"]),
        ({"start": 1}, ["weight.schedule has no value"]),
        ({"schedule": "linear", "start": 1, "steps": 5}, ["weight.end has no value"]),
        ({"schedule": "linear", "start": -1, "end": 0, "steps": 5}, ["weight.start=-1: must be a number of at least 0"]),
        ({"schedule": "linear", "start": 1, "end": 0, "steps": 0}, ["weight.steps=0: must be null or a whole number of at least 1"]),
        ({"schedule": "constant", "start": 1, "stop": 3}, ["weight has the unknown key 'stop'"]),
        ({"schedule": "constant", "start": 1, "end": 3}, ["weight.end=3.0: a constant schedule has none"]),
        (True, ["weight=true: must be a number of at least 0 or a schedule"]),
        (None, ["weight=null: must be"]),
        ("1", ["weight='1': must be"]),
        (float("inf"), ["weight=inf: must be"]),
        (-1, ["weight=-1: must be"]),
    ],
)  # fmt: skip
def test_a_wrong_schedule_is_told(value, told):
    _, problems = read(value)
    assert len(problems) == len(told)
    assert all(problem.startswith(beginning) for problem, beginning in zip(problems, told))


def test_only_what_is_zero_throughout_is_zero():
    assert as_schedule(0).is_zero
    assert not as_schedule(read({"schedule": "linear", "start": 0, "end": 1, "steps": 5})[0]).is_zero
