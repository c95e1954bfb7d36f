import gzip
import hashlib
import json
from dataclasses import replace

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.lines import LinePolicy, normalized
from nemo_distill.text.selected_by import selected_by
from nemo_distill.text.splitting import Pair, Split, _drawn, write_split


@pytest.fixture
def split_of(tmp_path):
    """Returns a function that writes pairs to files and describes a split of them."""

    def described(pairs, held_out, **settings):
        for side, lines in zip(("de", "en"), zip(*pairs)):
            (tmp_path / f"all.{side}").write_text("".join(f"{line}\n" for line in lines))
        sources, targets = [tmp_path / "all.de"], [tmp_path / "all.en"]
        return Split(sources, targets, tmp_path / "data", ("de", "en"), held_out, LinePolicy(), **settings)

    return described


def pairs_of(split, name):
    return list(zip(*(path.read_text().split("\n")[:-1] for path in split.paths(name)), strict=True))


NUMBERED = [(f"Satz {number}.", f"Sentence {number}.") for number in range(500)]


def test_every_pair_is_in_one_set_in_the_order_of_the_text(split_of):
    split = split_of(NUMBERED, {"val": 20, "test": 30})
    record = write_split(split)
    sets = {name: pairs_of(split, name) for name in ("train", "val", "test")}
    assert {name: len(pairs) for name, pairs in sets.items()} == {"train": 450, "val": 20, "test": 30}
    assert record["pairs"] == {"train": 450, "val": 20, "test": 30} and record["left_out"] == {}
    assert sorted(pair for pairs in sets.values() for pair in pairs) == sorted(NUMBERED)
    assert all(pairs == sorted(pairs, key=NUMBERED.index) for pairs in sets.values())
    assert max(NUMBERED.index(pair) for pair in sets["test"]) > 400 and min(map(NUMBERED.index, sets["test"])) < 100


def test_no_pair_to_train_on_has_a_sentence_of_a_held_out_one(split_of):
    pairs = [(f"Satz {number % 100}", f"Sentence {number // 3}") for number in range(600)]
    split = split_of(pairs, {"val": 7, "test": 7}, duplicates=False)
    record = write_split(split)
    train, held_out = pairs_of(split, "train"), pairs_of(split, "val") + pairs_of(split, "test")
    for side in (0, 1):
        sentences = [pair[side] for pair in held_out]
        assert len(set(sentences)) == 14 and not {pair[side] for pair in train} & set(sentences)
    assert record["left_out"] == {"sentence_is_held_out": 600 - 14 - len(train)} and len(train) > 400


def test_all_that_differs_little_from_a_held_out_sentence_is_left_out(split_of):
    alike = [("Guten Tag!", "Hello!"), ("guten  tag", "Good day"), ("Hallo", "hello.")]
    split = split_of([*alike, other := ("Tschüss", "Bye")], {"test": 1})
    record = write_split(split)
    (held_out,) = pairs_of(split, "test")
    left = {alike[0]: [], alike[1]: [alike[2]], alike[2]: [alike[1]]}
    assert pairs_of(split, "train") == [*left[held_out], other]
    assert record["left_out"] == {"sentence_is_held_out": 2 - len(left[held_out])}


def test_too_few_pairs_to_hold_out_are_told_and_nothing_is_written(split_of):
    split = split_of([("ja", f"yes {number}") for number in range(9)], {"val": 1, "test": 2})
    with pytest.raises(
        DataError,
        match="held_out: 3 pairs are asked for, and only 1 of 1 that were drawn, of different sources, share no",
    ):
        write_split(split)
    assert not split.output.exists()


def test_a_split_that_leaves_nothing_to_train_on_is_told_and_not_written(split_of):
    pairs = [("eins", "one"), ("zwei", "two"), ("Zwei", "Two!")]
    split = split_of(pairs, {"val": 1, "test": 1})
    with pytest.raises(DataError, match="held_out: all 2 pairs are held out.* none is left .* 1 sentence is held out"):
        write_split(split)
    assert not any(path.exists() for path in (*split.texts, split.work.finished_path))


def test_why_no_pair_can_be_held_out_is_told(split_of):
    split = split_of([("\r".join("a" * 60 for _ in range(100)), "All sentences in one line."), ("", "")], {"val": 1})
    with pytest.raises(DataError, match="share no sentence .*; left out .* 1 source over long, 1 source empty$"):
        write_split(split)


def test_pairs_are_held_out_of_text_with_many_repetitions(split_of):
    repeated = [pair for pair in NUMBERED for _ in range(50)]
    split = split_of(repeated, {"val": 100, "test": 100})
    assert write_split(split)["pairs"] == {"train": len(NUMBERED) - 200, "val": 100, "test": 100}


@pytest.mark.parametrize("seed", [0, 1])
def test_those_of_the_lowest_hashes_are_drawn_each_once(seed):
    def digest(text):
        return hashlib.blake2b(f"{seed}\t{text}".encode(), digest_size=8).digest()

    variants = ["Satz {}.", "satz {}", "SATZ {}!"]
    pairs = [Pair(number, variants[number % 3].format(number % 400), "") for number in range(2000)]
    lowest = sorted((f"satz{number}" for number in range(400)), key=digest)[:10]
    first = [next(pair for pair in pairs if normalized(pair.source) == text) for text in lowest]
    assert _drawn(iter(pairs), 10, seed) == first


def test_the_metrics_that_selected_the_labels_are_handed_on(split_of):
    split = split_of(NUMBERED, {"test": 5})
    target = split.targets[0].rename(split.targets[0].with_suffix(".tgt"))
    split = replace(split, targets=[target])
    write_json(target.with_suffix(".json"), {"selected_by": ["chrF"], "files": [fingerprint(target)]})
    assert write_split(split)["selected_by"] == ["chrF"]
    assert [selected_by([path]) for path in split.paths("train")] == [[], ["chrF"]]
    split.paths("train")[1].write_text("other\n")
    assert selected_by([split.paths("train")[1]]) == []


def test_what_cannot_be_used_is_counted_by_its_reason(split_of, tmp_path):
    (tmp_path / "public.en").write_text("\nsentence  3\n")
    odd = [("", "Empty."), ("Leer.", " "), ("Vier Worte sind es", "Four words"), NUMBERED[5], NUMBERED[5]]
    split = split_of([*NUMBERED, *odd], {"test": 5}, unseen=[tmp_path / "public.en"], max_words=3)
    record = write_split(split)
    reasons = {"source_empty": 1, "target_empty": 1, "too_many_words": 1, "unseen": 1}
    assert record["left_out"] == {**reasons, "duplicates": 2}
    assert not [pair for name in ("train", "test") for pair in pairs_of(split, name) if pair == NUMBERED[3]]
    assert sum(record["pairs"].values()) == len(NUMBERED) - 1


def test_in_text_without_spaces_two_characters_count_as_a_word(split_of):
    pairs = [
        ("彼は学生です。", "He is a student."),
        ("彼はとても良い学生です。", "He is a good student."),
        ("はい", "Yes, he is a student."),
    ]
    split = split_of(pairs, {}, max_words=4)
    assert write_split(split)["left_out"] == {"too_many_words": 2} and pairs_of(split, "train") == pairs[:1]


def test_repetitions_stay_if_they_are_wanted(split_of):
    split = split_of([("a", "b"), ("a", "b"), ("c", "d")], {}, duplicates=False)
    assert write_split(split)["left_out"] == {} and len(pairs_of(split, "train")) == 3


def test_the_seed_decides_and_nothing_else(split_of, tmp_path):
    drawn = []
    for seed in (0, 0, 1):
        split = split_of(NUMBERED, {"test": 20}, seed=seed)
        write_split(split, overwrite=True)
        drawn.append(pairs_of(split, "test"))
    assert drawn[0] == drawn[1] != drawn[2]


def test_packed_text_of_several_files_is_split_alike(split_of, tmp_path):
    split = split_of(NUMBERED, {"test": 20})
    write_split(split)
    parts = {"sources": [], "targets": []}
    for side, name in enumerate(parts):
        for number, part in enumerate((NUMBERED[:200], NUMBERED[200:])):
            path = tmp_path / f"{name}.{number}.gz"
            path.write_bytes(gzip.compress("".join(f"{pair[side]}\n" for pair in part).encode()))
            parts[name].append(path)
    packed = Split(
        **parts, output=tmp_path / "packed", endings=("de", "en"), held_out={"test": 20}, policy=LinePolicy()
    )
    write_split(packed)
    assert pairs_of(packed, "test") == pairs_of(split, "test") and pairs_of(packed, "train") == pairs_of(
        split, "train"
    )


def test_a_finished_split_is_kept_and_another_one_is_not_replaced_unasked(split_of):
    split = split_of(NUMBERED, {"test": 20})
    record = write_split(split)
    changed = [path.stat().st_mtime_ns for path in split.texts]
    assert write_split(split) == record == json.loads((split.output / "split.json").read_text())
    assert [path.stat().st_mtime_ns for path in split.texts] == changed
    other = split_of(NUMBERED, {"test": 21})
    with pytest.raises(DataError, match="held_out.test was 20 and is 21"):
        write_split(other)
    assert len(pairs_of(split, "test")) == 20
    write_split(other, overwrite=True)
    assert len(pairs_of(other, "test")) == 21


def test_sets_of_a_split_that_is_replaced_do_not_stay(split_of):
    write_split(split_of(NUMBERED, {"val": 5, "tuning": 5}))
    split = split_of(NUMBERED, {"val": 5})
    write_split(split, overwrite=True)
    names = {"train.de", "train.en", "val.de", "val.en", "split.json", ".split.lock"}
    assert {path.name for path in split.output.iterdir()} == names


def test_progress_ends_at_its_end(split_of):
    seen = []
    write_split(split_of(NUMBERED, {"test": 20}), on_line=lambda line, lines: seen.append((line, lines)))
    assert seen == [(line, 1000) for line in range(1, 1001)]
