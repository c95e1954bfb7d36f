import gzip
import sys
import tracemalloc
from dataclasses import replace

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.pseudo_labels.assemble import Assembly, assemble
from nemo_distill.pseudo_labels.generate import Failure, LabelNoise, Translator, generate
from nemo_distill.pseudo_labels.quality import QualitySettings
from nemo_distill.pseudo_labels.shards import FAILED, MISSING, LabelFolder
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.shard_folder import ShardError
from tests.pseudo_labels.fakes import (
    POLICY,
    CommonLetters,
    contents,
    criteria_of,
    label_folder,
    only,
    run,
    write_source,
)

ALL = only(empty=True, identical=True, unfinished=True, source_cut=True, length_ratio=3.0, duplicates=True)


class Scripted:
    """Translates each line into the hypotheses that stand in a table, the first with the score that stands there."""

    def __init__(self, table):
        self.table = table

    def translate(self, lines, settings):
        return [self._translate(line) for line in lines]

    def _translate(self, line):
        score, *texts = self.table.get(line, (0.0, ""))
        return Translation(tuple(Hypothesis(text, score) for text in texts))


TABLE = {
    "der Hund": (-1.0, "the dog", "a dog", "dogs"),
    "die Katze": (-2.0, "the cat", "a cat", "cats"),
    "der Mann": (-9.0, "the man", "a man", "men"),
    "London": (-1.5, "London"),
    "leer": (-3.0, ""),
    "zwei Zeilen": (-1.2, "two\nlines\u2028here\t."),
}
SOURCE = ["der Hund", "", "die Katze", "der Hund", "London", "leer", "caf\udce9", "der Mann", "zwei Zeilen\r"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "text.de"
    path.write_bytes("".join(f"{line}\n" for line in SOURCE).encode("utf-8", "surrogateescape"))
    return path


@pytest.fixture
def labels(source, tmp_path):
    run([source], tmp_path / "labels", Scripted(TABLE), CommonLetters(), shard_lines=4, chunk_lines=3)
    return label_folder([source], tmp_path / "labels", shard_lines=4)


def lines(path):
    content = path.read_bytes().decode()
    assert content.endswith("\n")
    return content[:-1].split("\n")


def make(labels, source, filters=ALL, references=(None,), overwrite=False, **options):
    keys = ("selection", "metric", "labels_per_source", "label_weights", "quality_metric")
    criteria = {key.removesuffix("_metric"): options.pop(key) for key in keys if key in options}
    assembly = Assembly(labels, references, POLICY, criteria_of(filters, **criteria), **options)
    record = assemble(assembly, overwrite)
    return record, lines(labels.path / f"{assembly.name}.src"), lines(labels.path / f"{assembly.name}.tgt")


def test_pairs_stay_in_the_order_of_the_source_and_drops_are_counted(labels, source):
    record, sources, targets = make(labels, source)
    assert sources == ["der Hund", "die Katze", "der Mann", "zwei Zeilen"]
    assert targets == ["the dog", "the cat", "the man", "two lines here ."]
    assert (record["lines"], record["kept"]) == (9, 4)
    assert record["dropped"] == {
        "duplicates": 1, "empty": 1, "identical": 1, "source_empty": 1, "source_invalid_utf8": 1,
    }  # fmt: skip
    assert record["files"][0] == {"name": "pseudo.src", "sha256": sha256_of(labels.path / "pseudo.src")}


def test_without_filters_only_what_has_no_translation_is_left_out(labels, source):
    record, sources, targets = make(labels, source, only())
    assert record["kept"] == 7 and record["dropped"] == {"source_empty": 1, "source_invalid_utf8": 1}
    assert sources[4] == "leer" and targets[4] == ""


def test_dropped_lines_are_kept_for_reading(labels, source):
    make(labels, source, keep_dropped=True)
    assert lines(labels.path / "pseudo.dropped.tsv") == [
        "source_empty\t2\t0.0000\t\t",
        "duplicates\t4\t-1.0000\tder Hund\tthe dog",
        "identical\t5\t-1.5000\tLondon\tLondon",
        "empty\t6\t-3.0000\tleer\t",
        "source_invalid_utf8\t7\t0.0000\t\t",
    ]


def test_low_scores_are_dropped_at_assembly(labels, source):
    record, sources, _ = make(labels, source, only(empty=True, score_quantile=0.2))
    assert record["dropped"]["score_quantile"] == 1 and "der Mann" not in sources
    assert record["least_kept"] == {"score": -2.0}


def test_pairs_that_the_reverse_model_finds_unlikely_are_dropped(labels, source):
    record, sources, _ = make(labels, source, only(empty=True, reverse_score_quantile=0.2))
    scores = {line: CommonLetters().score([texts[0]], [line])[0] for line, (_, *texts) in TABLE.items() if texts[0]}
    assert set(scores) - set(sources) == {min(scores, key=scores.get)}
    assert record["dropped"]["reverse_score_quantile"] == 1


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_interpolation_takes_the_hypothesis_nearest_to_the_reference(labels, source, tmp_path, metric):
    reference = tmp_path / "text.en"
    references = ["a dog", "", "\0cats", "dogs", "London", "empty", "coffee", "", "two lines"]
    reference.write_text("".join(f"{line}\n" for line in references))
    _, sources, targets = make(labels, source, references=(reference,), selection="interpolation", metric=metric)
    assert list(zip(sources, targets)) == [
        ("der Hund", "a dog"), ("die Katze", "cats"), ("der Hund", "dogs"),
        ("der Mann", "the man"),  # no reference: the one-best
        ("zwei Zeilen", "two lines here ."),
    ]  # fmt: skip


def test_a_reference_that_is_not_parallel_is_refused_and_nothing_is_written(labels, source, tmp_path):
    reference = tmp_path / "text.en"
    reference.write_text("one\ntwo\n")
    before = contents(labels.path)
    with pytest.raises(ValueError, match="text.de' has more lines than .*text.en', which ends after line 2"):
        make(labels, source, references=(reference,))
    assert contents(labels.path) == before


def test_a_source_that_changed_is_refused_with_file_and_line(labels, source):
    source.write_bytes(source.read_bytes().replace(b"die Katze", b"die Tatze"))
    with pytest.raises(ShardError, match="source line 3, '.*text.de' line 3, has changed since it was translated"):
        make(labels, source)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda raw: raw + b"more\n", "source line 10, '.*' line 10, has no row in the shards"),
        (lambda raw: raw[: raw.index(b"\n", 40) + 1], "the shards go on after the last source line"),
    ],
)
def test_a_source_of_another_length_is_refused(labels, source, change, sentence):
    source.write_bytes(change(source.read_bytes()))
    with pytest.raises(ShardError, match=sentence):
        make(labels, source)


def test_a_changed_line_is_named_in_its_own_file(tmp_path):
    parts = [write_source(tmp_path / name, 10, seed) for seed, name in enumerate("ab")]
    run(parts, tmp_path / "labels", shard_lines=8)
    labels = label_folder(parts, tmp_path / "labels", shard_lines=8)
    changed = parts[1].read_bytes().split(b"\n")
    changed[4] = changed[4][::-1] + b"!"
    parts[1].write_bytes(b"\n".join(changed))
    with pytest.raises(ShardError, match="source line 15, '.*/b' line 5, has changed"):
        assemble(Assembly(labels, [None, None], POLICY, criteria_of(only())))


def test_a_shard_that_is_not_the_manifests_is_refused(labels, source):
    path = labels.shard(1)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content.replace(b"the dog", b"the cat")))
    with pytest.raises(ShardError, match="shard-000001.jsonl.gz' does not match its checksum in manifest.json"):
        make(labels, source)


def test_labels_without_a_manifest_are_refused(labels, source):
    labels.manifest_path.unlink()
    with pytest.raises(ShardError, match="has no manifest.json, because not all of its shards are finished"):
        make(labels, source)


def test_the_same_assembly_is_not_made_again_and_another_is_refused(labels, source):
    record, *_ = make(labels, source)
    before = contents(labels.path)
    stamp = (labels.path / "pseudo.src").stat().st_mtime_ns
    assert make(labels, source)[0] == record and (labels.path / "pseudo.src").stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="pseudo.json'.*filters.empty was True and is False"):
        make(labels, source, only())
    assert contents(labels.path) == before
    assert make(labels, source, only(), name="unfiltered")[0]["kept"] == 7
    assert make(labels, source, only(), overwrite=True, keep_dropped=True)[0]["kept"] == 7
    make(labels, source, overwrite=True)
    assert contents(labels.path).keys() - before.keys() == {"unfiltered.json", "unfiltered.src", "unfiltered.tgt"}


def test_text_that_was_deleted_is_written_again(labels, source):
    make(labels, source)
    expected = contents(labels.path)
    (labels.path / "pseudo.tgt").unlink()
    make(labels, source)
    assert contents(labels.path) == expected


def test_an_interrupted_assembly_starts_again_and_ends_with_the_same_bytes(labels, source):
    make(labels, source)
    expected = contents(labels.path)
    (labels.path / "pseudo.json").unlink()
    (labels.path / "pseudo.tgt").write_bytes(b"half")
    (labels.path / ".pseudo.src.0123456789ab.tmp").write_bytes(b"half")
    make(labels, source)
    assert contents(labels.path) == expected


def test_several_workers_write_the_same_bytes(tmp_path):
    path = write_source(tmp_path / "text", 3000)
    run([path], tmp_path / "labels", shard_lines=1000, chunk_lines=500)
    labels = label_folder([path], tmp_path / "labels", shard_lines=1000)
    filters = only(empty=True, unfinished=True, duplicates=True)
    record, *_ = make(labels, path, filters, name="a")
    make(labels, path, filters, name="b", workers=2)
    assert record["kept"] > 1500
    for ending in ("src", "tgt"):
        assert (labels.path / f"a.{ending}").read_bytes() == (labels.path / f"b.{ending}").read_bytes()


def test_memory_does_not_grow_with_the_labels(tmp_path):
    peaks = []
    for count in (500, 4_000):
        path = write_source(tmp_path / f"{count}.de", count)
        run([path], tmp_path / str(count), shard_lines=100, chunk_lines=50)
        labels = label_folder([path], tmp_path / str(count), shard_lines=100)
        criteria = criteria_of(only(empty=True, repetitions=3, score_quantile=0.1))
        tracemalloc.start()
        assemble(Assembly(labels, [None], POLICY, criteria))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_several_labels_of_a_source_stay_together_with_weights(labels, source):
    options = {"selection": "mbr", "metric": "chrf", "labels_per_source": 2, "label_weights": "rank"}
    record, sources, targets = make(labels, source, **options)
    assert sources[:4] == ["der Hund", "der Hund", "die Katze", "die Katze"] and len(set(targets[:2])) == 2
    assert lines(labels.path / "pseudo.weights")[:2] == ["0.666667", "0.333333"]
    assert record["lines"] == 9 and record["kept"] == len(targets) == 7
    assert record["dropped"]["duplicates"] == 2  # both labels of the line that came before
    assert record["selected_by"] == ["chrF"]


@pytest.mark.parametrize("filters", [only(length_ratio=1.5), only(quality_quantile=0.5)])
def test_the_weights_of_a_lines_kept_labels_sum_to_one(tmp_path, filters):
    """A filter of single pairs, and one that knows what it drops only when it has seen all."""
    (tmp_path / "text.de").write_text("der Hund\n")
    teacher = Scripted({"der Hund": (-1.0, "the dog", "the dog is a dog and a dog", "a dog", "the one dog")})
    run([tmp_path / "text.de"], tmp_path / "labels", teacher)
    labels = label_folder([tmp_path / "text.de"], tmp_path / "labels")
    (tmp_path / "scores").write_text("4\n1\n3\n2\n")
    quality = QualitySettings(metric="my", file=str(tmp_path / "scores"))
    options = {"labels_per_source": 4, "label_weights": "rank", "quality": quality}
    _, _, targets = make(labels, tmp_path / "text.de", filters, **options)
    weights = list(map(float, lines(labels.path / "pseudo.weights")))
    assert 1 < len(targets) < 4 and sum(weights) == pytest.approx(1, abs=1e-5)
    assert weights[0] / weights[1] == pytest.approx(3, abs=1e-4)  # ranks 1 and 3


def test_the_record_has_examples_of_what_was_dropped(labels, source):
    record, *_ = make(labels, source)
    assert record["examples"]["identical"] == [{"line": 5, "source": "London", "target": "London"}]
    assert set(record["examples"]) == set(record["dropped"])


class AnotherTeacher(Scripted):
    """Knows two lines, and has the same opinion of the first as the table's second hypothesis."""

    def __init__(self):
        super().__init__({"der Hund": (-1.0, "a dog", "a dog"), "leer": (-1.0, "empty", "empties")})


@pytest.fixture
def more(source, tmp_path):
    run([source], tmp_path / "more", AnotherTeacher(), shard_lines=3, other="settings")
    return LabelFolder.finished(tmp_path / "more", [source])


def test_the_hypotheses_of_several_teachers_choose_by_consensus(labels, source, more):
    _, sources, targets = make(labels, source, more_labels=[more], selection="mbr", metric="chrf")
    assert dict(zip(sources, targets))["der Hund"] == "a dog"
    assert dict(zip(sources, targets))["leer"] == "empties"


def test_a_line_that_only_other_labels_have_read_is_dropped_for_the_reason_of_this_job(labels, source, tmp_path):
    teacher, lenient = Scripted({"caf\ufffd": (-1.0, "coffee")}), replace(POLICY, invalid_utf8="replace")
    run([source], tmp_path / "more", teacher, policy=lenient, other="settings")
    more = LabelFolder.finished(tmp_path / "more", [source])
    record, sources, targets = make(labels, source, more_labels=[more])
    assert record["dropped"]["source_invalid_utf8"] == 1 and "" not in sources and "coffee" not in targets


def test_labels_of_another_source_or_unfinished_ones_are_not_added(source, tmp_path):
    with pytest.raises(ValueError, match="nowhere' holds no finished labels"):
        LabelFolder.finished(tmp_path / "nowhere", [source])
    other = write_source(tmp_path / "other.de", 5)
    run([other], tmp_path / "others")
    with pytest.raises(ValueError, match="others' holds labels of other source files"):
        LabelFolder.finished(tmp_path / "others", [source])


def test_scores_of_a_file_choose_and_drop(labels, source, tmp_path):
    make(labels, source, keep_hypotheses=True, name="all")
    hypotheses = lines(labels.path / "all.hypotheses.tsv")
    assert hypotheses[:3] == ["der Hund\tthe dog", "der Hund\ta dog", "der Hund\tdogs"]
    (tmp_path / "scores").write_text("".join(f"{len(line)}\n" for line in hypotheses))  # the shortest is the best
    quality = QualitySettings(metric="brevity", file=str(tmp_path / "scores"), lower_is_better=True)
    filters = only(empty=True, quality_quantile=0.2)
    chosen = {"selection": "quality", "quality_metric": "brevity", "quality": quality}
    record, sources, targets = make(labels, source, filters, **chosen)
    assert dict(zip(sources, targets)) == {
        "der Hund": "dogs", "die Katze": "cats", "London": "London", "der Mann": "men",
    }  # fmt: skip
    assert record["dropped"]["quality_quantile"] == 1 and record["selected_by"] == ["brevity"]
    (tmp_path / "scores").write_text("1\n")
    with pytest.raises(ValueError, match="ends before source line 1"):
        make(labels, source, filters, **chosen, name="short")


def test_text_selected_by_the_teachers_own_scores_is_made_again_if_their_metric_has_another_name(labels, source):
    assert make(labels, source, selection="quality", quality_metric="one")[0]["selected_by"] == ["one"]
    with pytest.raises(DataError, match="quality was one"):
        make(labels, source, selection="quality", quality_metric="other")
    record, *_ = make(labels, source, selection="quality", quality_metric="other", overwrite=True)
    assert record["selected_by"] == ["other"]


def test_a_command_whose_script_was_corrected_scores_again(labels, source, tmp_path):
    script = tmp_path / "score.py"
    command = f"{sys.executable} {script} {{hypotheses}} {{scores}}"
    quality = QualitySettings(metric="length", command=command)
    chosen = {"selection": "quality", "quality_metric": "length", "quality": quality}
    count = "import sys; open(sys.argv[2], 'w').writelines(f'{%slen(line)}\\n' for line in open(sys.argv[1]))"
    script.write_text(count % "")
    assert make(labels, source, **chosen)[2][0] == "the dog"
    script.write_text(count % "-")
    with pytest.raises(DataError, match=r"quality\.files was .*score\.py"):
        make(labels, source, **chosen)
    assert make(labels, source, **chosen, overwrite=True)[2][0] == "dogs"


def test_lines_whose_hypotheses_disagree_are_dropped(labels, source):
    record, sources, _ = make(labels, source, only(empty=True, consensus_quantile=0.3), metric="chrf")
    assert record["dropped"]["consensus_quantile"] == 1 and "der Mann" not in sources  # "men" is no "man"
    assert record["selected_by"] == ["chrF"]


def test_a_line_that_every_teacher_failed_at_is_counted_by_its_reason(source, tmp_path):
    def translate(first_line, texts):
        return [Failure(FAILED) if "Hund" in text else Failure(MISSING) for text in texts]

    labels = label_folder([source], tmp_path / "labels", shard_lines=4)
    manifest = generate(labels, 4, 7, lambda: Translator(translate, POLICY))
    assert manifest["counts"] == {"empty": 1, "invalid_utf8": 1, "missing": 5, "failed": 2}
    record = assemble(Assembly(labels, [None], POLICY, criteria_of(only())))
    assert record["dropped"]["teacher_failed"] == 2 and record["dropped"]["teacher_missing"] == 5


def test_the_noise_that_the_teacher_read_is_written_or_the_clean_source(tmp_path):
    source = write_source(tmp_path / "text.de", 40)
    noise = LabelNoise(typing=0.5, case=0.3, seed=3)
    folders = []
    for name, chunk_lines in (("once", 40), ("again", 7)):
        run([source], tmp_path / name, chunk_lines=chunk_lines, shard_lines=20, noise=noise)
        folders.append(label_folder([source], tmp_path / name))
    assert contents(folders[0].shards) == contents(folders[1].shards)  # a line's noise depends on its number alone
    _, noised, targets = make(folders[0], source, only(), noise=noise)
    assert targets == [line.upper() for line in noised]  # as the teacher translates
    clean = LabelNoise(typing=0.5, case=0.3, seed=3, written="clean")
    _, plain, same_targets = make(folders[0], source, only(), noise=clean, name="clean")
    assert same_targets == targets and plain != noised
    _, unchanged, _ = make(folders[0], source, only(), name="unchanged")
    assert plain == unchanged
    with pytest.raises(DataError, match="noise.seed was 3 and is 4"):
        make(folders[0], source, only(), noise=LabelNoise(typing=0.5, case=0.3, seed=4))


def test_another_seed_gives_other_noise_and_no_noise_none():
    lines = [f"der Hund bellt {number} mal" for number in range(40)]
    made = [
        [LabelNoise(typing=0.3, seed=seed).of_line(number, line) for number, line in enumerate(lines)]
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2] and made[0] != lines
    assert LabelNoise().of_line(1, "zwei  Leerzeichen") == "zwei  Leerzeichen"


@pytest.mark.parametrize("key", [{"seed": 1}, {"written": "clean"}])
def test_a_key_of_noise_without_noise_is_refused(key):
    ((name, value),) = key.items()
    (problem,) = read_section(LabelNoise, key, "noise")[1]
    assert problem.startswith(f"noise.{name}={value} ")
    assert read_section(LabelNoise, {**key, "emoji": 0.1}, "noise")[1] == []
