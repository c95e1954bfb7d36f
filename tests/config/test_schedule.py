import pytest

from nemo_distill.config.schedule import check_number, parse_schedule


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
    schedule = parse_schedule(value, "weight", minimum=0)
    assert {step: schedule.at(step) for step in at} == pytest.approx(at)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (
            {"schedule": "exponential", "start": 1},
            "has weight.schedule='exponential'; allowed are constant, linear, cosine",
        ),
        ({"start": 1}, "has weight.schedule=None"),
        ({"schedule": "linear", "start": 1, "steps": 5}, "has weight.end=None; a number of at least 0 is needed"),
        ({"schedule": "linear", "start": -1, "end": 0, "steps": 5}, "has weight.start=-1"),
        (
            {"schedule": "linear", "start": 1, "end": 0, "steps": 0},
            "has weight.steps=0; a whole number of at least 1 is needed",
        ),
        ({"schedule": "constant", "start": 1, "stop": 3}, "has weight with the unknown key 'stop'"),
    ],
)
def test_a_wrong_schedule_is_told(value, sentence):
    with pytest.raises(ValueError) as error:
        parse_schedule(value, "weight", minimum=0)
    assert sentence in str(error.value)


def test_only_what_is_zero_throughout_is_zero():
    assert parse_schedule(0, "weight", 0).is_zero
    assert not parse_schedule({"schedule": "linear", "start": 0, "end": 1, "steps": 5}, "weight", 0).is_zero


@pytest.mark.parametrize("value", [True, None, "1", float("inf"), -1])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError):
        check_number(value, "key", minimum=0)
