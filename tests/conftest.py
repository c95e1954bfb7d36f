"""Tiny corpora, tokenizers and models, made on the fly and shared by all tests."""

import copy
import functools
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import hypothesis
import pytest
import sentencepiece
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nemo_distill import progress
from nemo_distill.console import console, set_up_console

set_up_console()
# Properties: the same few cases every time, or with HYPOTHESIS_PROFILE=long many, and others each time.
hypothesis.settings.register_profile("short", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("long", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

REPOSITORY = Path(__file__).parent.parent
SCRIPTS = REPOSITORY / "examples" / "nlp" / "machine_translation"
WORDS = {"der": "the", "Hund": "dog", "Mann": "man", "sieht": "sees", "rot": "red", "Haus": "house", "und": "and"}
# Files and folders that take minutes, the longest first.
LONG = (
    "examples/test_scripts.py",
    "interruption",
    "test_installation.py",
    "commands/test_training.py",
    "commands",
    "models",
)
TINY_SIZE = {
    "hidden_size": 16,
    "inner_size": 32,
    "num_layers": 1,
    "num_attention_heads": 2,
    "max_sequence_length": 64,
}

NO_DROPOUT = dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), 0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts long files first, so that no processor is idle while another one ends with a long file."""
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).as_posix()
        return next((rank for rank, start in enumerate(LONG) if name.startswith(start)), len(LONG))

    items.sort(key=rank)


def composed(name: str, *overrides: str) -> DictConfig:
    """The configuration that a file of `conf/` and overrides make."""
    with initialize_config_dir(str(SCRIPTS / "conf"), version_base=None):
        return compose(name, list(overrides))


class Pickled:
    """Is pickled as what it is given: what is called to read it, and with which arguments."""

    def __init__(self, *reduced: Any):
        self.reduced = reduced

    def __reduce__(self) -> tuple:
        return self.reduced


class Harm(Pickled):
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        super().__init__(os.mkdir, (str(folder),))


def changed_archive(source: Path, path: Path, part: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of a `.nemo` in which the members with `part` in their names are changed."""
    with tarfile.open(source) as old, tarfile.open(path, "w") as new:
        for member in filter(tarfile.TarInfo.isfile, old.getmembers()):
            content = old.extractfile(member).read()
            content = change(content) if part in member.name else content
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return path


def changed_weights(source: Path, path: Path, change: Callable[[dict], dict]) -> Path:
    """A copy of a `.nemo` with other weights."""
    import torch

    def rewrite(content: bytes) -> bytes:
        stream = io.BytesIO()
        torch.save(change(torch.load(io.BytesIO(content), weights_only=True)), stream)
        return stream.getvalue()

    return changed_archive(source, path, "weights", rewrite)


def batch_of_lines(model: Any, sources: list[str], targets: list[str]) -> tuple:
    """A batch as NeMo makes it with the tokenizers of a model: source ids, their mask, target ids, their mask, labels."""
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    tokenizers = {"encoder_tokenizer": model.encoder_tokenizer, "decoder_tokenizer": model.decoder_tokenizer}
    (src, src_mask), (tgt, tgt_mask) = (
        MTEncDecModel.prepare_inference_batch(lines, target=target, **tokenizers)
        for lines, target in ((sources, False), (targets, True))
    )
    return src, src_mask, tgt[:, :-1], tgt_mask[:, :-1], tgt[:, 1:]


def write_corpus(folder: Path, name: str, lines: int, seed: int) -> tuple[Path, Path]:
    """Writes `name.de` and `name.en`: random words and their translations, in order."""
    generator = random.Random(seed)
    source, target = folder / f"{name}.de", folder / f"{name}.en"
    sentences = [generator.choices(list(WORDS), k=generator.randint(2, 8)) for _ in range(lines)]
    source.write_text("".join(" ".join(words) + "\n" for words in sentences), encoding="utf-8")
    target.write_text("".join(" ".join(WORDS[w] for w in words) + "\n" for words in sentences), encoding="utf-8")
    return source, target


def train_sentencepiece(prefix: Path, text: Path, vocab_size: int = 60, **options: Any) -> Path:
    """Trains a small tokenizer with the special tokens that NeMo needs, a BPE model unless `options` name another."""
    options = {"model_type": "bpe", "pad_id": 3, "hard_vocab_limit": False, "minloglevel": 2, **options}
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(prefix), vocab_size=vocab_size, **options
    )
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session", autouse=True)
def files_need_not_survive_a_power_cut() -> Iterator[None]:
    """Waiting until each of thousands of small files is on the disk takes longer than writing them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def configurations_are_read_once() -> Iterator[None]:
    """Reading the same files again takes Hydra a third of a composition, and tests compose hundreds of times."""
    read, known = OmegaConf.load, {}

    def load(file: Any) -> Any:
        if not isinstance(file, io.TextIOWrapper):
            return read(file)
        state = os.fstat(file.fileno())
        version = (state.st_dev, state.st_ino, state.st_mtime_ns)
        if version not in known:
            known[version] = read(file)
        return copy.deepcopy(known[version])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load))
        yield


@functools.cache
def loaded(name: str) -> DictConfig:
    """A file of `conf/` by itself. It must not be changed, because it is read once."""
    return OmegaConf.load(SCRIPTS / "conf" / f"{name}.yaml")


def tiny_config(tokenizer: Path, corpus: Path | None = None, seed_size: dict | None = None) -> DictConfig:
    """A translation model's config of the smallest size; with data sets if `corpus` is a folder with train and val."""
    base = loaded("aayn_base").model
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


@pytest.fixture
def caplog(caplog):
    """Sees our messages as well; before pytest 9.2 it sees only those of loggers that propagate them."""
    console.addHandler(caplog.handler)
    yield caplog
    console.removeHandler(caplog.handler)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type:
    """The time that progress is measured by, which stands still until a test moves `now`."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What a test compiles and sets is neither counted nor used by another one."""
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):
        yield
    torch._dynamo.reset()
    counters.clear()


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


@pytest.fixture(scope="session")
def yttm_tokenizer(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A youtokentome model that knows both languages of the corpus."""
    youtokentome = pytest.importorskip("youtokentome", reason="the extra [yttm] is not installed")
    path = tmp_path_factory.mktemp("yttm") / "yttm.model"
    youtokentome.BPE.train(data=str(tokenizer.parent / "both.txt"), model=str(path), vocab_size=50)
    return path


def reversing_sentences(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Random words, and their translations from the last to the first."""
    generator = random.Random(seed)
    sentences = [generator.choices(list(WORDS), k=generator.randint(2, 8)) for _ in range(count)]
    return [" ".join(words) for words in sentences], [" ".join(WORDS[w] for w in words[::-1]) for words in sentences]


@pytest.fixture(scope="session")
def trained_path(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .nemo of a model that some seconds have taught to translate words in reverse order, not without mistakes."""
    import torch

    from nemo_distill import DistillableMTEncDecModel

    torch.manual_seed(0)
    config = tiny_config(tokenizer, seed_size={"hidden_size": 32, "inner_size": 64, "pre_ln": True, **NO_DROPOUT})
    model = DistillableMTEncDecModel(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(250):
        *inputs, labels = batch_of_lines(model, *reversing_sentences(64, seed=step))
        log_probs = model(*inputs)
        optimizer.zero_grad()
        model.loss_fn(log_probs=log_probs, labels=labels).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "trained.nemo"
    model.eval().save_to(str(path))
    return path


@pytest.fixture
def distillation_config(corpus: Path, tokenizer: Path, teacher_path: Path) -> DictConfig:
    """The `model` section of a distillation, of the study's shape, with every loss on."""
    model = tiny_config(tokenizer, corpus)
    model.label_smoothing = 0.0
    study = loaded("aayn_base_distill").model.distillation
    weights = {"student_train_loss_weight": 0.5, "cosine_loss_weight": 0.25, "temperature": 2.0}
    model.distillation = OmegaConf.merge(study, weights, {"model_path": str(teacher_path), "distill_encoder": True})
    return model
