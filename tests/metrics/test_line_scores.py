import sys

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.metrics.line_scores import ScorerSettings, command_fingerprints, scores_by_command

# The share of words that the reference has; notes each run beside itself.
METRIC = """
import sys
from pathlib import Path
with open(Path(__file__).with_name("runs"), "a") as runs:
    runs.write("x")
rows = [line.rstrip("\\n").split("\\t") for line in open(sys.argv[1], encoding="utf-8")]
said = [(hypothesis.split(), reference.split()) for source, hypothesis, reference in rows]
Path(sys.argv[2]).write_text("".join(f"{sum(word in right for word in words) / len(words)}\\n" for words, right in said))
"""


@pytest.fixture
def scorer(tmp_path):
    (tmp_path / "metric.py").write_text(METRIC)
    return ScorerSettings(
        command=f"{sys.executable} {tmp_path}/metric.py {{hypotheses}} {{scores}}", lower_is_better=True
    )


def test_all_systems_are_scored_by_one_run_and_have_their_means(scorer, tmp_path):
    systems = {"good": ["a b", "c"], "bad": ["a x", "x"]}
    found = scores_by_command("Words", scorer, ["s", "t"], ["a b", "c"], systems)
    assert {name: score.value for name, score in found.items()} == {"good": 1.0, "bad": 0.25}
    assert found["bad"].signature == f"Words|mean of 2|lower is better|{scorer.command}"
    assert (tmp_path / "runs").read_text() == "x"


def test_scores_depend_on_the_files_and_folders_that_the_command_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name in ("score.py", "model/weights", "words"):
        (tmp_path / name).write_text(name)
    found = command_fingerprints("python score.py . / --model=model --words words {hypotheses} {scores} " + "x" * 300)
    assert [one["name"] for one in found] == ["score.py", "model", "words"]
    (tmp_path / "score.py").write_text("corrected")
    assert [one != now for one, now in zip(found, command_fingerprints("score.py model words"))] == [
        True,
        False,
        False,
    ]


def test_a_command_that_fails_is_told_with_its_key(scorer, tmp_path):
    (tmp_path / "metric.py").write_text("import sys; sys.exit('no model here')")
    with pytest.raises(DataError, match=r"(?s)scorers.Words.command ended with exit code 1:.*no model here"):
        scores_by_command("Words", scorer, ["s"], ["a"], {"one": ["a"]})


def test_a_command_that_cannot_run_is_refused():
    _, (problem,) = read_section(ScorerSettings, {"command": "nowhere/python {hypotheses} {scores}"}, "scorers.X")
    assert problem.startswith("scorers.X.command=nowhere/python") and "there is no program" in problem
