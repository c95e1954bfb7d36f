import torch

from tests.decoding.conftest import pad, sources


def test_step_by_step_it_gives_the_log_probabilities_of_the_whole_forward(model):
    from nemo_distill.decoding.cached_decoder import CachedDecoder

    ids, mask = pad(sources(model, 3, seed=0), model.encoder_tokenizer.pad_id)
    targets = torch.randint(4, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    whole = model(ids, mask, targets, torch.ones_like(targets))
    decoder = CachedDecoder(model)
    state = decoder.start(ids, mask)
    for position in range(7):
        step = decoder.step(state, targets[:, position : position + 1]).log_softmax(-1)[:, 0]
        assert torch.allclose(step, whole[:, position], atol=1e-9), position
