"""Our tarred data and NeMo's: the same pairs in the same batches, and each is read where the other is."""

import gzip
import itertools
import json
import pickle
import random
import tarfile
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer
from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import (
    TarredTranslationDataset,
    TranslationDataset,
)

from nemo_distill.config.errors import DataError
from nemo_distill.text import fragments, tarred_data
from nemo_distill.text.batches import BatchSettings
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.tarred_data import TarredData, plan_tar_files, write_tarred_data
from nemo_distill.text.token_ids import load_tokenizer
from tests.pseudo_labels.fakes import contents

SETTINGS = BatchSettings(tokens_in_batch=150, num_batches_per_tarfile=3, max_seq_length=20)


@pytest.fixture
def data(corpus, tmp_path):
    """Returns data of the corpus's 64 pairs, with some of the settings changed."""

    def make(**settings):
        files = [corpus / "train.de"], [corpus / "train.en"]
        return TarredData(tmp_path / "a b;$(c)", *files, {"of": "tests"}, replace(SETTINGS, **settings), LinePolicy())

    return make


@pytest.fixture
def write(tokenizer):
    """Writes tarred data."""

    def run(data, **options):
        tokenizers = (load_tokenizer(tokenizer, "sentencepiece"),) * 2
        return write_tarred_data(data, lambda: tokenizers, threads=2, **options)

    return run


def batches(data, record):
    """The batches of each tar file, as lists."""
    found = []
    for name in record["tar_files"]:
        with tarfile.open(data.folder / name) as archive:
            found.append([pickle.load(archive.extractfile(member)) for member in archive])
    return found


def pairs(batches):
    """Counts pairs of ids without padding."""
    return Counter(
        tuple(tuple(token for token in batch[side][row].tolist() if token != 3) for side in ("src", "tgt"))
        for batch in batches
        for row in range(len(batch["src"]))
    )


def test_the_batches_are_nemos(data, write, tokenizer):
    one = data(num_batches_per_tarfile=100)
    record = write(one)
    found = batches(one, record)
    nemos = TranslationDataset(str(one.sources[0]), str(one.targets[0]), tokens_in_batch=150, clean=True)
    nemos.batchify(*(SentencePieceTokenizer(str(tokenizer)),) * 2)
    expected = [{side: ids.tolist() for side, ids in batch.items()} for batch in nemos.batches.values()]
    assert len(found) == 1
    assert sorted(map(str, ({side: ids.tolist() for side, ids in batch.items()} for batch in found[0]))) == sorted(
        map(str, expected)
    )
    cells = [ids for batch in found[0] for ids in batch.values()]
    tokens = sum(int((ids != 3).sum()) for ids in cells)
    assert record["tokens"] == tokens and record["padding"] == round(1 - tokens / sum(ids.size for ids in cells), 4)
    assert {ids.dtype for batch in found[0] for ids in batch.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_nemo_reads_every_pair_once_and_equally_many_batches_on_each_device(data, write, tokenizer, devices):
    one = replace(data(lines_per_dataset_fragment=20), devices=devices)
    record = write(one)
    files = [str(one.folder / name) for name in record["tar_files"]]
    assert len(files) % devices == 0 and len({len(batch) for batch in batches(one, record)}) == 1
    tokenizers = {f"{side}_tokenizer": SentencePieceTokenizer(str(tokenizer)) for side in ("encoder", "decoder")}
    seen, counts = Counter(), []
    for rank in range(devices):
        reader = TarredTranslationDataset(
            files, str(one.metadata), global_rank=rank, world_size=devices, shuffle_n=0, **tokenizers
        )
        own = [{"src": src, "tgt": np.hstack([tgt[:, :1], labels])} for src, _, tgt, _, labels in reader]
        assert len(own) == len(reader) // devices  # as many as NeMo's training reads in an epoch
        counts.append(len(own))
        seen += pairs(own)
    assert seen == pairs(itertools.chain(*batches(one, record))) and seen.total() == record["pairs"] == 64
    assert len(set(counts)) == 1 and record["repeated_batches"] == 0


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 4)
)  # pairs in batches, batches in a file, devices
def test_any_batches_fill_equal_tar_files_with_every_pair_there(rows, per_file, devices):
    planned, repeated = plan_tar_files(np.array(rows), per_file, devices)
    sizes = {len(pieces) for pieces in planned}
    assert len(sizes) == 1 and 1 <= sizes.pop() <= per_file and len(planned) % devices == 0
    found = Counter(
        (batch, row) for batch, first, last in np.concatenate(planned).tolist() for row in range(first, last)
    )
    assert set(found) == {(batch, row) for batch, size in enumerate(rows) for row in range(size)}
    if not repeated:
        assert set(found.values()) == {1}
    else:  # each batch is a single pair by then
        assert sum(rows) < devices * -(-len(rows) // (per_file * devices)) * per_file


def test_the_largest_batches_are_halved():
    planned, repeated = plan_tar_files(np.array([8, 3, 5, 2, 9]), 3)
    whole = [[0, 0, 8], [1, 0, 3], [2, 0, 5], [3, 0, 2]]
    assert sorted(np.concatenate(planned).tolist()) == [*whole, [4, 0, 4], [4, 4, 9]] and repeated == 0


def test_batches_are_in_random_order():
    planned, _ = plan_tar_files(np.ones(200, int), 10)
    order = np.concatenate(planned)[:, 0]
    assert abs(np.corrcoef(order, np.arange(200))[0, 1]) < 0.2


ODD = {
    "empty": (b"", b"dog"),
    "also empty": (b"Hund", "\u200b \u00ad".encode()),
    "invalid_utf8": (b"Hund \xff", b"dog"),
    "over_long": (b"Hund " * 2000, b"dog"),
    "too_long": (b"Hund " * 30, b"dog"),
}


def test_odd_pairs_are_dropped_and_counted_and_the_others_keep_their_partners(data, write, corpus, tmp_path):
    lines = [*zip(*((corpus / f"train.{side}").read_bytes().splitlines() for side in ("de", "en"))), *ODD.values()]
    random.Random(0).shuffle(lines)
    for side, text in zip(("de", "en"), zip(*lines)):
        (tmp_path / f"odd.{side}.gz").write_bytes(gzip.compress(b"\n".join(text) + b"\n"))
    odd = replace(data(), sources=[tmp_path / "odd.de.gz"], targets=[tmp_path / "odd.en.gz"])
    record = write(odd)
    assert record["dropped"] == {"empty": 2, "invalid_utf8": 1, "over_long": 1, "too_long": 1}
    plain = replace(data(), folder=tmp_path / "plain")
    expected = pairs(itertools.chain(*batches(plain, write(plain))))
    assert pairs(itertools.chain(*batches(odd, record))) == expected


def test_an_empty_line_is_kept_if_the_user_says_so(data, write, tmp_path):
    for side, text in (("de", "Hund\n\n"), ("en", "dog\nman\n")):
        (tmp_path / f"two.{side}").write_text(text)
    one = replace(data(clean=False), sources=[tmp_path / "two.de"], targets=[tmp_path / "two.en"])
    assert write(one)["pairs"] == 2


def test_several_files_are_one_data_set_and_must_be_parallel_one_by_one(data, write, corpus, tmp_path):
    sides = ("de", "en")
    files = [[corpus / f"train.{side}", corpus / f"val.{side}"] for side in sides]
    both = replace(data(), sources=files[0], targets=files[1])
    assert write(both)["pairs"] == 72
    crossed = replace(both, folder=tmp_path / "crossed", targets=files[1][::-1])
    with pytest.raises(DataError, match="'.*train.de' has more lines than '.*val.en'"):
        write(crossed)
    longer = tmp_path / "longer.en"
    longer.write_bytes((corpus / "train.en").read_bytes() + b"dog\n")
    with pytest.raises(DataError, match="'.*longer.en' has more lines than '.*train.de', which ends after line 64"):
        write(replace(data(), folder=tmp_path / "longer", targets=[longer]))


def test_the_bytes_do_not_depend_on_threads_or_interruptions(data, write, tokenizer, tmp_path, monkeypatch):
    one = data(lines_per_dataset_fragment=20)
    write(one)
    monkeypatch.setattr(fragments, "CHUNK", 3)
    again, kills, generator = replace(one, folder=tmp_path / "again"), 0, random.Random(0)

    class Killed(Exception):
        pass

    def killing(*progress):
        if generator.random() < 0.3:
            raise Killed

    monkeypatch.setattr(tarred_data, "shown_progress", lambda *shown: nullcontext(killing))
    while not again.metadata.is_file():
        try:
            write(again)
        except Killed:
            kills += 1
    assert contents(again.folder) == contents(one.folder) and kills > 5


def test_data_of_other_text_tokenizers_or_settings_is_refused_by_name_and_replaced_on_request(data, write, corpus):
    one = data()
    record = write(one)
    assert write(one) == record and one.done() == record
    other_text = replace(one, sources=[corpus / "val.de"], targets=[corpus / "val.en"])
    for other, said in (
        (other_text, "source.1 train.de was .* and is None; source.1 val.de was None"),
        (replace(one, tokenizers={"of": "others"}), "tokenizers.of was tests and is others"),
        (data(min_seq_length=3), "min_seq_length was 1 and is 3"),
    ):
        with pytest.raises(DataError, match=f"metadata.tokens.150.json' was made with other settings: {said}"):
            write(other)
    replaced = write(other_text, overwrite=True)
    there = {path.name for path in one.folder.iterdir()}
    assert there == {".lock", "metadata.tokens.150.json", *replaced["tar_files"]}


def test_missing_tar_files_and_data_of_nemos_own_preprocessing_are_refused(data, write):
    one = data()
    name = write(one)["tar_files"][0]
    (one.folder / name).unlink()
    with pytest.raises(DataError, match=f"lists '{name}', which does not exist"):
        write(one)
    assert (one.folder / write(one, overwrite=True)["tar_files"][0]).is_file()
    (one.folder / "parallel.batches.tokens.150.0.tar").touch()
    one.metadata.write_text(json.dumps({"num_batches": 1, "tar_files": ["x/parallel.batches.tokens.150.0.tar"]}))
    with pytest.raises(DataError, match="metadata.tokens.150.json' has no record of the text"):
        write(one)
    write(one, overwrite=True)
    assert not (one.folder / "parallel.batches.tokens.150.0.tar").exists()


def test_text_of_which_nothing_is_left_is_told_with_the_reasons(data, write):
    with pytest.raises(DataError, match="train.de' has no pair to train on: 64 too short"):
        write(data(min_seq_length=19))


def test_data_for_other_devices_stays_and_is_told_or_is_made_again(data, write, caplog):
    one, four = data(lines_per_dataset_fragment=20), replace(data(lines_per_dataset_fragment=20), devices=4)
    made = write(one)
    assert write(four) == made and "stays as it was made, for devices=1 and not 4" in caplog.text
    again = write(four, overwrite=True)
    assert again["devices"] == 4 and len(again["tar_files"]) % 4 == 0
    assert {path.name for path in four.folder.glob("*.tar")} == set(again["tar_files"])
