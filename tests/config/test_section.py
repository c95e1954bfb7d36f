import math
from pathlib import Path
from typing import Annotated, Literal

import pytest
from omegaconf import OmegaConf
from pydantic import AfterValidator, Field

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import argument_problem, read_config, read_section, rule, section


@section
class Noise:
    share: float = Field(default=0.0, ge=0, lt=1)
    files: list[Path] = Field(default_factory=list)


@section
class Search:
    seed: int
    beam: int | None = Field(default=4, ge=1)
    """Hypotheses that are followed."""
    method: Literal["beam", "sample"] = "beam"
    noise: Noise = Field(default_factory=Noise)
    named: dict[str, Noise] = Field(default_factory=dict)
    either: str | Noise = "x"
    none: Noise | None = None
    names: str | list[str] = "x"
    annotated: dict[str, Annotated[str | Noise, AfterValidator(lambda value: value)]] = Field(default_factory=dict)
    fast: bool = False
    some: Noise | None = None

    def problems(self):
        return ["beam=1: is no beam."] if self.beam == 1 and self.method == "beam" else []


def told(values, where="search"):
    return read_section(Search, {"seed": 1, **values}, where)[1]


def test_values_that_fit_make_the_section():
    found, problems = read_section(
        Search, {"seed": 1, "noise": {"files": ["a"]}, "named": {"k": {"share": 0}}}, "search"
    )
    assert problems == []
    assert found == Search(seed=1, noise=Noise(files=[Path("a")]), named={"k": Noise()})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"beam": 0}, "search.beam=0: must be null or a whole number of at least 1."),
        ({"beam": True}, "search.beam=true: must be null or a whole number of at least 1."),
        ({"beam": "3"}, "search.beam='3': must be null or a whole number of at least 1."),
        ({"beam": 3.0}, "search.beam=3.0: must be null or a whole number of at least 1."),
        ({"seed": None}, "search.seed=null: must be a whole number."),
        ({"seed": math.nan}, "search.seed=nan: must be a whole number."),
        ({"beem": 1}, "search has the unknown key 'beem'; the closest known key is 'beam'."),
        ({"method": "guess"}, "search.method=guess: must be one of beam, sample."),
        ({"fast": 1}, "search.fast=1: must be true or false."),
        ({"noise": None}, "search.noise=null: must be a section with files, share."),
        ({"noise": {"share": 2}}, "search.noise.share=2: must be a number of at least 0 and below 1."),
        ({"noise": {"files": ["a", 1]}}, "search.noise.files[1]=1: must be a path; a name that is read as a number needs quotes of its own: '\"1\"'."),
        (
            {"noise": {"files": ["a", "h\udcfcnde.de"]}},
            "search.noise.files[1]=h?nde.de: must be UTF-8; if it is the name of a file, rename the file.",
        ),
        ({"named": {"k": {"share": -1}}}, "search.named.k.share=-1: must be a number of at least 0 and below 1."),
        ({"named": {"k": {"sharp": 1}}}, "search.named.k has the unknown key 'sharp'; the closest known key is 'share'."),
        ({"either": 3}, "search.either=3: must be text or a section with files, share; a name that is read as a number needs quotes of its own: '\"3\"'."),
        ({"either": False}, "search.either=false: must be text or a section with files, share; in a file, YAML reads no and off as false unless they have quotes."),
        ({"either": {"share": 3}}, "search.either.share=3: must be a number of at least 0 and below 1."),
        ({"some": {"share": 3}}, "search.some.share=3: must be a number of at least 0 and below 1."),
        ({"some": {"sharp": 3}}, "search.some has the unknown key 'sharp'; the closest known key is 'share'."),
        ({"some": 3}, "search.some=3: must be null or a section with files, share."),
        ({"none": {"share": 3}}, "search.none.share=3: must be a number of at least 0 and below 1."),
        ({"annotated": {"k": {"share": 3}}}, "search.annotated.k.share=3: must be a number of at least 0 and below 1."),
        ({"names": [1]}, "search.names=[1]: must be text or a list, of which each entry is text."),
        ({"beam": 1}, "search.beam=1: is no beam."),
    ],
)  # fmt: skip
def test_each_problem_is_one_sentence_with_key_value_and_what_is_allowed(values, problem):
    assert told(values) == [problem]


def test_all_problems_are_told_at_once():
    found, problems = read_section(Search, {"beam": "a", "method": 3})
    assert found is None
    assert [problem.split("=")[0].split(" ")[0] for problem in problems] == ["seed", "beam", "method"]


@section
class Pair:
    share: float = Field(1.0, gt=0)
    noise: Noise = Field(default_factory=Noise)
    either: Literal["a", "b"] = "a"
    named: dict[str, Noise] = Field(default_factory=dict)
    other: str = Field(kw_only=True, pattern="^[xy]$")

    @rule
    def of_share(self):
        return ["share=1: is the whole."] if self.share == 1 else []

    @rule
    def of_noise(self):
        return ["noise.files has no file."] if not self.noise.files and self.named else []

    def problems(self):
        return [f"either={self.either}: does not go with other={self.other}."]


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"other": "x"}, {"share", "either"}),
        ({"other": "z"}, {"other", "share"}),
        ({"other": "z", "share": 0}, {"other", "share"}),
        ({}, {"other", "share"}),
        ({"other": "x", "noise": {"share": 2}, "named": {"k": {}}}, {"noise.share", "share", "noise.files", "either"}),
        ({"other": "x", "noise": {"files": 2}, "named": {"k": {}}}, {"noise.files", "share", "either"}),
        ({"other": "x", "named": {"k": {"share": 2}}}, {"named.k.share", "share", "noise.files", "either"}),
        ({"other": "x", "named": {"k": 2}}, {"named.k", "share", "either"}),
    ],
)
def test_rules_of_the_keys_that_are_right_are_told_beside_those_that_are_wrong(values, keys):
    problems = read_section(Pair, values)[1]
    assert {problem.split("=")[0].split(" ")[0] for problem in problems} == keys and len(problems) == len(keys)


def test_what_has_no_value_is_told_together_with_the_rest():
    with pytest.raises(ConfigurationError) as raised:
        read_config(Pair, OmegaConf.create({"share": 0, "other": "???", "noise": {"share": "???"}}))
    assert [problem.split("=")[0].split(" ")[0] for problem in raised.value.problems] == [
        "noise.share", "other", "share",
    ]  # fmt: skip


def test_the_rules_of_parts_that_fit_are_told_beside_what_does_not_fit():
    @section
    class Outer:
        inner: Search
        others: dict[str, str | Search] = Field(default_factory=dict)
        count: int = 0

    values = {"inner": {"seed": 1, "beam": 1}, "others": {"a": {"seed": 1, "beam": 1}, "b": 3}, "count": "many"}
    _, problems = read_section(Outer, values)
    assert sorted(problem.split("=")[0] for problem in problems) == [
        "count",
        "inner.beam",
        "others.a.beam",
        "others.b",
    ]


def test_a_whole_configuration_may_have_keys_that_others_refer_to():
    cfg = OmegaConf.create({"share": "${half}", "half": 0.5})
    assert read_config(Noise, cfg, other_keys=True) == Noise(share=0.5)
    with pytest.raises(ConfigurationError, match="unknown key 'half'"):
        read_config(Noise, cfg)


def test_what_is_no_section_is_told():
    assert read_section(Noise, 5, "noise")[1] == ["noise=5: must be a section with files, share."]


def test_a_whole_configuration_is_read_or_refused():
    assert read_config(Noise, OmegaConf.create({"share": 0.5})) == Noise(share=0.5)
    with pytest.raises(ConfigurationError, match="share=5: must be"):
        read_config(Noise, OmegaConf.create({"share": 5}))
    with pytest.raises(ConfigurationError, match="share has no value"):
        read_config(Noise, OmegaConf.create({"share": "???"}))


def test_a_missing_value_is_told_beside_other_problems():
    with pytest.raises(ConfigurationError) as raised:
        read_config(Search, OmegaConf.create({"seed": "???", "beam": 0, "names": "${seed}"}))
    assert [problem.split(" ")[0] for problem in raised.value.problems] == ["seed"]  # others may refer to it
    with pytest.raises(ConfigurationError) as raised:
        read_config(Search, OmegaConf.create({"seed": "???", "beam": 0}))
    assert [problem.split(" ")[0] for problem in raised.value.problems] == ["seed", "beam=0:"]


def test_an_argument_is_checked_also_where_its_type_has_no_hash():
    for type_ in (int, Annotated[int, {"unit": "words"}]):
        assert argument_problem("beam", 1, type_) is None
        assert argument_problem("beam", "wide", type_) == "beam=wide: must be a whole number."


def test_a_section_cannot_be_built_of_values_that_do_not_fit():
    with pytest.raises(ConfigurationError) as raised:
        Search("1", beam=0, noise=Noise())
    assert raised.value.problems == told({"seed": "1", "beam": 0}, "")
    with pytest.raises(ConfigurationError, match="has the unknown key 'beem'"):
        Search(1, beem=2)
    with pytest.raises(TypeError, match="Search: 2 values have no key, and at most 1 may"):
        Search(1, 2)  # optional keys have no order


def test_descriptions_stand_below_the_fields_also_those_of_a_base():
    @section
    class Wider(Search):
        width: int = 1
        """Of the beam."""

    told = {name: field.description for name, field in Wider.__pydantic_fields__.items()}
    assert (told["width"], told["beam"]) == ("Of the beam.", "Hypotheses that are followed.")
    assert Search.__pydantic_fields__["beam"].description == "Hypotheses that are followed."
