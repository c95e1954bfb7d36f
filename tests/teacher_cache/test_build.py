import numpy as np
import pytest
import torch

from nemo_distill.config.errors import DataError
from nemo_distill.losses.top_k import top_k_of
from nemo_distill.storage.shard_folder import ShardError
from nemo_distill.teacher_cache.build import build
from nemo_distill.teacher_cache.cache import TeacherCache
from nemo_distill.teacher_cache.records import pair_keys
from tests.pseudo_labels.fakes import contents
from tests.teacher_cache.fakes import PAD, VOCAB_SIZE, FakeTeacher, batch_of, build_cache, cache_job, random_pairs


@pytest.fixture
def batches():
    pairs = random_pairs(50, seed=0)
    return [pairs[start : start + 5] for start in range(0, 50, 5)]


def records_of(cache, pairs):
    src_ids, src_mask, _, _, labels = batch_of(pairs)
    return cache.records(pair_keys(src_ids, src_mask, labels, PAD))


@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("float32", 0.0)])
def test_each_pair_has_the_teachers_most_probable_words(tmp_path, batches, dtype, tolerance):
    manifest = build_cache(tmp_path / "cache", batches, dtype=dtype)
    cache = TeacherCache(tmp_path / "cache")
    mixed = [pair for batch in batches for pair in batch][::-7]
    batch = batch_of(mixed)
    log_probs, labels = FakeTeacher([]).log_probs(batch), batch[-1]
    real = labels != PAD
    expected, found = top_k_of(log_probs[real], 8), records_of(cache, mixed)
    assert found["ids"].dtype == np.uint8 and found["rest"].dtype == dtype
    assert found["ids"].tolist() == expected.ids.tolist()
    for field, values in (("log_probs", expected.log_probs), ("rest", expected.rest)):
        np.testing.assert_allclose(found[field], values, rtol=tolerance)
    label_log_probs = log_probs[real].gather(-1, labels[real][:, None])[:, 0]
    np.testing.assert_allclose(found["label"], label_log_probs, rtol=tolerance)
    assert manifest["pairs"] == 50 and manifest["bytes_per_token"] == (8 + 10 * np.dtype(dtype).itemsize)


def test_a_pair_that_came_before_is_not_stored_again(tmp_path, batches):
    teacher = FakeTeacher([batches[0], batches[1] + batches[0][:3], batches[0], [batches[2][0]] * 4])
    manifest = build_cache(tmp_path / "cache", None, teacher, shard_pairs=4)
    assert manifest["pairs"] == 11
    assert teacher.seen == [5, 5, 1]


def test_which_pairs_came_before_is_found_once(tmp_path, batches):
    """It takes a pass over all data, which a job that goes on, and other processes, need not make again."""
    passes = []
    teachers = [FakeTeacher(batches + batches[:2], fail_at) for fail_at in (3, None)]
    for teacher in teachers:
        made = teacher.batches
        teacher.batches = lambda made=made, teacher=teacher: (passes.append(teacher), made())[1]
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "cache", None, teachers[0])
    assert build_cache(tmp_path / "cache", None, teachers[1])["pairs"] == 50
    assert passes == [teachers[0], teachers[0], teachers[1]]
    assert not (tmp_path / "cache" / "repeated.npy").exists()


@pytest.mark.parametrize("fail_at", [0, 1, 3, 7, 9])
def test_an_interrupted_job_goes_on_and_ends_with_the_same_bytes(tmp_path, batches, fail_at):
    build_cache(tmp_path / "whole" / "cache", batches)
    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "cut" / "cache", batches, FakeTeacher(batches, fail_at))
    rest = FakeTeacher(batches)
    build_cache(tmp_path / "cut" / "cache", batches, rest)
    assert len(rest.seen) == 10 - fail_at // 2 * 2  # two batches a shard
    assert contents(tmp_path / "cut" / "cache") == contents(tmp_path / "whole" / "cache")


@pytest.mark.parametrize("name", ["teacher.nemo", "index.keys.npy"])
def test_a_cache_is_not_made_over_a_file_that_is_not_of_one_such_as_its_teacher(tmp_path, batches, name):
    (own := tmp_path / name).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=f"'{own}'"):
            build_cache(tmp_path, batches, overwrite=overwrite)
    assert own.read_text() == "{}"


@pytest.mark.parametrize("lost", ["tokens", "pairs"])
def test_a_shard_without_one_of_its_files_is_made_again(tmp_path, batches, lost):
    """As if the job had been killed between the two files of a shard, or one of them had been damaged and deleted."""
    build_cache(tmp_path / "cache", batches)
    before = contents(tmp_path / "cache")
    (tmp_path / "cache" / "manifest.json").unlink()
    (tmp_path / "cache" / "shards" / f"shard-000002.{lost}.npy").unlink()
    build_cache(tmp_path / "cache", batches)
    assert contents(tmp_path / "cache") == before


def test_several_processes_write_the_bytes_of_one(tmp_path, batches):
    build_cache(tmp_path / "one" / "cache", batches)
    teachers = [FakeTeacher(batches) for _ in range(3)]
    manifests = [
        build_cache(tmp_path / "three" / "cache", batches, teacher, rank, 3) for rank, teacher in enumerate(teachers)
    ]
    assert manifests[:2] == [None, None] and manifests[2]
    assert [len(teacher.seen) for teacher in teachers] == [4, 4, 2]
    assert contents(tmp_path / "three" / "cache") == contents(tmp_path / "one" / "cache")


def test_a_job_whose_folder_was_begun_anew_ends_and_leaves_it_alone(tmp_path, batches):
    """As if someone had started another job with overwrite=true while the first one was running."""
    overwriting = FakeTeacher(batches)
    log_probs = overwriting.log_probs

    def begin_anew(batch):
        if len(overwriting.seen) == 3:
            build_cache(tmp_path / "cache", batches, k=4, overwrite=True)
        return log_probs(batch)

    overwriting.log_probs = begin_anew
    with pytest.raises(DataError, match="another job has begun '.*cache' anew meanwhile: k was 4 and is 8"):
        build_cache(tmp_path / "cache", None, overwriting)
    build_cache(tmp_path / "new" / "cache", batches, k=4)
    assert contents(tmp_path / "cache") == contents(tmp_path / "new" / "cache")


def test_a_finished_cache_needs_no_teacher(tmp_path, batches):
    manifest = build_cache(tmp_path / "cache", batches)
    assert build(*cache_job(tmp_path / "cache"), load_teacher=None) == manifest


def test_other_settings_are_refused_or_replace(tmp_path, batches):
    build_cache(tmp_path / "cache", batches)
    with pytest.raises(DataError, match="holds a teacher cache with other settings: k was 8 and is 4"):
        build_cache(tmp_path / "cache", batches, k=4)
    build_cache(tmp_path / "cache", batches[:3], k=4, shard_pairs=5, overwrite=True)
    build_cache(tmp_path / "new" / "cache", batches[:3], k=4, shard_pairs=5)
    assert contents(tmp_path / "cache") == contents(tmp_path / "new" / "cache")


def test_more_words_than_there_are_and_no_pairs_are_told(tmp_path, batches):
    with pytest.raises(DataError, match=f"cache.k=41: the teacher has only {VOCAB_SIZE} words"):
        build_cache(tmp_path / "cache", batches, k=41)
    with pytest.raises(DataError, match="model.train_ds holds no pairs"):
        build_cache(tmp_path / "empty", [])


def test_a_teacher_that_gives_no_numbers_is_told(tmp_path, batches):
    teacher = FakeTeacher(batches)
    teacher.log_probs = lambda batch: torch.full((*batch[-1].shape, VOCAB_SIZE), torch.nan)
    with pytest.raises(DataError, match="a probability that is NaN"):
        build_cache(tmp_path / "cache", None, teacher)


def test_a_shard_that_does_not_hold_its_pairs_tokens_is_told(tmp_path, batches):
    build_cache(tmp_path / "cache", batches)
    shards = tmp_path / "cache" / "shards"
    (shards / "shard-000001.tokens.npy").write_bytes((shards / "shard-000000.tokens.npy").read_bytes())
    (tmp_path / "cache" / "manifest.json").unlink()
    with pytest.raises(ShardError, match="shard-000001.tokens.npy' does not match its pairs"):
        build_cache(tmp_path / "cache", batches)
