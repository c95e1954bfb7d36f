import random
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.pseudo_labels.generate import Translator, generate, searching
from nemo_distill.pseudo_labels.shards import LabelFolder, ShardError, read_rows, read_shard
from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.records import read_json
from tests.conftest import REPOSITORY
from tests.pseudo_labels.fakes import (
    POLICY,
    SEARCH,
    CommonLetters,
    Shouting,
    contents,
    label_folder,
    run,
    write_source,
)


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "text.de", 130)


@pytest.fixture
def expected(source, tmp_path):
    """What an uninterrupted run of one process writes."""
    run([source], tmp_path / "expected")
    return contents(tmp_path / "expected")


def command(source, folder, *options):
    return [sys.executable, "-m", "tests.pseudo_labels.fakes", str(source), str(folder), *map(str, options)]


def start(*arguments):
    return subprocess.Popen(command(*arguments), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)


def finish(*arguments):
    result = subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_every_line_has_its_row(source, tmp_path):
    manifest = run([source], tmp_path / "out")
    rows = list(read_rows(tmp_path / "out" / "shards"))
    raw_lines = source.read_bytes().split(b"\n")[:-1]
    assert len(rows) == len(raw_lines) == manifest["lines"] == 130
    for row, raw in zip(rows, raw_lines):
        words = raw.decode("utf-8", "replace").split()
        if words and words[0] == str(row.line):
            assert row.hypotheses[0].text == " ".join(words).upper() and row.oddity is None
            assert row.source_cut == (len(words) > 14)
        else:
            assert row.oddity is not None
    untranslated = {"empty", "invalid_utf8", "over_long"}
    assert {row.oddity for row in rows if not row.hypotheses} == untranslated
    assert {row.oddity for row in rows if row.hypotheses} == {None, "control_characters"}
    assert manifest["counts"]["translated"] + sum(manifest["counts"][reason] for reason in untranslated) == 130


def test_the_manifest_describes_every_file(source, tmp_path):
    manifest = run([source], tmp_path / "out", teacher="abc")
    assert manifest["settings"]["teacher"] == "abc"
    assert [shard["lines"] for shard in manifest["shards"]] == [20] * 6 + [10]
    for shard in manifest["shards"]:
        assert sha256_of(tmp_path / "out" / "shards" / shard["name"]) == shard["sha256"]
    assert manifest["sources"] == [{"name": "text.de", "bytes": source.stat().st_size, "sha256": sha256_of(source)}]
    assert manifest["versions"]["nemo_distill"] and manifest["versions"]["torch"]
    begun = {"settings": manifest["settings"], "inputs": {"source 1, text.de": sha256_of(source)}}
    assert read_json(tmp_path / "out" / "settings.json") == begun


def test_the_manifest_has_the_sources_as_they_were_when_the_work_began(source, tmp_path):
    begun = sha256_of(source)

    class Editor(Shouting):
        def translate(self, lines, settings):
            source.write_bytes(source.read_bytes().replace(b"Hund", b"Mund"))
            return super().translate(lines, settings)

    manifest = run([source], tmp_path / "out", Editor())
    assert manifest["sources"][0]["sha256"] == manifest["inputs"]["source 1, text.de"] == begun
    with pytest.raises(DataError, match="holds labels of other source files"):
        LabelFolder.finished(tmp_path / "out", [source])


def test_how_a_source_is_cut_into_files_does_not_matter_to_its_rows(source, tmp_path):
    lines = source.read_bytes().splitlines(keepends=True)
    parts = [tmp_path / "a", tmp_path / "b"]
    raw = source.read_bytes()
    cut = raw.index(b"\n", len(raw) // 2) + 1
    for part, content in zip(parts, (raw[:cut], raw[cut:])):
        part.write_bytes(content)
    assert len(lines) > 100
    run([source], tmp_path / "whole")
    run(parts, tmp_path / "parts")
    assert list(read_rows(tmp_path / "whole" / "shards")) == list(read_rows(tmp_path / "parts" / "shards"))


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_job_goes_on_and_ends_with_the_same_bytes(source, expected, tmp_path, seed):
    generator = random.Random(seed)
    folder = tmp_path / "killed"
    kills = 0
    while not (folder / "manifest.json").exists() and kills < 4:
        process = start(source, folder, "--delay", 0.5)
        while not (folder / "settings.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.random() * 1.5)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills
    finish(source, folder)
    assert contents(folder) == expected


@pytest.mark.parametrize("line", ["1", "60"])
def test_a_job_killed_at_a_line_loses_its_current_shard_alone(source, expected, tmp_path, line):
    raw_lines = source.read_bytes().split(b"\n")
    number = next(n for n in range(int(line), 0, -1) if raw_lines[n - 1].startswith(str(n).encode()))
    folder = tmp_path / "killed"
    process = start(source, folder, "--die-at", number)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    done = sorted(path.name for path in (folder / "shards").glob("shard-*"))
    assert done == [f"shard-{index:06d}.jsonl.gz" for index in range((number - 1) // 20)]
    assert not (folder / "manifest.json").exists()
    engine = Shouting()
    run([source], folder, engine)
    assert engine.lines_seen == 130 - 20 * len(done)
    assert contents(folder) == expected


def test_a_finished_job_is_not_done_again(source, expected, tmp_path):
    engine = Shouting()
    run([source], tmp_path / "expected", engine)
    assert engine.lines_seen == 0 and contents(tmp_path / "expected") == expected


@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused(source, tmp_path, finished):
    folder = tmp_path / "out"
    run([source], folder, beam=4)
    if not finished:
        (folder / "manifest.json").unlink()
    before = contents(folder)
    with pytest.raises(ValueError, match="holds labels with other settings: beam was 4 and is 5"):
        run([source], folder, beam=5)
    assert contents(folder) == before


def test_another_source_is_refused(source, tmp_path):
    run([source], tmp_path / "out")
    source.write_bytes(source.read_bytes() + b"one more\n")
    with pytest.raises(ValueError, match="other settings: sources was"):
        run([source], tmp_path / "out")


@pytest.mark.parametrize("missing", [None, "manifest.json", "sources"])
def test_a_source_of_the_same_size_with_other_text_is_refused(source, tmp_path, missing):
    folder = tmp_path / "out"
    manifest = run([source], folder)
    if missing == "sources":  # labels of an older version
        write_json(folder / "settings.json", {"settings": manifest["settings"]})
    elif missing:
        (folder / missing).unlink()
    source.write_bytes(source.read_bytes().replace(b"Hund", b"Mund"))
    with pytest.raises(DataError, match=r"'source 1, text\.de' has changed since"):
        run([source], folder)
    engine = Shouting()
    run([source], folder, engine, overwrite=True)
    assert engine.lines_seen == 130 and not label_folder([source], folder).conflicts()


def test_overwrite_replaces_other_settings_and_goes_on_with_the_same(source, expected, tmp_path):
    folder = tmp_path / "out"
    run([source], folder, shard_lines=10)
    run([source], folder, overwrite=True)
    assert contents(folder) == expected
    engine = Shouting()
    run([source], folder, engine, overwrite=True)
    assert engine.lines_seen == 0


def test_shards_of_a_process_with_other_settings_are_refused(source, tmp_path):
    run([source], tmp_path / "out", beam=4)
    run([source], tmp_path / "other", beam=5)
    (tmp_path / "out" / "manifest.json").unlink()
    name = "shards/shard-000002.jsonl.gz"
    (tmp_path / "out" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ShardError, match="shard-000002.jsonl.gz', line 1: was made with other settings"):
        run([source], tmp_path / "out", beam=4)


@pytest.mark.parametrize("world_size", [3, 9])
def test_ranks_share_the_shards(source, expected, tmp_path, world_size):
    folder = tmp_path / "shared"
    engines = [Shouting() for _ in range(world_size)]
    manifests = [run([source], folder, engines[r], rank=r, world_size=world_size) for r in range(world_size)]
    done_by_last = world_size <= 7
    assert all(manifest is None for manifest in manifests[: min(world_size, 7) - 1])
    assert manifests[-1] is not None and done_by_last == (engines[-1].lines_seen > 0)
    assert sum(engine.lines_seen for engine in engines) == 130
    assert contents(folder) == expected


def test_what_a_lost_process_leaves_undone_the_next_run_does(source, expected, tmp_path):
    """The first shard of the second process is never finished; the first process's shards are there."""
    raw_lines = source.read_bytes().split(b"\n")
    number = next(n for n in range(25, 40) if raw_lines[n - 1].startswith(str(n).encode()))
    process = start(source, tmp_path / "shared", "--devices", 2, "--die-at", number)
    process.communicate(timeout=120)
    assert process.returncode != 0
    shards = {path.name for path in (tmp_path / "shared" / "shards").glob("shard-*")}
    assert "shard-000000.jsonl.gz" in shards and "shard-000001.jsonl.gz" not in shards
    run([source], tmp_path / "shared")
    assert contents(tmp_path / "shared") == expected


def test_reverse_scores_go_with_their_hypotheses(source, tmp_path):
    run([source], tmp_path / "out", reverse=CommonLetters())
    lines = source.read_bytes().split(b"\n")
    scored = [row for row in read_rows(tmp_path / "out" / "shards") if row.hypotheses and not row.oddity]
    assert scored
    for row in scored:
        source_line = lines[row.line - 1].decode()
        expected = CommonLetters().score([h.text for h in row.hypotheses], [source_line] * len(row.hypotheses))
        assert row.reverse_scores == tuple(round(score, 6) for score in expected)


class Odd:
    def __init__(self, translations):
        self.translations = translations

    def translate(self, lines, settings):
        return self.translations(lines)


def test_an_engine_that_loses_a_line_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="gave 6 translations of 7 lines"):
        run([source], tmp_path / "out", Odd(lambda lines: [Translation((Hypothesis("x", 0.0),))] * (len(lines) - 1)))


def test_a_line_without_a_hypothesis_counts_as_an_empty_one(source, tmp_path):
    run([source], tmp_path / "out", Odd(lambda lines: [Translation(())] * len(lines)))
    rows = list(read_shard(tmp_path / "out" / "shards" / "shard-000000.jsonl.gz"))
    assert any(row.hypotheses == (Hypothesis("", 0.0),) for row in rows)


def test_memory_holds_a_shard_and_not_the_corpus(tmp_path):
    peaks = []
    for size in (500, 4_000):
        source = write_source(tmp_path / f"{size}.txt", size)
        tracemalloc.start()
        run([source], tmp_path / f"{size}", shard_lines=100, chunk_lines=50)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_progress_passes_over_what_was_done_before(source, tmp_path):
    seen = []
    run([source], tmp_path / "out")
    for index in (2, 5):
        (tmp_path / "out" / "shards" / f"shard-{index:06d}.jsonl.gz").unlink()
    (tmp_path / "out" / "manifest.json").unlink()
    labels = label_folder([source], tmp_path / "out")
    translator = Translator(searching(Shouting(), SEARCH), POLICY)
    generate(labels, 20, 7, lambda: translator, on_progress=lambda *at: seen.append(at))
    positions = [position for position, _ in seen]
    assert positions == sorted(positions) and positions[-1] == source.stat().st_size
    assert [lines for _, lines in seen] == [0, 0, 7, 7, 6, 0, 0, 0, 7, 7, 6, 0, 0]
