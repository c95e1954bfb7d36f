"""What a user may have lying about: good text, teachers and tokenizers, and bad ones of every kind, all tiny."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import yaml

from tests.conftest import train_sentencepiece, write_corpus

LINES = 40
# A translation model as its config tells it; no case gets as far as its weights.
STACK = {
    "library": "nemo", "hidden_size": 16, "inner_size": 32, "num_layers": 1, "num_attention_heads": 2,
    "max_sequence_length": 64, "mask_future": False,
}  # fmt: skip
MODEL = {
    "target": "nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel",
    "encoder": STACK, "decoder": STACK, "head": {"num_layers": 1, "log_softmax": True}, "shared_embeddings": False,
    "src_language": "ignore", "tgt_language": "ignore",
    "encoder_tokenizer": {"library": "sentencepiece", "tokenizer_model": "nemo:tokenizer.model"},
    "decoder_tokenizer": {"library": "sentencepiece", "tokenizer_model": "nemo:tokenizer.model"},
}  # fmt: skip


def write_nemo(path: Path, config: dict | None, tokenizer: bytes | None = None) -> None:
    """Writes a `.nemo` with that config, that tokenizer and something in place of weights."""
    members = {"model_weights.ckpt": b"no case reads them"}
    if config is not None:
        members["model_config.yaml"] = yaml.safe_dump(config).encode()
    if tokenizer is not None:
        members["tokenizer.model"] = tokenizer
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_files(folder: Path) -> None:
    """Writes all of it into `folder`, which is the working folder of the commands."""
    for seed, name in enumerate(("train", "val", "test")):
        write_corpus(folder, name, LINES, seed)
    _write_odd_text(folder)
    _write_models(folder)
    (folder / "empty.nemo").touch()
    (folder / "text.nemo").write_text("this is no archive\n")
    (folder / "list.json").write_text("[]")
    (folder / "torn.json").write_text('{"systems": ')
    (folder / "taken.en").write_text("a translation that took hours\n")
    (folder / "plain.model").write_text("no tokenizer\n")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("something dear\n")
    _write_folders(folder)


def _write_odd_text(folder: Path) -> None:
    lines = (folder / "train.de").read_bytes().splitlines()

    def odd(name: str, third_line: bytes, end: bytes = b"\n") -> None:
        (folder / f"{name}.de").write_bytes(end.join([*lines[:2], third_line, *lines[3:]]) + end)

    odd("windows", lines[2], end=b"\r\n")
    odd("latin1", "Hund für".encode("latin-1"))
    odd("long", b"Hund " * 20_000)
    odd("line_separator", "Hund\u2028rot".encode())
    (folder / "short.de").write_bytes(b"\n".join(lines[:-1]) + b"\n")
    (folder / "empty.de").touch()
    (folder / "torn.de.gz").write_bytes(gzip.compress((folder / "train.de").read_bytes())[:-20])


def _write_models(folder: Path) -> None:
    both = folder / "both.txt"
    both.write_text((folder / "train.de").read_text() + (folder / "train.en").read_text())
    tokenizer = train_sentencepiece(folder / "tokenizer", both, vocab_size=60).read_bytes()
    # As many pieces as the teacher's, but one of them another.
    swapped = tokenizer.replace("\u2581red".encode(), "\u2581rex".encode())
    assert swapped != tokenizer
    (folder / "swapped.model").write_bytes(swapped)
    write_nemo(folder / "teacher.nemo", MODEL, tokenizer)
    write_nemo(folder / "without_config.nemo", None, tokenizer)
    write_nemo(folder / "speech.nemo", {**MODEL, "target": "nemo.collections.asr.models.EncDecCTCModel"}, tokenizer)
    write_nemo(folder / "evil.nemo", {**MODEL, "loss": {"_target_": "os.system", "command": "true"}}, tokenizer)


def _write_folders(folder: Path) -> None:
    (folder / "cache").mkdir()
    (folder / "cache" / "settings.json").write_text(json.dumps({"settings": {}}))
    (folder / "labels").mkdir()
    (folder / "labels" / "settings.json").write_text(json.dumps({"settings": {"engine": "nemo"}}))
    (folder / "mixed.src").write_text("not of a mix\n")
    (folder / "runs" / "one").mkdir(parents=True)
    (folder / "runs" / "one" / "run.json").write_text("{")
