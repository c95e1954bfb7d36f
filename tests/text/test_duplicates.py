from nemo_distill.text.duplicates import WAITING, Duplicates


def test_only_repetitions_of_both_sides_are_dropped(tmp_path):
    duplicates = Duplicates(tmp_path)
    pairs = [("a", "x"), ("a", "y"), ("a", "x"), ("a\tx", ""), ("a", "x")]
    for line, pair in enumerate(pairs):
        duplicates.see(line, *pair)
    duplicates.close()
    assert [line for line in range(len(pairs)) if duplicates.drops(line)] == [2, 4]
    assert list(tmp_path.iterdir()) == []


def test_repetitions_far_apart_are_found(tmp_path):
    duplicates = Duplicates(tmp_path)
    for line in range(3 * WAITING):
        duplicates.see(line, f"source {line % (2 * WAITING)}", "target")
    duplicates.close()
    assert (
        not duplicates.drops(2 * WAITING - 1) and duplicates.drops(2 * WAITING) and duplicates.drops(3 * WAITING - 1)
    )
