"""Puts the results of an evaluation into sentences: gains, differences and whether they may be chance, and notes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nemo_distill.evaluation.comet import NOT_COMPUTED
from nemo_distill.evaluation.differences import differences, how_tested
from nemo_distill.evaluation.evaluation_record import DISTILLED
from nemo_distill.evaluation.gains import gain_sentences
from nemo_distill.evaluation.likeness import (
    MARK,
    Systems,
    compared_with,
    factor_sentence,
    first_of,
    groups_of,
    has_teacher,
    kind,
    marked,
    selected_labels,
)
from nemo_distill.evaluation.verdict import shown_share
from nemo_distill.metrics.scores import FEWER_IS_BETTER, METRICS
from nemo_distill.metrics.significance import CHANCE, CONFIDENCE, RESAMPLES

UNITS = (
    "BLEU, spBLEU, chrF and chrF++ range from 0 to 100; more is better. TER is edits per 100 reference words; less is "
    "better."
)
SEEDS = f"""\
A mean over seeds is followed by ± and the standard deviation; evaluation.csv has the scores of each seed. A difference
between groups of seeds is taken seed by seed, and is followed by ± and the {CONFIDENCE:.0%} confidence interval by
Student's t. A p-value is about the choice of sentences, for one seed. For a group it is the largest of its seeds, or 1
if the seeds differ in direction."""
TESTED = f"""\
A difference in bold is more than chance: over seeds where two or more were compared, else over sentences
(p < {CHANCE}, {{tests}})."""
GAPS = f"""\
Gap closed is (student - baseline) / (teacher - baseline): at 0 % the student is as good as the baseline of its size,
at 100 % as good as the teacher. In brackets is the {CONFIDENCE:.0%} confidence interval: with three seeds or more, by
Student's t of the seeds' shares; with one seed, by paired bootstrap over the sentences ({RESAMPLES:,} resamples). With
two seeds, the shares of both are in brackets. It is not given where the teacher is not better than the baseline by
more than chance."""
NO_GAP = """\
Gap closed: not computed, because it is a share of {0}, of which less is better. Put another metric first in
significance.metrics."""
FIRST_REFERENCE = (
    "Of several references, COMET and commands read the first; sacrebleu's metrics and failures read all."
)
NO_ROLES = """\
Gap closed: not computed, because no system has the role distilled. Say which systems are baselines and which are
distilled, such as '+models.student={model: student.nemo, role: distilled}'."""
ALIKE = """\
"Smaller" (MB) and "faster" (sentences/s) are relative to the first system's model in the same engine and precision and
with the same beam size. They are empty where it did not run so. "Compression" is relative to its parameters."""
MEASURED = """\
Sentences/s and tokens/s are for many sentences together; "ms alone" is for one sentence at a time. Each system ran in
a process of its own, with {threads} thread(s) on {device}, and the systems took turns. Of several seeds, the first was
timed. CTranslate2 translates one batch per thread, so one sentence alone uses one thread. Tokens are counted as BLEU
counts them. "Peak MB" is the main memory of the process, including libraries. MB are megabytes on disk."""
# What a screen shows of these notes.
BRIEF_GAPS = f"""\
"Gap closed": at 0 % a student is as good as the baseline of its size, at 100 % as good as the teacher. In brackets:
the {CONFIDENCE:.0%} confidence interval, or the values of two seeds."""
BRIEF_ALIKE = """\
"Smaller" and "faster": compared with the first system's model in the same engine and precision. Empty: it did not run
there."""
BRIEF_SEEDS = f"""\
"±" in the table is the standard deviation over seeds. "±" in a finding is the {CONFIDENCE:.0%} confidence interval
of a difference over seeds. "p" is about the choice of sentences; it is the largest p of all seeds."""
BRIEF_MEASURED = """\
"Sentences/s": many sentences together. "ms alone": one sentence at a time. Both with {threads} thread(s) on
{device}."""


def findings(evaluation: Mapping[str, Any], tested: bool = False) -> Iterator[str]:
    """Yields what distilled groups gain over the baselines of their size, which share of the gap they close, and how
    much smaller and faster they are than what does not run alike.

    Args:
        evaluation: the content of `evaluation.json`.
        tested: also how large each difference is and whether it may be chance, of exports only from what was exported.
            A page has these in `difference_table`.
    """
    systems = evaluation["systems"]
    for set_name, one in evaluation["test_sets"].items():
        said: list[str] = []
        # By the metric that was tested, if more of it is better.
        metrics = [*(found["metric"] for found in one["comparisons"]), *metrics_of(one)]
        fewer = {*FEWER_IS_BETTER, *one["lower_is_better"]}
        for metric in [metric for metric in metrics if metric not in fewer][:1]:
            said += gain_sentences(evaluation, set_name, metric)
        said += gap_sentences(evaluation, set_name)
        if tested:
            said += [difference.sentence for difference in differences(evaluation, set_name) if difference.of_models]
        yield from (f"{set_name}: {sentence}" for sentence in said)
    for group in groups_of(systems):
        if (other := compared_with(systems, group)) and kind(systems, group) != kind(systems, other):
            yield from filter(None, [factor_sentence(systems, group, other)])


def gap_sentences(evaluation: Mapping[str, Any], set_name: str) -> Iterator[str]:
    """Says which share of the gap to the teacher each distilled group closes, or why that is not given.

    The share of an export is in the table.
    """
    for group, gap in evaluation["test_sets"][set_name]["gaps"].items():
        if first_of(evaluation["systems"], group)["same_model_as"]:
            continue
        if gap["closed"]:
            over = "over sentences" if gap["closed"]["over"] == "sentences" else f"over {gap['closed']['seeds']} seeds"
            yield (
                f"{group} closes {shown_share(gap['closed'])}, {over}, of the "
                f"{marked(gap['metric'], evaluation['systems'], gap['metric'], group)} gap between "
                f"{gap['baseline']} and {gap['teacher']}."
            )
        else:
            yield f"The gap that {group} closes is not given: {gap['reason']}."


def notes(evaluation: Mapping[str, Any], brief: bool = False) -> Iterator[str]:
    """Yields explanations of the numbers: signatures, and how speed was measured.

    Args:
        evaluation: the content of `evaluation.json`.
        brief: only about the table and the findings that a screen shows, each to be understood by itself.
    """
    systems, sets = evaluation["systems"], evaluation["test_sets"].values()
    metrics = metrics_of(next(iter(sets)))
    if any(one["gaps"] for one in sets):
        yield BRIEF_GAPS if brief else GAPS
    elif not any(system["role"] == DISTILLED for system in systems.values()):
        yield NO_ROLES
    elif has_teacher(systems) and any(one["comparisons"] for one in sets):
        (tested, *_) = (comparison["metric"] for one in sets for comparison in one["comparisons"])
        if tested in FEWER_IS_BETTER:
            yield NO_GAP.format(tested)
    if any(compared_with(systems, group) for group in groups_of(systems)[1:]):
        yield BRIEF_ALIKE if brief else ALIKE
    yield from mark_notes(systems, metrics[:1] if brief else metrics)
    yield from seen_notes(evaluation)
    yield from evaluation["notes"]
    if not brief:
        yield from _score_notes(evaluation, metrics)
    if any(one["groups"] for one in sets):
        yield BRIEF_SEEDS if brief else SEEDS
    if any(system["speed"] for system in systems.values()):
        made = evaluation["made_with"]
        measured = BRIEF_MEASURED if brief else MEASURED
        yield measured.format(threads=made["threads"], device=made["device"])


def _score_notes(evaluation: Mapping[str, Any], metrics: Sequence[str]) -> Iterator[str]:
    """Yields how the scores were computed, and what their comparisons mean."""
    sets = evaluation["test_sets"].values()
    yield UNITS
    for metric in metrics:
        signatures = (scores[metric]["signature"] for one in sets for scores in one["scores"].values())
        yield from (f"{metric}: `{signature}`" for signature in dict.fromkeys(signatures))
    if "COMET" not in metrics:
        yield NOT_COMPUTED
    if any(one["references"] > 1 for one in sets):
        yield FIRST_REFERENCE
    compared = [found for one in sets for found in one["comparisons"]]
    if compared:
        yield TESTED.format(tests=" and ".join(dict.fromkeys(map(how_tested, compared))))
    if len(compared) > 1:
        expected = f"{len(compared) * CHANCE:.1f} would have p < {CHANCE}"
        yield f"Each p-value is for one comparison. Of {len(compared)} comparisons of equal systems, {expected}."


def mark_notes(systems: Systems, metrics: Iterable[str]) -> Iterator[str]:
    """Explains `MARK` for each metric that has it."""
    for metric in metrics:
        if groups := [group for group in groups_of(systems) if selected_labels(systems, metric, group)]:
            yield (
                f"{MARK} {metric} selected the labels that {', '.join(groups)} learned from. Such a score is often "
                f"too good: compare these systems with others by a metric that did not select."
            )


def seen_notes(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yields how many sentences of each test set are also in the training text, if that is known."""
    seen = [
        f"{name} {side} {count:,} of {one['lines']:,}"
        for name, one in evaluation["test_sets"].items()
        for side, count in one.get("seen", {}).items()
    ]
    if seen:
        yield f"Lines that are also in the training text, ignoring case, punctuation and spaces: {', '.join(seen)}."


def shown_spread(metric: str, spread: Mapping[str, float]) -> str:
    """Returns the mean and the standard deviation of a metric over seeds."""
    digits = digits_of(metric)
    return f"{spread['mean']:.{digits}f} ± {spread['standard_deviation']:.{digits}f}"


def digits_of(metric: str) -> int:
    """Returns how many digits behind the point are shown. Scores of other metrics than sacrebleu's may be below 1."""
    return 2 if metric in METRICS else 4


def metrics_of(one: Mapping[str, Any]) -> list[str]:
    """Returns the metrics of a test set's scores, in order."""
    return list(next(iter(one["scores"].values())))
