from nemo_distill.decoding.engine import batches_by_length, translate_stream
from nemo_distill.decoding.settings import SearchSettings
from tests.evaluation.fakes import Shouting


def test_a_stream_keeps_its_order_and_is_never_held_whole():
    engine, read = Shouting(), []

    def lines():
        for number in range(7):
            read.append(number)
            yield f"line {number}"

    stream = translate_stream(engine, lines(), SearchSettings(), chunk=3)
    assert next(stream).text == "LINE 0"
    assert read == [0, 1, 2]
    assert [translation.text for translation in stream] == [f"LINE {number}" for number in range(1, 7)]
    assert engine.calls == [3, 3, 1]


def test_the_first_parts_are_smaller_so_that_the_rate_is_known_early():
    engine = Shouting()
    assert len(list(translate_stream(engine, map(str, range(1000)), SearchSettings(), chunk=500))) == 1000
    assert engine.calls == [128, 256, 500, 116]


def test_every_sentence_is_in_one_batch_beside_others_of_its_length():
    lengths = [3, 9, 1, 9, 4, 30, 0]
    batches = list(batches_by_length(lengths, budget=20))
    assert batches == [[5], [1, 3], [4, 0, 2, 6]]
    assert all(max(lengths[i] for i in batch) * len(batch) <= 20 for batch in batches[1:])
    assert list(batches_by_length([], budget=20)) == []
