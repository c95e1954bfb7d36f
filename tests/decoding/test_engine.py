from nemo_distill.decoding.engine import Hypothesis, Translation, translate_stream
from nemo_distill.decoding.settings import SearchSettings


class Shouting:
    def __init__(self):
        self.sizes = []

    def translate(self, lines, settings):
        self.sizes.append(len(lines))
        return [Translation((Hypothesis(line.upper(), 0.0),)) for line in lines]


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
    assert engine.sizes == [3, 3, 1]
