import gzip
import json
from dataclasses import replace

import pytest
import sentencepiece
from nemo.collections.common.tokenizers.sentencepiece_tokenizer import create_spt_model

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_section
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.tokenizer_training import TokenizerJob, TokenizerTraining, train_tokenizer
from tests.conftest import write_corpus


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("text"), "train", 200, seed=3)


@pytest.fixture
def job(texts, tmp_path):
    """Returns a job with some settings of its tokenizer."""

    def make(**settings):
        training = TokenizerTraining(**{"vocab_size": 50, **settings})
        return TokenizerJob(tmp_path / "a b;$(c)" / "own.model", texts, training, LinePolicy())

    return make


def pieces(path):
    return read_vocabulary(path).pieces


def test_the_tokenizer_is_the_one_that_nemo_trains_on_both_files(job, texts, tmp_path):
    (tmp_path / "both.txt").write_bytes(b"".join(path.read_bytes() for path in texts))
    nemos, _ = create_spt_model(
        str(tmp_path / "both.txt"), 50, -1, False, "bpe", str(tmp_path / "nemo"), 0.999, bos=True, eos=True, pad=True
    )
    one = job()
    record = train_tokenizer(one)
    assert pieces(one.model) == pieces(nemos) and record["pieces"] == 50
    assert read_vocabulary(one.model).special_ids == {"pad": 3, "unk": 0, "bos": 1, "eos": 2}


def test_symbols_are_never_split_and_language_tags_never_come_from_text(job):
    one = replace(job(special_tokens={"pad_token": "<pad>", "x": "<a, b>"}), control_symbols=["<fr>"])
    train_tokenizer(one)
    model = sentencepiece.SentencePieceProcessor(model_file=str(one.model))
    assert "<a,▁b>" in model.encode("der <a, b> rot", out_type=str)
    assert model.piece_to_id("<fr>") != model.unk_id() and "<fr>" not in model.encode("der <fr>", out_type=str)


def test_packed_text_and_odd_lines_are_read_and_a_sample_is_the_same_every_time(job, texts, tmp_path):
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(texts[0].read_bytes() + b"\n\xff\n\0\n" + b"Hund " * 1500 + b"\n"))
    one = replace(job(training_sample_size=30), texts=[packed, texts[1]], policy=LinePolicy(max_characters=10_000))
    record = train_tokenizer(one)
    first = one.model.read_bytes()
    one.model.unlink()
    assert train_tokenizer(one) == record and record["lines"] == 30
    assert one.model.read_bytes() == first


def test_a_text_that_is_too_small_gives_fewer_pieces(job):
    assert 20 < train_tokenizer(job(vocab_size=1000))["pieces"] <= 100


@pytest.mark.parametrize("letter", ["，", "ำ", "\u200c", "。", "é"])
def test_characters_that_no_translation_can_have_are_told(letter, job, texts, tmp_path, caplog):
    own = tmp_path / "own.txt"
    own.write_text(f"der{letter}Hund\u00a0sieht …\n" * 10 + "der Hund\n" * 190, encoding="utf-8")
    train_tokenizer(replace(job(), texts=[*texts, own]))
    told = [message for message in caplog.messages if "normalization" in message]
    assert (
        len(told) == 1 and str(own) in told[0] and "'…' (U+2026) as '...'" in told[0] and "5% of the lines" in told[0]
    )
    assert (f"U+{ord(letter):04X}" in told[0]) == (letter not in "。é") and "U+00A0" not in told[0]


@pytest.mark.parametrize("library", ["sentencepiece", "yttm"])
def test_too_few_pieces_for_the_characters_are_told_with_the_number_needed(job, library):
    if library == "yttm":
        pytest.importorskip("youtokentome", reason="the extra [yttm] is not installed")
    with pytest.raises(DataError, match=r"vocab_size=9 is too small.* at least [23]\d pieces"):
        train_tokenizer(job(vocab_size=9, library=library))


def test_text_without_any_line_is_told(job, tmp_path):
    (tmp_path / "blank").write_text("\n \n\u200b\n")
    with pytest.raises(DataError, match="blank' has no line to train a tokenizer on: 3 empty$"):
        train_tokenizer(replace(job(), texts=[tmp_path / "blank"]))


def test_youtokentome_has_nemos_special_ids(job):
    pytest.importorskip("youtokentome", reason="the extra [yttm] is not installed")
    one = job(library="yttm", vocab_size=40)
    assert train_tokenizer(one)["pieces"] == 40
    assert read_vocabulary(one.model).special_ids == {"pad": 0, "unk": 1, "bos": 2, "eos": 3}
    assert sorted(path.name for path in one.model.parent.iterdir()) == [".lock", "own.json", "own.model"]


def test_a_tokenizer_of_other_text_or_settings_is_refused_by_name(job, texts, tmp_path):
    record = train_tokenizer(job())
    assert train_tokenizer(job()) == record
    for other, said in (
        (job(vocab_size=40), "vocab_size was 50 and is 40"),
        (job(coverage=0.99), "coverage was 0.999 and is 0.99"),
        (replace(job(), texts=texts[:1]), "text.2 train.en was"),
    ):
        with pytest.raises(DataError, match=f"own.json' was made with other settings: .*{said}"):
            train_tokenizer(other)
    assert train_tokenizer(job(vocab_size=40), overwrite=True)["pieces"] == 40
    assert len(pieces(job().model)) == 40


def test_a_tokenizer_without_a_record_or_that_was_changed_is_refused(job):
    one = job()
    train_tokenizer(one)
    one.model.write_bytes(one.model.read_bytes() + b" ")
    with pytest.raises(DataError, match="own.model' does not match its record"):
        train_tokenizer(one)
    one.work.finished_path.unlink()
    with pytest.raises(DataError, match="own.model' has no record of the text"):
        train_tokenizer(one)
    assert json.loads(one.work.finished_path.read_text() if train_tokenizer(one, overwrite=True) else "")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"vocab_size": 0}, "t.vocab_size=0: must be null or a whole number of at least 1."),
        ({"training_sample_size": 0}, "t.training_sample_size=0: must be -1 or a whole number of at least 1."),
        ({"coverage": 2}, "t.coverage=2: must be a number above 0 and at most 1."),
        ({"coverage": 0.5}, "t.coverage=0.5: sentencepiece takes at least 0.98."),
        ({"special_tokens": ["a", ""]}, "t.special_tokens=['a', '']: must not contain an empty string."),
        ({"library": "yttm", "special_tokens": ["a"]}, "t.special_tokens=['a']: youtokentome has none"),
        ({"special_tokens": 3}, "t.special_tokens=3: must be"),
    ],
)
def test_each_mistake_is_told(values, sentence):
    _, (problem,) = read_section(TokenizerTraining, values, "t")
    assert problem.startswith(sentence)
