import pytest

from nemo_distill.evaluation import evaluation_tables
from nemo_distill.evaluation.differences import difference_table
from nemo_distill.evaluation.evaluation_tables import (
    as_csv,
    as_markdown,
    cost_table,
    group_spreads,
    group_table,
    table,
)
from nemo_distill.evaluation.findings import findings, notes
from tests.evaluation.fakes import RECORD, SET, SYSTEM


def score(value, metric="BLEU"):
    return {metric: {"value": value, "signature": f"{metric.lower()}|sig"}}


def system(parameters):
    speed = {
        "sentences_per_second": 12.34, "tokens_per_second": 120.0, "latency_ms_median": 80.0, "latency_ms_p95": 99.0,
        "peak_memory_mb": 512.0,
    }  # fmt: skip
    return SYSTEM | {
        "precision": "float32", "beam_size": 4, "parameters": parameters, "parameters_without_embeddings": 7,
        "bytes": 1_500_000, "compression": parameters and 1000 / parameters, "group": "x", "speed": speed,
    }  # fmt: skip


def evaluation(**student):
    comparison = {
        "system": "student", "baseline": "teacher", "metric": "BLEU", "difference": -0.5, "p_value": 0.2,
        "test": "approximate_randomization", "samples": 10000,
    }  # fmt: skip
    return RECORD | {
        "systems": {
            "teacher": system(1000) | {"group": "teacher"},
            "student": system(100) | {"group": "student"} | student,
        },
        "test_sets": {
            "flickr": SET
            | {"scores": {"teacher": score(40.126), "student": score(39.626)}, "comparisons": [comparison]}
        },
    }


def of_quality(record):
    """The findings, without sizes and speeds."""
    return [said for said in findings(record, tested=True) if said.startswith("flickr: ")]


def test_a_row_holds_quality_beside_size_and_speed():
    columns, rows = table(evaluation())
    row = dict(zip(columns, rows[1]))
    assert row["flickr BLEU"] == "39.63" and row["compression"] == "10.0x" and row["MB"] == "1.5"
    assert row["runs in"] == "PyTorch float32"
    assert row["sentences/s"] == "12.3" and row["parameters"] == "100"


def test_what_is_not_known_is_left_empty_and_what_nobody_has_is_left_out():
    record = evaluation(parameters=None, compression=None, speed=None)
    columns, rows = table(record)
    assert dict(zip(columns, rows[1]))["parameters"] == ""
    record["systems"]["teacher"]["speed"] = None
    assert "tokens/s" not in table(record)[0] and "13a" not in as_markdown(record)
    assert as_csv(record).splitlines()[0].startswith("system,group,seed,runs in,flickr BLEU,")


@pytest.mark.parametrize(("p_value", "verdict"), [(0.2, "not more than chance"), (0.049, "more than chance")])
def test_a_finding_says_whether_a_difference_may_be_chance(p_value, verdict):
    record = evaluation()
    record["test_sets"]["flickr"]["comparisons"][0]["p_value"] = p_value
    (sentence,) = of_quality(record)
    assert sentence == (
        f"flickr: student has -0.50 BLEU against teacher, {verdict} "
        f"(p = {p_value:.4f}, approximate randomization of 10,000)."
    )


def test_no_p_value_is_rounded_to_nothing():
    record = evaluation()
    record["test_sets"]["flickr"]["comparisons"][0]["p_value"] = 0.00001
    assert "(p < 0.0001, " in next(findings(record, tested=True))


def test_seeds_have_a_mean_and_the_standard_deviation_of_a_sample():
    scores = {"a_seed0": score(30.0), "a_seed1": score(32.0), "b": score(40.0)}
    spreads = group_spreads(scores, {"a_seed0": "a", "a_seed1": "a", "b": "b"})
    assert spreads == {"a": {"systems": 2, "BLEU": {"mean": 31.0, "standard_deviation": pytest.approx(2**0.5)}}}


@pytest.mark.parametrize(
    ("scores", "p_values", "said"),
    [
        (
            (39.0, 38.0),
            (0.01, 0.04),
            "-1.50 ± 6.35 BLEU over seeds, not more than chance; over sentences, more than chance",
        ),
        (
            (39.02, 38.98),
            (0.01, 0.3),
            "-1.00 ± 0.25 BLEU over seeds, more than chance; over sentences, not more than chance",
        ),
    ],
)
def test_a_group_is_compared_by_its_spread_and_by_its_worst_seed(scores, p_values, said):
    record = evaluation()
    one, groups = record["test_sets"]["flickr"], ("teacher", "student", "student")
    names = ("teacher", "student_seed0", "student_seed1")
    seeds = (None, 0, 1)
    record["systems"] = {
        name: system(100) | {"group": group, "seed": seed} for name, group, seed in zip(names, groups, seeds)
    }
    one["scores"] = {name: score(value) for name, value in zip(names, (40.0, *scores))}
    one["groups"] = group_spreads(one["scores"], dict(zip(names, groups)))
    one["comparisons"] = [
        one["comparisons"][0] | {"system": name, "p_value": p_value} for name, p_value in zip(names[1:], p_values)
    ]
    assert of_quality(record)[-1] == f"flickr: student against teacher: {said} (largest p = {p_values[1]:.4f})."
    assert "is taken seed by seed" in as_markdown(record)


def of_two_groups(names, scores, comparisons):
    """An evaluation of systems called a_seed0 and so on, or b; a comparison: system, baseline, difference and p."""
    record = evaluation()
    one, groups = record["test_sets"]["flickr"], [name[0] for name in names]
    record["systems"] = {
        name: system(100) | {"group": name[0], "seed": int(name[-1]) if "_seed" in name else None} for name in names
    }
    one["scores"] = {name: score(value) for name, value in zip(names, scores)}
    one["groups"] = group_spreads(one["scores"], dict(zip(names, groups)))
    keys = ("system", "baseline", "difference", "p_value")
    one["comparisons"] = [one["comparisons"][0] | dict(zip(keys, found)) for found in comparisons]
    return record


def test_a_seed_that_a_baseline_was_compared_with_counts_among_its_group():
    comparisons = [("b", "a_seed0", 1.0, 0.01), ("a_seed1", "b", 1.0, 0.01)]
    record = of_two_groups(("a_seed0", "a_seed1", "b"), (39.0, 41.0, 40.0), comparisons)
    assert "a against b: +0.00" in (last := of_quality(record)[-1]) and "(largest p = 1.0000)" in last


def test_several_seeds_of_a_baseline_make_one_comparison_of_groups():
    names, baselines = ("a_seed0", "a_seed1", "b_seed0", "b_seed1"), ("b_seed0", "b_seed1")
    comparisons = [(name, other, 2.0, p) for name, p in zip(names[:2], (0.001, 0.2)) for other in baselines]
    said = list(findings(of_two_groups(names, (42.0, 45.0, 40.0, 43.0), comparisons), tested=True))
    (sentence,) = [sentence for sentence in said if "a against b" in sentence]
    assert "+2.00 ± 0.00 BLEU over seeds, more than chance" in sentence and "p = 0.2000" in sentence


def test_the_p_value_of_a_group_is_of_pairs_of_one_seed():
    names = ("a_seed0", "a_seed1", "b_seed0", "b_seed1")
    p_values = {("a_seed0", "b_seed0"): 0.001, ("a_seed1", "b_seed1"): 0.002}
    comparisons = [(name, other, 2.0, p_values.get((name, other), 0.9)) for name in names[:2] for other in names[2:]]
    said = of_quality(of_two_groups(names, (42.0, 45.0, 40.0, 43.0), comparisons))
    (sentence,) = [one for one in said if "a against b" in one]
    assert sentence.endswith("over sentences, more than chance (largest p = 0.0020).")


def test_groups_without_seeds_in_common_are_compared_by_their_sentences_alone():
    comparisons = [(name, "b_seed5", 2.0, 0.01) for name in ("a_seed0", "a_seed1")]
    record = of_two_groups(("a_seed0", "a_seed1", "b_seed5"), (42.0, 45.0, 40.0), comparisons)
    said = "a against b: BLEU over seeds: fewer than two of them in common; over sentences, more than chance"
    assert said in of_quality(record)[-1]


def test_a_screen_gets_the_first_score_of_each_set_and_the_file_all():
    record = evaluation()
    for scores in record["test_sets"]["flickr"]["scores"].values():
        scores |= score(55.0, "chrF")
    assert {"flickr BLEU", "flickr chrF", "tokens/s"} < set(table(record)[0])
    brief = group_table(record, brief=True)[0]
    assert "flickr BLEU" in brief and not {"flickr chrF", "tokens/s"} & set(brief)


def test_a_screen_gets_a_row_and_a_sentence_for_all_seeds_of_a_group_and_none_of_exports():
    names = ("b", "a_seed0", "a_seed1", "a_int8_seed0", "a_int8_seed1")
    exports = {"a_int8_seed0": "a_seed0", "a_int8_seed1": "a_seed1"}
    comparisons = [(name, "b", -1.0, 0.01) for name in names[1:]] + [(*pair, 0.0, 1.0) for pair in exports.items()]
    record = of_two_groups(names, (40.0, 39.0, 41.0, 38.0, 42.0), comparisons)
    for name, system in record["systems"].items():
        system |= {"group": name.partition("_seed")[0], "same_model_as": exports.get(name)}
    one = record["test_sets"]["flickr"]
    one["groups"] = group_spreads(one["scores"], {name: system["group"] for name, system in record["systems"].items()})
    columns, rows = group_table(record, brief=True)
    assert [dict(zip(columns, row))["flickr BLEU"] for row in rows] == ["40.00", "40.00 ± 1.41", "40.00 ± 2.83"]
    assert [row[:2] for row in rows] == [["b", "1"], ["a", "2"], ["a_int8", "2"]]
    said = list(findings(record, tested=True))
    assert [one.partition(":")[2].partition(":")[0].strip() for one in said] == ["a against b", "a_int8 against a"]
    assert len(difference_table(record)[1]) > len(said)


def test_a_row_of_several_seeds_has_the_means_of_their_sizes_and_speeds():
    record = of_two_groups(("a_seed0", "a_seed1", "b_seed0"), (40.0, 39.0, 41.0), [])
    for name, megabytes, speed in (("a_seed0", 1, 10.0), ("a_seed1", 2, 30.0), ("b_seed0", 3, 50.0)):
        system = record["systems"][name]
        system |= {"group": name[0], "bytes": megabytes * 10**6, "speed": dict.fromkeys(system["speed"], speed)}
    columns, rows = group_table(record)
    shown = [dict(zip(columns, row)) for row in rows]
    assert [row["MB"] for row in shown] == ["1.5", "3.0"]
    for column in evaluation_tables.SPEED_COLUMNS.values():
        assert [row[column] for row in shown] == ["20.0", "50.0"]


@pytest.mark.parametrize(("metric", "is_told"), [("BLEU", False), ("TER", True)])
def test_a_gap_in_points_of_which_less_is_better_is_told_to_be_missing(metric, is_told):
    record = of_two_groups(("t", "a_seed0", "b_seed0"), (40.0, 30.0, 31.0), [("b_seed0", "a_seed0", 1.0, 0.01)])
    for name, role in (("a_seed0", "baseline"), ("b_seed0", "distilled")):
        record["systems"][name]["role"] = role
    record["test_sets"]["flickr"]["comparisons"][0]["metric"] = metric
    assert any(
        note.startswith("Gap closed: not computed, because it is a share of TER") for note in notes(record)
    ) is (is_told)


def test_many_comparisons_are_warned_of():
    record = evaluation()
    assert "Each p-value is for one comparison" not in as_markdown(record)
    record["test_sets"]["flickr"]["comparisons"] *= 20
    assert "Of 20 comparisons of equal systems, 1.0 would have p < 0.05" in as_markdown(record)


def test_markdown_holds_the_signatures_and_says_that_comet_is_missing():
    text = as_markdown(evaluation())
    assert "- BLEU: `bleu|sig`" in text and "COMET: not computed" in text and "2 thread(s) on cpu: small" in text


def training(steps, seconds=63.4, **more):
    return {"training": {"steps": steps, "seconds": seconds, **more}}


def test_the_costs_of_a_training_are_told_as_far_as_they_are_known():
    student = training(4536, target_tokens=9_290_000, tokens_in_batch=4096, preparation_seconds=3725.0)
    columns, rows = cost_table(evaluation(label_smoothing=0.0, **student))
    assert columns == ["system", "steps", "target tokens", "tokens in a batch", "training, h:mm:ss",
                       "labels and caches, h:mm:ss", "label smoothing"]  # fmt: skip
    assert rows[1] == ["student", "4,536", "9,290,000", "4,096", "0:01:03", "1:02:05", "0"]
    assert rows[0] == ["teacher", *[""] * 6]
    assert cost_table(evaluation()) is None
    columns, _ = cost_table(evaluation(**training(10)))
    assert columns == ["system", "steps", "training, h:mm:ss"]
    assert ",10," in as_csv(evaluation(**training(10))).splitlines()[2]


@pytest.mark.parametrize(("student", "tables"), [({"label_smoothing": 0.1}, 1), (training(10), 2)])
def test_no_table_of_names_alone_is_printed_if_no_training_is_known(student, tables, monkeypatch, tmp_path):
    printed = []
    monkeypatch.setattr(evaluation_tables, "print_table", lambda columns, rows: printed.append(columns))
    evaluation_tables.print_evaluation(evaluation(**student), tmp_path)
    assert len(printed) == tables and all(len(columns) > 1 for columns in printed)


def test_a_row_and_the_sentences_say_that_a_model_of_one_size_was_trained_otherwise():
    record = evaluation(**training(4536), role="distilled", group="student")
    record["systems"]["teacher"] |= training(984) | {"parameters": 100, "role": "baseline", "group": "teacher"}
    for columns, rows in (table(record), group_table(record, brief=True)):
        assert [dict(zip(columns, row))["trained unlike"] for row in rows] == ["student", "teacher"]
    said = of_quality(record)
    assert not any("beat the baseline" in one or "beats" in one for one in said)
    assert "trained differently (4,536 steps against 984)" in said[0]
    assert said[-1].endswith("trained differently (4,536 steps against 984), so this says nothing about the methods.")
    record["systems"]["student"] |= training(984)
    assert "did NOT beat the baseline of its size" in of_quality(record)[0]
    assert "trained unlike" not in table(record)[0]


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"engine": "ctranslate2", "precision": "int8"}, "; this compares CTranslate2 int8 with PyTorch float32."),
        ({"engine": "nemo"}, "; this compares NeMo's own search float32 with PyTorch float32."),
        ({"beam_size": 1}, "this compares PyTorch float32, greedy with PyTorch float32, beam 4."),
    ],
)  # fmt: skip
def test_sizes_and_speeds_are_relative_to_the_teacher_in_the_same_engine_or_it_is_said(student, said):
    record = evaluation(bytes=500_000, group="student", **student)
    record["systems"]["teacher"]["group"] = "teacher"
    record["systems"]["student"]["speed"] = dict.fromkeys(record["systems"]["student"]["speed"], 24.68)
    columns, rows = table(record)
    assert ("faster" in columns) and dict(zip(columns, rows[1]))["faster"] == ("" if student else "2.0x")
    last = list(findings(record))[-1]
    assert last.endswith(said) if said else "Compared with" not in last


def test_of_text_only_nothing_is_measured():
    record = evaluation(engine="text", precision=None, beam_size=None, parameters=None, bytes=None, speed=None,
                        group="student", compression=None)  # fmt: skip
    columns, rows = group_table(record, brief=True)
    row = dict(zip(columns, rows[1]))
    assert row["runs in"] == "only text"
    assert {row[column] for column in ("parameters", "MB", "sentences/s", "ms alone, median")} == {"not measured"}
    assert not any("Compared with" in said for said in findings(record))


def test_of_distilled_systems_it_is_said_whether_they_beat_the_baselines_of_their_size():
    record = of_two_groups(("a_seed0", "b_seed0"), (30.0, 31.0), [])
    assert not of_quality(record)
    for name, role in (("a_seed0", "baseline"), ("b_seed0", "distilled")):
        record["systems"][name]["role"] = role
    (sentence,) = of_quality(record)
    assert sentence == "flickr: b scores more than the baseline of its size: +1.00 BLEU (seed 0 alone, not tested)."
    for scores in record["test_sets"]["flickr"]["scores"].values():
        scores["TER"] = scores.pop("BLEU")
    assert not of_quality(record)  # fewer are better


def test_systems_are_said_to_beat_others_by_the_metric_that_was_tested():
    record = of_two_groups(("a_seed0", "b_seed0"), (30.0, 31.0), [("b_seed0", "a_seed0", 0.1, 0.9)])
    one = record["test_sets"]["flickr"]
    for name, role in (("a_seed0", "baseline"), ("b_seed0", "distilled")):
        record["systems"][name]["role"] = role
        one["scores"][name] |= score(50.0 if role == "baseline" else 50.1, "chrF")
    one["comparisons"][0]["metric"] = "chrF"
    said = (
        "flickr: b does NOT beat the baseline of its size by more than chance: +0.10 chrF (seed 0 alone, p = 0.9000)."
    )
    assert of_quality(record)[0] == said


@pytest.mark.parametrize("tested", [True, False])
def test_nothing_is_beaten_by_more_of_what_is_better_when_lower(tested):
    comparisons = [("b_seed0", "a_seed0", 0.1, 0.01)] if tested else []
    record = of_two_groups(("a_seed0", "b_seed0"), (30.0, 31.0), comparisons)
    one = record["test_sets"]["flickr"] | {"lower_is_better": ["MetricX"]}
    record["test_sets"]["flickr"] = one
    for name, role in (("a_seed0", "baseline"), ("b_seed0", "distilled")):
        record["systems"][name]["role"] = role
        values = one["scores"][name].pop("BLEU")
        one["scores"][name] |= {"TER": values, "MetricX": values}
    for comparison in one["comparisons"]:
        comparison["metric"] = "TER"
    assert not any("baseline" in said for said in of_quality(record))
    for name in one["scores"]:
        one["scores"][name] |= score(40.0 if name.startswith("a") else 45.0, "chrF")
    said = "flickr: b scores more than the baseline of its size: +5.00 chrF (seed 0 alone, not tested)."
    assert of_quality(record)[0] == said


def test_a_score_by_a_metric_that_selected_the_labels_is_marked():
    record = evaluation(selected_by=["bleu", "COMET"])
    columns, rows = table(record)
    assert [row[columns.index("flickr BLEU")] for row in rows] == ["40.13", "39.63†"]
    columns, rows = group_table(record, brief=True)
    assert [row[columns.index("flickr BLEU")] for row in rows] == ["40.13", "39.63†"]
    (sentence,) = of_quality(record)
    assert sentence.startswith("flickr: student has -0.50 BLEU† against teacher")
    assert [note for note in notes(record) if "†" in note] == [
        "† BLEU selected the labels that student learned from. Such a score is often too good: compare these systems "
        "with others by a metric that did not select."
    ]
    assert as_csv(record).splitlines()[2].endswith(',"bleu, COMET"')
    assert "†" not in as_markdown(evaluation(selected_by=["chrF"]))


@pytest.mark.parametrize("brief", [False, True])
def test_a_first_system_with_a_role_is_not_called_a_teacher(brief):
    record = evaluation(role="distilled")
    record["systems"] = {"baseline": record["systems"]["teacher"] | {"role": "baseline"}} | record["systems"]
    del record["systems"]["teacher"]
    (note,) = [note for note in notes(record, brief) if '"Smaller"' in note]
    assert "teacher" not in note and "the first system's model" in note


def test_a_page_has_a_row_for_all_seeds_of_a_model_and_sizes_in_a_table_of_their_own():
    record = of_two_groups(("b", "a_seed0", "a_seed1"), (40.0, 39.0, 41.0), [])
    for name, seconds in (("a_seed0", 60.0), ("a_seed1", 120.0)):
        record["systems"][name] |= training(10, seconds)
    lines = as_markdown(record).splitlines()
    assert "| a | 2 | PyTorch float32 | 40.00 ± 1.41 |" in lines and not any("a_seed" in line for line in lines)
    assert "| system | parameters | without embeddings | compression | MB | smaller |" in " ".join(lines)
    assert "| a | 10 | 0:01:30 |" in lines
