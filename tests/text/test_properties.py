"""Whatever bytes files hold, no line is lost, invented or moved; whatever is mixed, in its shares, from any point on."""

import gzip
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from itertools import islice, repeat
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.text.files import data_problems, unequal_lengths
from nemo_distill.text.lines import ODDITIES, LinePolicy, TextFiles, clean_line, line_hash, parallel_lines
from nemo_distill.text.mix_section import MixSection
from nemo_distill.text.mixing import Corpus, Mix, choose, interleave, plan_lines, write_mix
from nemo_distill.trainer.resumable_loader import resumable_loader
from tests.json_values import KEYS, VALUES, sections

GZIP = b"\x1f\x8b"
# Bytes that line ends and characters are made of come often.
raw_lines = st.lists(
    st.lists(st.sampled_from([b"a", b" ", b"\r", b"\t", b"\0", b"\xe9", "ä".encode(), "\u2028".encode()]), max_size=5)
    .map(b"".join)
    .filter(lambda line: not line.startswith(GZIP))
)
contents = st.binary(max_size=60) | st.builds(lambda lines, end: b"\n".join(lines) + end, raw_lines, st.just(b"\n"))
policies = st.builds(
    LinePolicy,
    max_characters=st.integers(1, 9),
    invalid_utf8=st.sampled_from(["skip", "replace"]),
    control_characters=st.sampled_from(["skip", "clean"]),
)


@contextmanager
def files(*parts):
    """Files in a folder of their own, `0`, `1`, ..., with what is given."""
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / str(number) for number in range(len(parts))]
        for path, part in zip(paths, parts):
            path.write_bytes(part)
        yield paths


@given(contents)
@example(b"a\nb")
@example(b"\n\n")
@example(b"")
def test_lines_are_what_stands_between_line_ends(content):
    assume(not content.startswith(GZIP))
    with files(content, gzip.compress(content)) as (plain, packed):
        lines = list(TextFiles([plain]))
        assert list(TextFiles([packed])) == lines
    assert len(lines) == content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
    joined = b"\n".join(lines)
    assert content in (joined, joined + b"\n") and not any(b"\n" in line for line in lines)


@given(raw_lines, raw_lines)
def test_lines_of_several_files_follow_each_other(first, second):
    parts = [b"".join(line + b"\n" for line in lines) for lines in (first, second)]
    with files(*parts) as paths:
        assert list(TextFiles(paths)) == first + second


@given(raw_lines, st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_gzip_file_is_told_or_harmless(lines, place, change):
    whole = b"".join(line + b"\n" for line in lines)
    packed = bytearray(gzip.compress(whole, mtime=0))
    place = 2 + place % (len(packed) - 2)  # the first two bytes say that it is a gzip file
    cut = bytes(packed[:place])
    packed[place] ^= change
    with files(cut, bytes(packed)) as (truncated, flipped):
        with pytest.raises(DataError, match=f"'{truncated}' cannot be unpacked after line"):
            list(TextFiles([truncated]))
        with suppress(DataError):  # there is none where the byte is of no effect, such as that of the system
            assert b"".join(line + b"\n" for line in TextFiles([flipped])) == whole


@given(raw_lines, raw_lines)
def test_the_sides_of_parallel_text_never_shift(source, target):
    assume(source and target)
    parts = [b"".join(line + b"\n" for line in lines) for lines in (source, target)]
    with files(*parts) as paths:
        assert bool(unequal_lengths("here", *paths)) == (len(source) != len(target))
        pairs = parallel_lines(*paths)
        assert list(islice(pairs, min(len(source), len(target)))) == list(zip(source, target))
        if len(source) == len(target):
            assert next(pairs, None) is None
        else:
            with pytest.raises(DataError, match="has more lines than"):
                next(pairs)


@given(st.binary(max_size=20) | st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass")), policies)
def test_a_cleaned_line_is_one_line_and_stays_clean(raw, policy):
    line = clean_line(raw, policy)
    assert line.text.splitlines() in ([], [line.text]) and "\t" not in line.text
    assert len(line.text) <= policy.max_characters and line.oddity in (None, *ODDITIES)
    assert line.text or line.oddity
    if line.text:
        again = clean_line(line.text.encode(), policy)
        assert (again.text, again.oddity) == (line.text, None)


@given(st.lists(st.binary(max_size=5), unique=True, max_size=30))
def test_different_lines_have_different_hashes(lines):
    assert len({line_hash(line) for line in lines}) == len(lines)


names = st.sampled_from("abcdef")
shares = st.floats(0.01, 100) | st.integers(1, 20)


@given(st.dictionaries(names, st.tuples(st.integers(1, 50), shares), min_size=1), st.integers(1, 300))
def test_each_corpus_has_its_share_of_as_many_lines_as_are_asked_for(corpora, lines):
    used, wanted = ({name: values[index] for name, values in corpora.items()} for index in (0, 1))
    counts = plan_lines(used, wanted, lines)
    assert sum(counts.values()) == lines
    due = {name: lines * share / sum(wanted.values()) for name, share in wanted.items()}
    assert all(abs(counts[name] - due[name]) < 1 + 1e-6 for name in corpora)
    whole = plan_lines(used, wanted)
    assert all(whole[name] >= used[name] for name in corpora)  # every pair of each
    assert any(whole[name] == used[name] for name in corpora)
    base = next(iter(corpora))
    assert plan_lines(used, wanted, base=base)[base] == used[base]


@given(st.dictionaries(names, st.integers(1, 40), min_size=1))
def test_every_stretch_has_the_shares_and_no_line_is_lost_or_invented(counts):
    mixed = list(interleave({name: zip(repeat(name), range(count)) for name, count in counts.items()}, counts))
    assert {name: [i for of, i in mixed if of == name] for name in counts} == {
        name: list(range(count)) for name, count in counts.items()
    }
    given, total = Counter(), len(mixed)
    for position, (name, _) in enumerate(mixed, start=1):
        given[name] += 1
        # A stretch is what lies between two points: it is off by less than twice this.
        assert all(abs(given[name] - counts[name] * position / total) <= max(1, len(counts) / 2) for name in counts)


@given(st.integers(0, 60), st.integers(0, 60), st.text(max_size=3))
def test_as_many_items_are_chosen_as_are_asked_for_in_their_order(total, count, seed):
    chosen = list(choose(iter(range(total)), min(count, total), total, seed))
    assert len(chosen) == min(count, total) and chosen == sorted(set(chosen))


@st.composite
def mixes(draw):
    """What is mixed: for each corpus its lines, share and fraction; the seed, and how many lines."""
    corpora = draw(
        st.dictionaries(names, st.tuples(st.integers(1, 25), shares, st.floats(0.05, 1)), min_size=1, max_size=3)
    )
    return corpora, draw(st.integers(0, 5)), draw(st.none() | st.integers(1, 80))


class Interrupted(Exception):
    pass


def write(folder, corpora, seed, lines, stop=None):
    """Writes the mix, ends at line `stop`, and returns the bytes of what is there afterwards."""
    described = {}
    for name, (count, share, fraction) in corpora.items():
        paths = [Path(folder) / f"{name}.{side}" for side in ("de", "en")]
        for path in paths:
            path.write_text("".join(f"{name} {number}\n" for number in range(count)))
        described[name] = Corpus([paths[0]], [paths[1]], share, fraction)
    mix = Mix(described, Path(folder) / "mixed", LinePolicy(max_characters=50), seed, lines)

    def on_line(number, _):
        if number == stop:
            raise Interrupted

    try:
        write_mix(mix, on_line=on_line)
    except Interrupted:
        assert stop is not None
    return {path.name: path.read_bytes() for path in Path(folder).glob("*mixed*") if path.suffix != ".lock"}


@given(mixes(), st.integers(1, 80))
def test_a_mix_holds_each_pair_as_often_as_it_fits_however_often_it_was_interrupted(case, stop):
    corpora, seed, lines = case
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        whole = write(folder, corpora, seed, lines)
        left = write(other, corpora, seed, lines, stop)
        assert left in ({}, whole)
        assert write(other, corpora, seed, lines) == whole
    pairs = [line.split() for line in whole["mixed.src"].decode().splitlines()]
    assert whole["mixed.src"] == whole["mixed.tgt"] and (lines is None or len(pairs) == lines)
    for name, (count, _, fraction) in corpora.items():
        times = Counter(int(number) for of, number in pairs if of == name)
        used = max(1, round(fraction * count))
        assert len(times) == min(used, times.total())
        assert times.total() == 0 or max(times.values()) - min(times.values()) <= 1
        assert set(times) <= set(range(count))


@given(st.integers(1, 20), st.booleans(), st.integers(0, 3), st.integers(0, 20))
def test_a_loader_goes_on_from_any_point_with_what_would_have_come(batches, shuffle, epoch, position):
    def loader():
        found = resumable_loader(DataLoader(list(range(batches)), batch_size=None), shuffle)
        found.sampler.set_epoch(epoch)
        return found

    whole, first = loader(), loader()
    expected = list(whole)
    assert sorted(expected) == list(range(batches))
    passed = list(islice(first, min(position, batches)))
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert passed + list(resumed) == expected
    resumed.sampler.set_epoch(epoch + 1)
    whole.sampler.set_epoch(epoch + 1)
    assert list(resumed) == list(whole)


corpus_values = VALUES | sections(["source", "target", "share", "fraction"])


@given(VALUES | st.dictionaries(KEYS, corpus_values, max_size=2), VALUES, VALUES, VALUES, VALUES)
def test_any_section_of_a_mix_is_right_or_told(corpora, seed, lines, base, reading):
    section = {"corpora": corpora, "seed": seed, "lines": lines, "base": base, "reading": reading}
    mix, problems = read_section(MixSection, section)  # no file of these names is there
    problems = problems or mix.missing()
    assert problems and all(isinstance(problem, str) and problem.endswith(".") for problem in problems)


DATA_KEYS = ("src_file_name", "tgt_file_name", "use_tarred_dataset", "metadata_file", "names")


@given(sections(DATA_KEYS))
def test_any_data_section_is_right_or_told(section):
    problems = data_problems("model.train_ds", section)
    assert all(problem.startswith("model.train_ds") and problem.endswith(".") for problem in problems)
