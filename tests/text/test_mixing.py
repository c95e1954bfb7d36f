import gzip
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import locked
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.records import read_json
from nemo_distill.text import mixing
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.mixing import Corpus, Mix, choose, plan_lines, write_mix

POLICY = LinePolicy(max_characters=50, invalid_utf8="skip", control_characters="clean")


def write_pairs(folder, name, count):
    """Writes pairs that say which corpus and which line they are."""
    for side in ("src", "tgt"):
        (folder / f"{name}.{side}").write_text("".join(f"{name} {side} {number}\n" for number in range(count)))
    return [folder / f"{name}.src"], [folder / f"{name}.tgt"]


@pytest.fixture
def corpus(tmp_path):
    def make(name, count, share, fraction=1.0):
        return Corpus(*write_pairs(tmp_path, name, count), share, fraction)

    return make


def read_mix(mix):
    """The pairs of a mix, each as its corpus and its number; the two sides must agree."""
    sides = [[line.split() for line in mix.path(ending).read_text().split("\n")[:-1]] for ending in ("src", "tgt")]
    assert [(name, number) for name, _, number in sides[0]] == [(name, number) for name, _, number in sides[1]]
    return [(name, int(number)) for name, _, number in sides[0]]


def make_mix(tmp_path, corpora, name="mixed", **options):
    mix = Mix(corpora, tmp_path / name, POLICY, **options)
    return write_mix(mix), read_mix(mix)


@pytest.mark.parametrize("share", [0.1, 0.34, 0.66, 0.9])
def test_the_studys_shares_hold_exactly_and_every_pair_is_there(tmp_path, corpus, share):
    """L = (1-a) NLL(y) + a NLL(ŷ) over as many real as pseudo-labelled pairs."""
    pairs = 300
    corpora = {"real": corpus("real", pairs, 1 - share), "pseudo": corpus("pseudo", pairs, share)}
    record, mixed = make_mix(tmp_path, corpora)
    counts = Counter(name for name, _ in mixed)
    assert counts["pseudo"] == pytest.approx(share * len(mixed), abs=1)
    for name in corpora:
        times = Counter(number for of, number in mixed if of == name)
        assert len(times) == pairs and max(times.values()) - min(times.values()) <= 1
    assert min(counts.values()) == pairs
    assert record["corpora"]["real"]["lines"] == counts["real"] and record["lines"] == len(mixed)


def test_low_data_is_one_real_pair_in_twenty_and_twice_as_many_pseudo_labels(tmp_path, corpus):
    corpora = {"real": corpus("real", 1000, 1, fraction=0.05), "pseudo": corpus("pseudo", 800, 2)}
    _, mixed = make_mix(tmp_path, corpora, base="real")
    times = Counter(mixed)
    assert Counter(name for name, _ in times) == {"real": 50, "pseudo": 100} and set(times.values()) == {1}


def test_the_seed_chooses_the_same_pairs_in_every_mix(tmp_path, corpus):
    real, pseudo = corpus("real", 1000, 1, fraction=0.05), corpus("pseudo", 800, 2)

    def real_pairs(name, corpora, **options):
        return {pair for pair in make_mix(tmp_path, corpora, name, **options)[1] if pair[0] == "real"}

    alone = real_pairs("alone", {"real": real})
    assert len(alone) == 50
    assert real_pairs("with_pseudo", {"pseudo": pseudo, "real": real}) == alone
    assert real_pairs("other_seed", {"real": real}, seed=1) != alone


def test_a_fraction_gives_the_nearest_number_of_pairs(tmp_path, corpus):
    assert len(make_mix(tmp_path, {"real": corpus("real", 100, 1, fraction=0.29)})[1]) == 29  # 0.29 * 100 < 29


def test_the_chosen_pairs_are_spread_over_the_corpus(tmp_path, corpus):
    _, mixed = make_mix(tmp_path, {"real": corpus("real", 10_000, 1, fraction=0.05)})
    tenths = Counter(number // 1000 for _, number in mixed)
    assert len(mixed) == 500 and min(tenths.values()) > 25 and max(tenths.values()) < 80


class ByWord:
    """A tokenizer that NeMo's loader takes, with one id for words of real text and one for the others."""

    bos_id, eos_id, pad_id = 1, 2, 0

    def text_to_ids(self, text):
        return [7 if word == "r" else 8 for word in text.split()]


def test_nemos_loader_gets_the_proportions_into_every_batch(tmp_path):
    from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import TranslationDataset

    generator = random.Random(0)
    for name in ("real", "pseudo"):
        words = [" ".join([name[0]] * generator.randint(4, 12)) for _ in range(3000)]
        for side in ("src", "tgt"):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{line}\n" for line in words))
    shares = {"real": 1, "pseudo": 3}
    corpora = {name: Corpus([tmp_path / f"{name}.src"], [tmp_path / f"{name}.tgt"], shares[name]) for name in shares}
    mix = Mix(corpora, tmp_path / "mixed", POLICY)
    write_mix(mix)
    data = TranslationDataset(str(mix.path("src")), str(mix.path("tgt")), tokens_in_batch=4000)
    data.batchify(ByWord(), ByWord())
    in_batches = [(batch["src"][:, 1] == 7).mean() for batch in data.batches.values() if len(batch["src"]) > 50]
    assert len(in_batches) > 30
    assert min(in_batches) > 0.15 and max(in_batches) < 0.35


def test_lines_that_no_share_gives_go_to_the_largest_remainders():
    counts = plan_lines({"a": 9, "b": 9, "c": 9, "d": 9}, {"a": 1, "b": 1, "c": 2.8, "d": 5.2}, lines=12)
    assert counts == {"a": 1, "b": 1, "c": 4, "d": 6}  # of 1.2, 1.2, 3.36 and 6.24


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_selection_is_a_part_of_a_larger_one(seed):
    selections = [set(choose(iter(range(200)), count, 200, str(seed))) for count in (1, 7, 8, 100, 199)]
    assert all(smaller < larger for smaller, larger in pairwise(selections))


def test_each_item_is_chosen_equally_often():
    times = Counter(item for seed in range(4000) for item in choose(iter(range(8)), 2, 8, str(seed)))
    assert min(times.values()) > 900 and max(times.values()) < 1100


def test_odd_pairs_are_left_out_and_counted(tmp_path):
    (tmp_path / "s").write_bytes(b"ok\n\ncaf\xe9\nx\ny\r\n" + b"z" * 51 + b"\n")
    (tmp_path / "t.gz").write_bytes(gzip.compress("fine\na\nb\n  \nU+2028\u2028here\nc\n".encode()))
    mix = Mix({"x": Corpus([tmp_path / "s"], [tmp_path / "t.gz"], 1)}, tmp_path / "mixed", POLICY)
    record = write_mix(mix)
    assert mix.path("src").read_bytes() == b"ok\ny\n"
    assert mix.path("tgt").read_bytes() == b"fine\nU+2028 here\n"
    left_out = {"source_empty": 1, "source_invalid_utf8": 1, "source_over_long": 1, "target_empty": 1}
    assert record["corpora"]["x"] == {"pairs": 2, "used": 2, "lines": 2, "left_out": left_out}


def test_several_files_make_one_corpus(tmp_path):
    first, second = write_pairs(tmp_path, "one", 3), write_pairs(tmp_path, "two", 2)
    corpus = Corpus(first[0] + second[0], first[1] + second[1], 1)
    _, mixed = make_mix(tmp_path, {"x": corpus})
    assert mixed == [("one", 0), ("one", 1), ("one", 2), ("two", 0), ("two", 1)]


def test_files_that_are_not_parallel_are_refused_and_leave_nothing(tmp_path, corpus):
    broken = corpus("real", 10, 1)
    broken.targets[0].write_text("one\n")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="real.src' has more lines than .*real.tgt', which ends after line 1"):
        make_mix(tmp_path, {"real": broken})
    assert sorted(tmp_path.iterdir()) == before


def test_a_corpus_without_a_usable_pair_is_refused(tmp_path):
    for side in "st":
        (tmp_path / side).write_text("\n\n")
    with pytest.raises(ValueError, match="corpora.real has no usable pair"):
        make_mix(tmp_path, {"real": Corpus([tmp_path / "s"], [tmp_path / "t"], 1)})


def test_a_mix_is_made_once_and_another_is_refused(tmp_path, corpus):
    corpora = {"real": corpus("real", 10, 1), "pseudo": corpus("pseudo", 10, 2)}
    record, _ = make_mix(tmp_path, corpora)
    stamp = (tmp_path / "mixed.src").stat().st_mtime_ns
    assert make_mix(tmp_path, corpora)[0] == record == read_json(tmp_path / "mixed.json")
    assert (tmp_path / "mixed.src").stat().st_mtime_ns == stamp
    assert record["files"][0]["sha256"] == sha256_of(tmp_path / "mixed.src")
    other = Mix(corpora, tmp_path / "mixed", POLICY, seed=1)
    with pytest.raises(ValueError, match="mixed.json' was made with other settings: seed was 0 and is 1"):
        write_mix(other)
    assert write_mix(other, overwrite=True)["settings"]["seed"] == 1


def test_a_mix_whose_text_was_deleted_is_made_again(tmp_path, corpus):
    corpora = {"real": corpus("real", 10, 1)}
    record, expected = make_mix(tmp_path, corpora)
    (tmp_path / "mixed.src").unlink()
    assert make_mix(tmp_path, corpora) == (record, expected)


def test_a_mix_that_is_interrupted_in_its_checksums_leaves_nothing(tmp_path, corpus, monkeypatch):
    def interrupt(paths, streams):
        raise KeyboardInterrupt

    real = corpus("real", 10, 1)
    monkeypatch.setattr(mixing, "written_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_mix(tmp_path, {"real": real})
    assert [path.name for path in tmp_path.glob("*mixed*")] == [".mixed.lock"]


def test_an_interrupted_mix_is_made_again(tmp_path, corpus):
    corpora = {"real": corpus("real", 10, 1)}
    _, expected = make_mix(tmp_path, corpora)
    (tmp_path / "mixed.json").unlink()
    (tmp_path / "mixed.src").write_text("half")
    (tmp_path / ".mixed.tgt.0123456789ab.tmp").touch()
    assert make_mix(tmp_path, corpora)[1] == expected
    assert [path.name for path in tmp_path.glob(".*")] == [".mixed.lock"]


def with_weights(corpus, path, weights):
    path.write_text("".join(f"{weight}\n" for weight in weights))
    return replace(corpus, weights=[path])


def test_pairs_occur_in_proportion_to_their_weights_and_shares_hold(tmp_path, corpus):
    weights = [generator.choice([0.1, 0.25, 1, 3]) for generator in [random.Random(0)] for _ in range(200)]
    pseudo = with_weights(corpus("pseudo", 200, 0.5), tmp_path / "weights", weights)
    record, mixed = make_mix(tmp_path, {"real": corpus("real", 100, 0.5), "pseudo": pseudo}, lines=1000)
    times = Counter(number for name, number in mixed if name == "pseudo")
    assert record["corpora"]["pseudo"]["lines"] == times.total() == 500
    for number, weight in enumerate(weights):
        assert abs(times[number] - 500 * weight / sum(weights)) < 1
    numbers = [number for name, number in mixed if name == "pseudo"]
    assert numbers == sorted(numbers)


def test_the_seed_decides_which_of_equal_weights_are_left_out(tmp_path, corpus):
    pseudo = with_weights(corpus("pseudo", 100, 1), tmp_path / "weights", [0.5] * 100)
    mixes = [
        make_mix(tmp_path, {"pseudo": pseudo}, name, lines=30, seed=seed)[1]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert mixes[0] == mixes[1] != mixes[2] and len(set(mixes[0])) == 30


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([1] * 9, "has 9 weights, but there are more pairs"),
        ([1] * 11, "has more weights than there are pairs, 10"),
        ([1] * 9 + ["many"], "line 10: 'many' is not a weight"),
        ([1] * 9 + [-1], "line 10: '-1' is not a weight"),
        ([1] * 9 + ["inf"], "line 10: 'inf' is not a weight"),
        ([0] * 10, "corpora.pseudo.weights are all 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, corpus, weights, sentence):
    pseudo = with_weights(corpus("pseudo", 10, 1), tmp_path / "weights", weights)
    with pytest.raises(ValueError, match=sentence):
        make_mix(tmp_path, {"pseudo": pseudo})


def test_mixes_whose_names_begin_alike_leave_each_others_files_alone(tmp_path, corpus):
    unfinished = [tmp_path / f".{name}.src.0123456789ab.tmp" for name in ("mixed.big", "mixed")]
    for path in unfinished:
        path.touch()
    make_mix(tmp_path, {"a": corpus("a", 3, 1)})
    assert [path.exists() for path in unfinished] == [True, False]


def test_a_mix_that_another_process_writes_is_waited_for(tmp_path, corpus):
    corpora = {"a": corpus("a", 3, 1)}
    with ThreadPoolExecutor() as pool, locked(tmp_path / ".mixed.lock"):
        mixing = pool.submit(make_mix, tmp_path, corpora)
        with pytest.raises(TimeoutError):
            mixing.result(timeout=0.1)
        pool.submit(make_mix, tmp_path, corpora, "other").result()
        assert not (tmp_path / "mixed.src").exists()
    assert mixing.result()[0]["lines"] == 3


def test_weights_for_a_corpus_without_pairs_are_refused(tmp_path, corpus):
    pseudo = with_weights(corpus("pseudo", 0, 1), tmp_path / "weights", [1])
    with pytest.raises(DataError, match="has more weights than there are pairs, 0"):
        make_mix(tmp_path, {"pseudo": pseudo})


def test_weights_for_the_loss_are_written_and_do_not_choose_pairs(tmp_path, corpus):
    weights = [generator.choice([0.1, 0.25, 1, 3]) for generator in [random.Random(0)] for _ in range(200)]
    pseudo = with_weights(corpus("pseudo", 200, 0.5), tmp_path / "weights", weights)
    record, mixed = make_mix(tmp_path, {"pseudo": pseudo, "real": corpus("real", 100, 0.5)}, weighting="loss")
    written = list(map(float, (tmp_path / "mixed.weights").read_text().split()))
    assert Counter(name for name, _ in mixed) == {"pseudo": 200, "real": 200}
    mean = sum(weights) / 200
    for (name, number), weight in zip(mixed, written, strict=True):
        assert weight == pytest.approx(weights[number] / mean if name == "pseudo" else 1, rel=1e-5)
    assert record["files"][2] == {"name": "mixed.weights", "sha256": sha256_of(tmp_path / "mixed.weights")}
    assert record["settings"]["weighting"] == "loss"
    make_mix(tmp_path, {"pseudo": pseudo}, name="other")
    assert (
        not (tmp_path / "other.weights").exists() and "weighting" not in read_json(tmp_path / "other.json")["settings"]
    )


def test_weights_that_are_all_zero_in_the_used_part_are_refused(tmp_path, corpus):
    pseudo = with_weights(corpus("pseudo", 100, 1, fraction=0.01), tmp_path / "weights", [1] + [0] * 99)
    with pytest.raises(DataError, match=r"corpora.pseudo.weights are 0 for all 1 pairs"):
        make_mix(tmp_path, {"pseudo": pseudo}, seed=1)


def test_a_tag_stands_in_front_of_each_source_line(tmp_path, corpus):
    back = replace(corpus("back", 3, 1), tag="<BT>")
    write_mix(mix := Mix({"back": back, "real": corpus("real", 3, 1)}, tmp_path / "mixed", POLICY))
    sources = mix.path("src").read_text().splitlines()
    assert sorted(sources)[:3] == [f"<BT> back src {number}" for number in range(3)]
    assert all(line.startswith(("back tgt", "real tgt")) for line in mix.path("tgt").read_text().splitlines())
    assert mix.settings()["corpora"]["back"]["tag"] == "<BT>" and "tag" not in mix.settings()["corpora"]["real"]
