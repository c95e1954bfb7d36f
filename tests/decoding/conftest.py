"""Random models whose outputs differ, and sentences for them."""

import pytest
import torch

from tests.conftest import tiny_config

SHAPES = {
    "post_ln": {},
    "pre_ln": {"pre_ln": True},
    "pre_ln_without_final_norm": {"pre_ln": True, "pre_ln_final_layer_norm": False},
    "learned_positions_gelu": {"learn_positional_encodings": True, "hidden_act": "gelu", "num_layers": 2},
}


def peaked(model, seed, eos_bias):
    """Draws weights so large that the model prefers some tokens to others, the end of the sentence among them.

    Padding and the unknown word are out of the question, as NeMo's search would generate them.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    bias, tokenizer = model.log_softmax.mlp.layer0.bias.data, model.decoder_tokenizer
    bias[tokenizer.eos_id], bias[tokenizer.pad_id], bias[tokenizer.unk_id] = eos_bias, -1e4, -1e4
    return model


@pytest.fixture(scope="module", params=SHAPES)
def model(request, tokenizer):
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    config = tiny_config(tokenizer, seed_size=SHAPES[request.param])
    model = (
        peaked(MTEncDecModel(config), seed=3, eos_bias=7.0 if config.decoder.pre_ln_final_layer_norm else 30.0)
        .eval()
        .double()
    )
    return model.requires_grad_(False)


def sources(model, count, seed, longest=12):
    generator = torch.Generator().manual_seed(seed)
    tokenizer = model.encoder_tokenizer
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    words = [torch.randint(4, tokenizer.vocab_size, (length,), generator=generator) for length in lengths]
    return [[tokenizer.bos_id, *ids.tolist(), tokenizer.eos_id] for ids in words]


def pad(rows, pad_id, padded_to=0):
    """Returns ids and mask, as wide as the longest row or wider."""
    width = max(padded_to, *map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
