"""Tiny corpora, tokenizers and models, made on the fly and shared by all tests."""

import os
import random
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import sentencepiece
from omegaconf import DictConfig, OmegaConf

from nemo_distill.core.console import set_up_console

set_up_console()

REPOSITORY = Path(__file__).parent.parent
SCRIPTS = REPOSITORY / "examples" / "nlp" / "machine_translation"
WORDS = {"der": "the", "Hund": "dog", "Mann": "man", "sieht": "sees", "rot": "red", "Haus": "house", "und": "and"}
TINY_SIZE = {
    "hidden_size": 16,
    "inner_size": 32,
    "num_layers": 1,
    "num_attention_heads": 2,
    "max_sequence_length": 64,
}


def write_corpus(folder: Path, name: str, lines: int, seed: int) -> tuple[Path, Path]:
    """Writes `name.de` and `name.en`: random words and their translations, in order."""
    generator = random.Random(seed)
    source, target = folder / f"{name}.de", folder / f"{name}.en"
    sentences = [generator.choices(list(WORDS), k=generator.randint(2, 8)) for _ in range(lines)]
    source.write_text("".join(" ".join(words) + "\n" for words in sentences), encoding="utf-8")
    target.write_text("".join(" ".join(WORDS[w] for w in words) + "\n" for words in sentences), encoding="utf-8")
    return source, target


def train_sentencepiece(prefix: Path, text: Path, vocab_size: int = 60, pad_id: int = 3) -> Path:
    """Trains a small BPE tokenizer with the special tokens that NeMo needs."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(prefix),
        vocab_size=vocab_size,
        model_type="bpe",
        pad_id=pad_id,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


def tiny_config(tokenizer: Path, corpus: Path | None = None, seed_size: dict | None = None) -> DictConfig:
    """A translation model's config of the smallest size; with data sets if `corpus` is a folder with train and val."""
    base = OmegaConf.load(SCRIPTS / "conf" / "aayn_base.yaml").model
    size = TINY_SIZE | (seed_size or {})
    model = OmegaConf.merge(
        base,
        {
            "src_language": "ignore",
            "tgt_language": "ignore",
            "beam_size": 1,
            "shared_embeddings": True,
            "encoder_tokenizer": {"tokenizer_model": str(tokenizer)},
            "decoder_tokenizer": {"tokenizer_model": str(tokenizer)},
            "encoder": size,
            "decoder": size,
        },
    )
    data = {name: model.pop(name) for name in ("train_ds", "validation_ds", "test_ds")}
    if corpus is not None:
        for section, name in (("train_ds", "train"), ("validation_ds", "val")):
            files = {"src_file_name": str(corpus / f"{name}.de"), "tgt_file_name": str(corpus / f"{name}.en")}
            model[section] = OmegaConf.merge(data[section], files, {"num_workers": 0, "tokens_in_batch": 128})
    return model


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, val and test, each in .de and .en."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, (name, lines) in enumerate({"train": 64, "val": 8, "test": 8}.items()):
        write_corpus(folder, name, lines, seed)
    return folder


@pytest.fixture(scope="session")
def tokenizer(corpus: Path) -> Path:
    """A sentencepiece model that knows both languages of the corpus."""
    text = corpus / "both.txt"
    text.write_text((corpus / "train.de").read_text() + (corpus / "train.en").read_text(), encoding="utf-8")
    return train_sentencepiece(corpus / "tokenizer", text)


@pytest.fixture(scope="session")
def teacher_path(corpus: Path, tokenizer: Path) -> Path:
    """An untrained teacher's .nemo, with weights drawn from a fixed seed."""
    import torch

    from nemo_distill import DistillableMTEncDecModel

    torch.manual_seed(1)
    path = corpus / "teacher.nemo"
    DistillableMTEncDecModel(tiny_config(tokenizer)).save_to(str(path))
    return path


@pytest.fixture
def distillation_config(corpus: Path, tokenizer: Path, teacher_path: Path) -> DictConfig:
    """The `model` section of a distillation, of the study's shape, with every loss on."""
    model = tiny_config(tokenizer, corpus)
    model.label_smoothing = 0.0
    study = OmegaConf.load(SCRIPTS / "conf" / "aayn_base_distill.yaml").model.distillation
    weights = {"student_train_loss_weight": 0.5, "cosine_loss_weight": 0.25, "temperature": 2.0}
    model.distillation = OmegaConf.merge(study, weights, {"model_path": str(teacher_path), "distill_encoder": True})
    return model
