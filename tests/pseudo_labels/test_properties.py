"""Labels, however their lines are shared, interrupted and filtered: the same bytes, the same order, counts that add up."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.pseudo_labels.corpus_filters import CorpusFilters
from nemo_distill.pseudo_labels.filters import FILTERS, FilterSettings, Pair, first_reason
from nemo_distill.pseudo_labels.judge import Outcome
from nemo_distill.pseudo_labels.shards import Header, Row, count_rows, read_shard, write_shard
from tests.pseudo_labels.fakes import Shouting, contents, only, run, write_source


class Interrupted(Exception):
    pass


class Faltering(Shouting):
    """Is interrupted before the chunk in which it would see this many lines."""

    fail_at = 0

    def translate(self, lines, settings):
        if self.lines_seen + len(lines) > self.fail_at:
            raise Interrupted
        return super().translate(lines, settings)


@given(
    st.integers(0, 60),
    st.integers(1, 25),
    st.integers(1, 9),
    st.data(),
    st.integers(1, 5),
    st.lists(st.integers(0, 40)),
)
def test_labels_are_the_same_bytes_whoever_makes_them_and_is_interrupted(
    lines, shard_lines, chunk_lines, data, world_size, stops
):
    sizes = {"shard_lines": shard_lines, "chunk_lines": chunk_lines}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_source(folder / "text.de", lines, seed=lines)
        run([source], folder / "whole", **sizes)
        for stop in stops[:4]:
            engine = Faltering()
            engine.fail_at = stop
            try:
                run([source], folder / "shared", engine, rank=stop % world_size, world_size=world_size, **sizes)
            except Interrupted:
                continue
        for rank in data.draw(st.permutations(range(world_size))):
            run([source], folder / "shared", rank=rank, world_size=world_size, **sizes)
        assert contents(folder / "shared") == contents(folder / "whole")


words = st.sampled_from(["der", "Hund", "dog", "und", "und und und", "", " ", "ä", "x" * 30])
texts = st.lists(words, max_size=5).map(" ".join)
pairs = st.builds(Pair, texts, texts, st.booleans(), st.booleans())
settings = st.builds(
    FilterSettings,
    **dict.fromkeys(("empty", "identical", "unfinished", "source_cut"), st.booleans()),
    length_ratio=st.none() | st.floats(1, 5),
    repetitions=st.none() | st.integers(1, 5),
    untranslated=st.none() | st.floats(0.01, 0.99),
    duplicates=st.booleans(),
    score_quantile=st.none() | st.floats(0.01, 0.99),
    reverse_score_quantile=st.none(),
)


@given(pairs, settings)
def test_the_filter_that_is_named_is_the_first_that_drops_a_pair(pair, filters):
    alone = [
        name for name in FILTERS
        if (value := getattr(filters, name)) and first_reason(pair, only(**{name: value}))
    ]  # fmt: skip
    assert first_reason(pair, filters) == (alone[0] if alone else None)


outcomes = st.lists(st.tuples(texts, texts, st.floats(-50, 0), st.none() | st.floats(-9, 0)), max_size=30)


def ranked(found, filters):
    with tempfile.TemporaryDirectory() as folder:
        corpus_filters = CorpusFilters(filters, Path(folder))
        for outcome in found:
            corpus_filters.see(outcome)
        corpus_filters.close()
        return [corpus_filters.reason(outcome) for outcome in found]


@given(outcomes, settings)
def test_what_compares_pairs_keeps_the_first_of_equals_and_no_more_is_dropped_than_asked_for(values, filters):
    found = [Outcome(number, *value, None) for number, value in enumerate(values, start=1)]
    reasons = ranked(found, filters)
    kept = [outcome for outcome, reason in zip(found, reasons) if reason is None]
    assert reasons.count("score_quantile") <= (filters.score_quantile or 0) * len(found)
    if filters.duplicates:
        firsts = {outcome[1:3]: outcome for outcome in reversed(found)}
        assert [reason == "duplicates" for reason in reasons] == [firsts[one[1:3]] is not one for one in found]
        assert set(ranked(kept, only(duplicates=True))) <= {None}  # nothing is left to drop


hypotheses = st.builds(Hypothesis, st.text(max_size=8), st.floats(-1e6, 1e6), st.booleans())
rows = st.lists(
    st.builds(
        Row,
        st.just(0),
        st.text("0123456789abcdef", min_size=16, max_size=16),
        st.lists(hypotheses, min_size=1, max_size=3).map(tuple),
        st.sampled_from([None, "control_characters"]),
        st.booleans(),
        st.sampled_from([(), (0.25, -1.5)]),
        st.sampled_from([None, "failed"]),
    ),
    max_size=8,
)


@given(rows)
def test_rows_come_back_as_they_were_written(made):
    made = [
        replace(
            row,
            line=number,
            hypotheses=tuple(replace(one, score=round(one.score, 6)) for one in row.hypotheses),
        )
        for number, row in enumerate(made, start=1)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard-000000.jsonl.gz"
        write_shard(path, Header(0, 1, len(made), "digest", count_rows(made)), made)
        assert list(read_shard(path)) == made
