from nemo_distill.evaluation.differences import difference_table
from tests.evaluation.test_evaluation_tables import evaluation, of_two_groups


def test_a_difference_is_bold_if_it_is_more_than_chance():
    record = evaluation()
    assert difference_table(record) == (
        ["system", "against", "flickr BLEU"],
        [["student", "teacher", "-0.50 (p = 0.2000)"]],
    )
    record["test_sets"]["flickr"]["comparisons"][0]["p_value"] = 0.01
    assert difference_table(record)[1] == [["student", "teacher", "**-0.50** (p = 0.0100)"]]


def test_a_group_has_one_row_which_is_judged_over_seeds():
    comparisons = [("a_seed0", "b", 1.0, 0.4), ("a_seed1", "b", 1.1, 0.3)]
    record = of_two_groups(("a_seed0", "a_seed1", "b"), (41.0, 41.1, 40.0), comparisons)
    assert difference_table(record)[1] == [["a", "b", "**+1.05 ± 0.64** (p = 0.4000)"]]
    record = of_two_groups(("a_seed0", "a_seed1", "b"), (41.0, 43.0, 40.0), comparisons)
    assert difference_table(record)[1] == [["a", "b", "+2.00 ± 12.71 (p = 0.4000)"]]
    record = of_two_groups(("a_seed0", "a_seed1", "a_seed2", "b"), (41.0, 41.0, 43.0, 40.0), comparisons)
    assert difference_table(record)[1] == [["a", "b", "+1.67 ± 2.87 (p = 0.4000)"]]  # the t of 2 degrees is 4.303


def test_a_system_that_was_compared_with_the_seeds_of_a_group_has_a_row_too():
    """There was none, unless something else was compared with that system."""
    comparisons = [("b", "a_seed0", -1.0, 0.4), ("b", "a_seed1", -1.1, 0.3)]
    record = of_two_groups(("a_seed0", "a_seed1", "b"), (41.0, 41.1, 40.0), comparisons)
    assert difference_table(record)[1] == [["a", "b", "**+1.05 ± 0.64** (p = 0.4000)"]]


def test_two_groups_have_one_row_whichever_way_round_their_seeds_were_compared():
    names, scores = ("a_seed0", "a_seed1", "b_seed0", "b_seed1"), (42.0, 45.0, 40.0, 43.0)
    comparisons = [("a_seed0", "b_seed0", 2.0, 0.01), ("b_seed1", "a_seed1", -2.0, 0.2)]
    assert difference_table(of_two_groups(names, scores, comparisons))[1] == [
        ["a", "b", "**+2.00 ± 0.00** (p = 0.2000)"]
    ]


def test_groups_without_seeds_in_common_are_judged_over_sentences():
    comparisons = [(name, "b_seed5", 2.0, 0.01) for name in ("a_seed0", "a_seed1")]
    record = of_two_groups(("a_seed0", "a_seed1", "b_seed5"), (42.0, 45.0, 40.0), comparisons)
    assert difference_table(record)[1] == [["a", "b", "(p = 0.0100)"]]


def test_each_test_set_has_a_column_and_a_pair_that_one_lacks_an_empty_cell():
    record = evaluation(selected_by=["bleu"])
    record["test_sets"]["news"] = record["test_sets"]["flickr"] | {"comparisons": []}
    comparison = record["test_sets"]["flickr"]["comparisons"][0]
    record["test_sets"]["news"]["comparisons"] = [comparison | {"system": "teacher", "baseline": "student"}]
    columns, rows = difference_table(record)
    assert columns == ["system", "against", "flickr BLEU", "news BLEU"]
    assert rows == [
        ["student", "teacher", "-0.50† (p = 0.2000)", ""],
        ["teacher", "student", "", "-0.50† (p = 0.2000)"],
    ]


def test_trainings_that_differ_are_told_beside_their_difference():
    record = evaluation(training={"steps": 20}, parameters=1000)
    record["systems"]["teacher"]["training"] = {"steps": 10}
    columns, rows = difference_table(record)
    assert dict(zip(columns, rows[0]))["trained differently"] == "20 steps against 10"


def test_nothing_tested_makes_no_table():
    record = evaluation()
    record["test_sets"]["flickr"]["comparisons"] = []
    assert difference_table(record)[1] == []
