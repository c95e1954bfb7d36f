"""Models whose every parameter matters, and exports of them."""

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from tests.conftest import tiny_config, train_sentencepiece

GELU = {"hidden_act": "gelu"}
PRE_LN = {"pre_ln": True}
NO_FINAL_NORM = {"pre_ln": True, "pre_ln_final_layer_norm": False}
LEARNED = {"learn_positional_encodings": True}


@pytest.fixture(scope="session")
def english_tokenizer(corpus):
    """A sentencepiece model with another vocabulary, and other special ids, than `tokenizer`."""
    return train_sentencepiece(corpus / "english", corpus / "train.en", vocab_size=45, pad_id=0, unk_id=3)


def random_model(encoder, decoder, source_tokenizer, target_tokenizer, shared):
    """A model none of whose parameters has the value that it would start with, so that none can be left out."""
    from nemo_distill import DistillableMTEncDecModel

    config = tiny_config(source_tokenizer)
    config.decoder_tokenizer.tokenizer_model = str(target_tokenizer)
    config.shared_embeddings = shared
    config.encoder = OmegaConf.merge(config.encoder, encoder)
    config.decoder = OmegaConf.merge(config.decoder, decoder)
    torch.manual_seed(4)
    model = DistillableMTEncDecModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_ids(tokenizer, lengths, seed):
    """Lists of ids without special ones."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, tokenizer.vocab_size, (length,), generator=generator).tolist() for length in lengths]


def nemo_log_probs(model, source, target):
    """NeMo's log-probabilities of the tokens of one target and its end, as lists of ids without special ones."""
    sides = SimpleNamespace(source=model.encoder_tokenizer, target=model.decoder_tokenizer)
    src = torch.tensor([[sides.source.bos_id, *source, sides.source.eos_id]])
    tgt = torch.tensor([[sides.target.bos_id, *target]])
    labels = torch.tensor([*target, sides.target.eos_id])
    log_probs = model(src, torch.ones_like(src), tgt, torch.ones_like(tgt))  # (1, T, V)
    return log_probs[0].gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (T,)
