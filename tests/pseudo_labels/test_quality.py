import sys

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.metrics.line_scores import read_scores
from nemo_distill.pseudo_labels import quality
from nemo_distill.pseudo_labels.quality import QualitySettings, score_files, with_scores
from nemo_distill.pseudo_labels.selection import Candidate
from nemo_distill.pseudo_labels.shards import Row

# A metric of a few lines: the length of a hypothesis. It notes each run in a file beside it.
METRIC = """
import sys
from pathlib import Path
given, scores = sys.argv[1:]
with open(Path(__file__).with_name("runs"), "a") as runs:
    runs.write("x")
lines = [line.rstrip("\\n").split("\\t") for line in open(given, encoding="utf-8")]
Path(scores).write_text("".join(f"{len(hypothesis)}\\n" for source, hypothesis in lines))
"""


@pytest.fixture
def metric(tmp_path):
    (tmp_path / "metric.py").write_text(METRIC)
    return f"{sys.executable} {tmp_path}/metric.py {{hypotheses}} {{scores}}"


def candidates(*lines):
    for number, texts in enumerate(lines, start=1):
        yield Candidate(f"line\u00a0{number}", [Row(number, "", tuple(Hypothesis(text, 0.0) for text in texts))])


LINES = [("a", "bbb"), (), ("c\td\n",), ("ee", "f", "ggg")]


def scored(command, folder, *lines):
    paths = score_files(command, folder, lambda: candidates(*lines))
    return [one.qualities for one in with_scores(candidates(*lines), read_scores(paths), "scores")]


def test_a_command_scores_all_hypotheses_in_parts_and_none_twice(metric, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "PART", 3)
    assert scored(metric, tmp_path / "scores", *LINES) == [[1, 3], [], [3], [2, 1, 3]]
    assert (tmp_path / "runs").read_text() == "xx"
    (tmp_path / "scores" / "part-000000.txt").unlink()
    assert scored(metric, tmp_path / "scores", *LINES)[0] == [1, 3]
    assert (tmp_path / "runs").read_text() == "xxx"


def test_a_command_is_not_run_for_a_part_without_hypotheses(metric, tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "PART", 2)
    assert scored(metric, tmp_path / "scores", (), (), ("a",)) == [[], [], [1]]
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("import sys; sys.exit('no model here')", "ended with exit code 1:\nno model here"),
        ("pass", "wrote no {scores}"),
        ("import sys; open(sys.argv[2], 'w').write('1\\n')", "wrote 1 scores for 6 hypotheses"),
        ("import sys; open(sys.argv[2], 'w').write('good\\n')", "line 1: 'good' is not a score"),
        ("import sys; open(sys.argv[2], 'w').write('nan\\n')", "line 1: 'nan' is not a score"),
    ],
)
def test_a_command_that_fails_is_told_and_leaves_no_scores(tmp_path, program, sentence):
    (tmp_path / "bad.py").write_text(program)
    command = f"{sys.executable} {tmp_path}/bad.py {{hypotheses}} {{scores}}"
    with pytest.raises(DataError) as error:
        scored(command, tmp_path / "scores", *LINES)
    assert sentence in str(error.value) and not list((tmp_path / "scores").iterdir())


@pytest.mark.parametrize(("numbers", "word"), [("1\n2\n", "ends before source line 3"), ("1\n" * 7, "goes on after")])
def test_a_file_with_other_than_one_score_per_hypothesis_is_refused(tmp_path, numbers, word):
    (tmp_path / "scores").write_text(numbers)
    with pytest.raises(DataError, match=f"the file {word}"):
        list(with_scores(candidates(*LINES), read_scores([tmp_path / "scores"]), "the file"))


def test_where_lower_is_better_the_signs_change(tmp_path):
    (tmp_path / "scores").write_text("1\n-2.5\n")
    assert list(read_scores([tmp_path / "scores"], lower_is_better=True)) == [-1, 2.5]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"command": "python score.py {hypotheses} {scores}"}, "metric has no value; give the name"),
        ({"metric": "COMET", "command": "python score.py"}, "must contain {hypotheses} and {scores}"),
        ({"metric": "COMET", "command": "nowhere/python {hypotheses} {scores}"}, "there is no program 'nowhere/python'"),
        ({"metric": "COMET", "command": "'python {hypotheses} {scores}"}, "cannot be read as a command"),
        ({"metric": "COMET", "file": "nowhere.txt"}, "file names 'nowhere.txt', which does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_told(values, sentence):
    _, problems = read_section(QualitySettings, values, "quality")
    assert any(sentence in problem for problem in problems) and all(one.startswith("quality.") for one in problems)
