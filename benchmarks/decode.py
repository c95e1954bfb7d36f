"""How fast NeMo, Hugging Face, nemo_distill and CTranslate2 decode, side by side in one run.

    python benchmarks/decode.py            # a 6x6 model of width 512, 32,000 tokens, beam 4: some minutes
    python benchmarks/decode.py --quick    # a smaller one, in under a minute
    python benchmarks/decode.py --large    # how fast a teacher of 24x6 layers of width 1,024 labels, by batch size
    python benchmarks/decode.py --model student.nemo --source test.de --reference test.en

All but the last give random weights of one shape and the same sources, and make every translation equally long. The
last line of the first two is a JSON object: its ratios are NeMo's time over another's, `identical_to_batch_1` is the
share of sentences that our search translates in a batch as alone. The last one translates text with a trained model.
"""

import argparse
import copy
import inspect
import json
import os
import statistics
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

BEAM_SIZE, PAD, BOS, EOS, POSITIONS = 4, 0, 1, 2, 512
LATENCIES = 50  # sentences that are translated alone


@dataclass(frozen=True)
class Shape:
    """Sizes of the random models, and of the batch: `sentences` of `source` tokens, `target` in translation."""

    encoder_layers: int = 6
    decoder_layers: int = 6
    width: int = 512
    inner: int = 2048
    heads: int = 8
    vocabulary: int = 32000
    sentences: int = 32
    source: int = 20
    target: int = 24


QUICK = Shape(
    encoder_layers=3, decoder_layers=3, width=256, inner=1024, heads=4, vocabulary=8000, sentences=16, target=20
)

LARGE = Shape(encoder_layers=24, width=1024, inner=4096, heads=16, sentences=64)
BATCHES = (8, 16, 32, 64)  # sentences


def build_model(shape: Shape) -> SimpleNamespace:
    """Returns what decoders use of an `MTEncDecModel`, with random weights, and a head that gives no special token."""
    import torch
    from nemo.collections.nlp.modules.common import TokenClassifier
    from nemo.collections.nlp.modules.common.transformer.transformer import TransformerDecoderNM, TransformerEncoderNM

    torch.manual_seed(0)
    sizes = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "inner_size": shape.inner,
        "num_attention_heads": shape.heads,
        "num_token_types": 0,
    }
    encoder_sizes = {**sizes, "num_layers": shape.encoder_layers}
    decoder_sizes = {**sizes, "num_layers": shape.decoder_layers}
    encoder = TransformerEncoderNM(**encoder_sizes, mask_future=False).eval().requires_grad_(False)
    decoder = TransformerDecoderNM(**decoder_sizes).eval().requires_grad_(False)
    head = TokenClassifier(shape.width, shape.vocabulary).eval().requires_grad_(False)
    head.mlp.layer0.bias[[PAD, BOS, EOS]] = -1e4
    cfg = SimpleNamespace(encoder=encoder_sizes, decoder=decoder_sizes)
    return SimpleNamespace(encoder=encoder, decoder=decoder, log_softmax=head, cfg=cfg)


def nemo_search(model: SimpleNamespace, shape: Shape, patched: bool) -> Callable:
    """Returns NeMo's beam search; `patched`, with the fix of docs/nemo_beam_search.md."""
    from nemo.collections.nlp.modules.common.transformer import transformer_generators

    generator = transformer_generators.BeamSearchSequenceGenerator
    if patched:
        source = textwrap.dedent(inspect.getsource(generator._forward))
        wrong, right = ".repeat(self.beam_size, 1, 1)", ".repeat_interleave(self.beam_size, dim=0)"
        assert wrong in source
        scope = dict(vars(transformer_generators))
        exec(source.replace(wrong, right), scope)
        generator = type("Patched", (generator,), {"_forward": scope["_forward"]})
    search = generator(
        model.decoder.embedding,
        model.decoder.decoder,
        model.log_softmax,
        beam_size=BEAM_SIZE,
        max_sequence_length=shape.target,
        max_delta_length=-1,
    )

    def decode(src_ids):
        mask = src_ids != PAD
        states = model.encoder(input_ids=src_ids, encoder_mask=mask)
        return search(encoder_hidden_states=states, encoder_input_mask=mask)[:, 1:].tolist()

    return decode


def our_search(model: SimpleNamespace, shape: Shape) -> Callable:
    """Returns our beam search."""
    import torch

    from nemo_distill.decoding.cached_decoder import CachedDecoder
    from nemo_distill.decoding.search import SpecialIds, search
    from nemo_distill.decoding.settings import SearchSettings

    decoder, special = CachedDecoder(model), SpecialIds(PAD, BOS, EOS)
    settings = SearchSettings(beam_size=BEAM_SIZE, length_penalty=0.0)

    def decode(src_ids):
        limits = torch.full((len(src_ids),), shape.target)
        return [best.tokens for best, *_ in search(decoder, src_ids, src_ids != PAD, limits, special, settings)]

    return decode


def ctranslate2_search(
    model: SimpleNamespace, shape: Shape, quantization: str, folder: Path, threads: int
) -> Callable:
    """Returns CTranslate2's beam search in the same model, in batches of a size, or with one batch per thread."""
    from ctranslate2.specs import transformer_spec

    from nemo_distill.decoding.ctranslate2_search import load_translator
    from nemo_distill.export.ctranslate2_model import decoder_spec, encoder_spec, save_spec

    tokens = tuple(f"t{index}" for index in range(shape.vocabulary))
    special_tokens = {"unk": tokens[3], "bos": tokens[BOS], "eos": tokens[EOS]}
    spec = transformer_spec.TransformerSpec(encoder_spec(model, POSITIONS), decoder_spec(model, POSITIONS))
    (folder / quantization).mkdir()
    save_spec(spec, tokens, tokens, special_tokens, folder / quantization, quantization)
    translator = load_translator(folder / quantization, inter_threads=threads, intra_threads=1)

    def decode(src_ids, batch=None):
        results = translator.translate_batch(
            [[tokens[index] for index in row[1:-1]] for row in src_ids.tolist()],  # it adds bos and eos itself
            max_batch_size=batch or -(-len(src_ids) // threads),
            beam_size=BEAM_SIZE,
            length_penalty=0.0,
            min_decoding_length=shape.target,
            max_decoding_length=shape.target,
        )
        return [[int(token[1:]) for token in result.hypotheses[0]] for result in results]

    return decode


def hugging_face_search(shape: Shape) -> Callable:
    """Returns Hugging Face's beam search in a MarianMT model of the same shape."""
    from transformers import MarianConfig, MarianMTModel

    sides = {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in (
            ("layers", getattr(shape, f"{side}_layers")), ("attention_heads", shape.heads), ("ffn_dim", shape.inner)
        )
    }  # fmt: skip
    special = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}
    config = MarianConfig(
        vocab_size=shape.vocabulary, d_model=shape.width, **sides, **special, forced_eos_token_id=None
    )
    model = MarianMTModel(config).eval()

    def decode(src_ids):
        length = {"min_new_tokens": shape.target, "max_new_tokens": shape.target}
        return model.generate(
            src_ids, attention_mask=src_ids != PAD, num_beams=BEAM_SIZE, length_penalty=0.0, **length
        ).tolist()

    return decode


def seconds_of(decode: Callable, src_ids, repeats: int) -> float:
    """Returns the best of several times, after a warm-up."""
    decode(src_ids[:2])
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        decode(src_ids)
        times.append(time.perf_counter() - started)
    return min(times)


def random_sources(shape: Shape):
    """Returns the ids of the batch."""
    import torch

    words = torch.randint(4, shape.vocabulary, (shape.sentences, shape.source - 2))
    ends = [torch.full((shape.sentences, 1), index) for index in (BOS, EOS)]
    return torch.cat((ends[0], words, ends[1]), dim=1)


def compare_batches(shape: Shape, repeats: int, threads: int) -> None:
    """Prints the tokens a second of what `nemo-distill label` may take, for each batch size."""
    import torch

    model = build_model(shape)
    half = SimpleNamespace(cfg=model.cfg)
    for name in ("encoder", "decoder", "log_softmax"):
        setattr(half, name, copy.deepcopy(getattr(model, name)).bfloat16())
    src_ids, rows = random_sources(shape), []
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        engines = {f"nemo_distill {name}": _in_batches(our_search(one, shape)) for name, one in
                   (("float32", model), ("bfloat16", half))}  # fmt: skip
        for dtype in ("float32", "int8"):  # on a CPU, all others are computed as one of these
            engines[f"CTranslate2 {dtype}"] = ctranslate2_search(model, shape, dtype, Path(folder), threads)
        for name, decode in engines.items():
            times = [seconds_of(partial(decode, batch=batch), src_ids, repeats) for batch in BATCHES]
            rates = [shape.sentences * shape.target / taken for taken in times]
            rows.append((name, rates))
    reference = max(rows[0][1])
    print_table(
        ("engine", *(f"tokens/s, {batch} sentences" for batch in BATCHES), "best, against the first"),
        [(name, *(f"{rate:.0f}" for rate in rates), f"{max(rates) / reference:.1f}x") for name, rates in rows],
    )


def _in_batches(decode: Callable) -> Callable:
    return lambda src_ids, batch=BATCHES[0]: [found for part in src_ids.split(batch) for found in decode(part)]


def compare_random_models(shape: Shape, repeats: int, threads: int) -> dict[str, float]:
    """Times all decoders, prints a table and returns the ratios."""
    import torch

    model, src_ids = build_model(shape), random_sources(shape)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        ours = our_search(model, shape)
        decoders = {
            "NeMo": nemo_search(model, shape, patched=False),
            "NeMo, patched": nemo_search(model, shape, patched=True),
            "Hugging Face generate": hugging_face_search(shape),
            "nemo_distill": ours,
            "CTranslate2 float32": ctranslate2_search(model, shape, "float32", Path(folder), threads),
            "CTranslate2 int8": ctranslate2_search(model, shape, "int8", Path(folder), threads),
        }
        times = {name: seconds_of(decode, src_ids, repeats) for name, decode in decoders.items()}
        together = ours(src_ids)
        alone = [ours(row.unsqueeze(0))[0] for row in src_ids]
    tokens = shape.sentences * shape.target
    print_table(
        ("decoder", "seconds", "tokens/s", "against NeMo's own search, float32"),
        [
            (name, f"{taken:.2f}", f"{tokens / taken:.0f}", f"{times['NeMo'] / taken:.1f}x")
            for name, taken in times.items()
        ],
    )
    return {
        "ours_over_nemo": round(times["NeMo"] / times["nemo_distill"], 2),
        "ours_over_patched_nemo": round(times["NeMo, patched"] / times["nemo_distill"], 2),
        "ct2_float32_over_nemo": round(times["NeMo"] / times["CTranslate2 float32"], 2),
        "ct2_int8_over_nemo": round(times["NeMo"] / times["CTranslate2 int8"], 2),
        "identical_to_batch_1": sum(one == other for one, other in zip(alone, together)) / len(together),
    }


class NeMoInBatches:
    """NeMo's `translate` as it is used, with many sentences in a batch, which mixes them up."""

    def __init__(self, model, batch_size: int = 32):
        self.model, self.batch_size = model, batch_size

    def translate(self, lines: Sequence[str], settings):
        from nemo_distill.decoding.engine import Hypothesis, Translation

        search = self.model.beam_search
        search.beam_size, search.len_pen, search.max_delta_len = settings.beam_size, 0.0, settings.max_delta
        order = sorted(range(len(lines)), key=lambda index: len(lines[index]))
        translations: list[Any] = [None] * len(lines)
        for start in range(0, len(lines), self.batch_size):
            batch = order[start : start + self.batch_size]
            for index, text in zip(batch, self.model.translate([lines[index] for index in batch])):
                translations[index] = Translation((Hypothesis(text, 0.0),))
        return translations


def compare_trained_model(path: str, source: str, reference: str) -> None:
    """Prints words a second, latency and BLEU of each engine with a trained model on a test set."""
    from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
    from nemo_distill.decoding.engines import load_engine
    from nemo_distill.decoding.settings import SearchSettings
    from nemo_distill.metrics.scores import bleu

    lines, references = (Path(file).read_text(encoding="utf-8").splitlines() for file in (source, reference))
    settings = SearchSettings(beam_size=BEAM_SIZE, length_penalty=0.0, max_delta=10)
    nemo: Any = load_engine("nemo", [path])
    engines = {
        "NeMo, one at a time": nemo,
        "NeMo, in batches of 32": NeMoInBatches(nemo.model),
        "nemo_distill": load_engine("nemo_distill", [path]),
        "CTranslate2 float32": CTranslate2Engine.from_nemo(path, "float32"),
        "CTranslate2 int8": CTranslate2Engine.from_nemo(path, "int8"),
        "CTranslate2 int8, one batch": CTranslate2Engine.from_nemo(path, "int8", inter_threads=1, intra_threads=0),
    }
    rows = []
    for name, engine in engines.items():
        engine.translate(lines[:4], settings)
        alone = sorted(_timed(engine, [line], settings)[0] for line in lines[:LATENCIES])
        taken, translations = _timed(engine, lines, settings)
        texts = [translation.text for translation in translations]
        result = bleu(texts, references)
        words = sum(len(text.split()) for text in texts)
        latency = f"{1000 * statistics.median(alone):.0f} / {1000 * alone[int(0.95 * len(alone))]:.0f}"
        rows.append((name, f"{words / taken:.0f}", latency, f"{result.value:.2f}"))
    print_table(("engine", "words/s", "ms alone (median / 95 %)", "sacreBLEU"), rows)
    print(f"\n{result.signature}")


def _timed(engine, lines: Sequence[str], settings) -> tuple[float, list]:
    started = time.perf_counter()
    translations = engine.translate(lines, settings)
    return time.perf_counter() - started, translations


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table in Markdown."""
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller model, once")
    parser.add_argument("--large", action="store_true", help="a large teacher, in batches of several sizes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="a trained .nemo; needs --source and --reference")
    parser.add_argument("--source", help="raw text, a sentence a line")
    parser.add_argument("--reference", help="its translations")
    arguments = parser.parse_args()
    if arguments.model and not (arguments.source and arguments.reference):
        parser.error("--model needs --source and --reference")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    from nemo_distill.console import set_up_console

    set_up_console()
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.model:
        compare_trained_model(arguments.model, arguments.source, arguments.reference)
    elif arguments.large:
        compare_batches(LARGE, 2, arguments.threads)
    else:
        shape, repeats = (QUICK, 1) if arguments.quick else (Shape(), 3)
        print(json.dumps(compare_random_models(shape, repeats, arguments.threads)))


if __name__ == "__main__":
    main()
