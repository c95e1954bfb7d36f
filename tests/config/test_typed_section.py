from dataclasses import dataclass

import pytest

from nemo_distill.config.typed_section import build_section


@dataclass(frozen=True)
class Search:
    beam_size: int = 4
    penalty: float = 0.6
    method: str = "beam"
    sorted: bool = True
    most: int | None = None
    names: list | None = None

    def problems(self):
        return [] if self.beam_size > 0 else [f"beam_size={self.beam_size}: must be at least 1."]


@pytest.mark.parametrize(
    "values", [{}, {"beam_size": 5, "penalty": 1, "most": 3}, {"most": None, "sorted": False}, {"names": ["a"]}]
)
def test_values_that_fit_make_the_section(values):
    assert build_section(Search, values, "search") == (Search(**values), [])


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        ({"beam_sise": 5}, ["search has the unknown key 'beam_sise'; the closest known key is 'beam_size'."]),
        ({"beam_size": "five"}, ["search.beam_size=five: must be a whole number."]),
        ({"beam_size": 5.5}, ["search.beam_size=5.5: must be a whole number."]),
        ({"beam_size": True}, ["search.beam_size=True: must be a whole number."]),
        ({"beam_size": None}, ["search.beam_size=None: must be a whole number."]),
        ({"penalty": "x"}, ["search.penalty=x: must be a number."]),
        ({"sorted": 1}, ["search.sorted=1: must be true or false."]),
        ({"most": "x"}, ["search.most=x: must be a whole number or null."]),
        ({"method": ["beam"]}, ["search.method=['beam']: must be a word."]),
        ({"names": "a"}, ["search.names=a: must be a list or null."]),
        ({"beam_size": 0}, ["search.beam_size=0: must be at least 1."]),
        ({"most": "x", "penalty": "y"}, ["search.most=x: must be a whole number or null.", "search.penalty=y: must be a number."]),
    ],
)  # fmt: skip
def test_each_value_that_does_not_fit_is_told(values, problems):
    assert build_section(Search, values, "search")[1] == problems
