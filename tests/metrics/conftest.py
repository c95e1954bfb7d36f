"""A small model in the place of FLORES-200's, which is not in the repository."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece

from nemo_distill.metrics.scores import flores_pieces


@contextlib.contextmanager
def sacrebleu_folder(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in ("nemo_distill.metrics.scores", "sacrebleu.tokenizers.tokenizer_spm"):
            patch.setattr(f"{module}.SACREBLEU_DIR", str(folder))
        yield


@pytest.fixture(scope="session")
def flores_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """FLORES-200's model splits text into characters."""
    folder = tmp_path_factory.mktemp("sacrebleu")
    (folder / "text").write_text("the quick brown fox jumps over the lazy dog 0123456789\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "pieces"),
        vocab_size=40,
        model_type="char",
        minloglevel=2,
    )
    with sacrebleu_folder(folder):
        flores_pieces().parent.mkdir()
        (folder / "pieces.model").rename(flores_pieces())
        yield
