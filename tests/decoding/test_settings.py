import pytest

from nemo_distill.config.section import read_section
from nemo_distill.decoding.engines import search_problems
from nemo_distill.decoding.settings import AskedSearch, SearchSettings


def test_the_defaults_can_be_followed():
    assert SearchSettings().problems() == []
    assert SearchSettings(method="sample", beam_size=1, n_best=8).problems() == []


def test_every_setting_that_cannot_be_followed_is_named():
    values = {
        "method": "guess", "beam_size": 0, "n_best": 0, "length_penalty": -1, "length_penalty_form": "x", "max_delta": -1,
        "top_k": -1, "top_p": 0.0, "temperature": 0.0,
    }  # fmt: skip
    _, problems = read_section(SearchSettings, values, "search")
    assert [problem.split("=")[0].removeprefix("search.") for problem in problems] == list(values)


def test_a_beam_cannot_return_more_than_it_follows():
    assert SearchSettings(beam_size=2, n_best=3).problems() == ["n_best=3: must be from 1 to beam_size=2."]


@pytest.mark.parametrize(("form", "expected"), [("wu", (12 / 6) ** 0.5), ("power", 6**0.5)])
def test_the_length_penalty_is_the_documented_one(form, expected):
    assert SearchSettings(length_penalty=0.5, length_penalty_form=form).penalty(6) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("engine", "asked", "given"),
    [
        ("nemo_distill", {}, "wu"),
        ("nemo", {}, "wu"),
        ("ctranslate2", {}, "power"),
        ("hugging_face", {}, "power"),
        ("hugging_face", {"length_penalty": 0.0}, "wu"),  # has no effect, and older records say so
        ("ctranslate2", {"beam_size": 1}, "wu"),
        ("nemo_distill", {"length_penalty_form": "power"}, "power"),
        ("ctranslate2", {"length_penalty_form": "wu"}, "wu"),  # which is refused
    ],
)
def test_the_form_of_the_length_penalty_is_one_that_the_engine_knows(engine, asked, given):
    search = AskedSearch(**asked)
    assert search_problems(engine, search) == search_problems(engine, search.of(engine))
    assert search.of(engine) == SearchSettings(**{**asked, "length_penalty_form": given})
