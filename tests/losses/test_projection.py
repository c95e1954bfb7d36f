"""Logits, made in new memory or in memory that was reserved."""

import pytest
import torch

from nemo_distill.losses.projection import Projection


def projection(dtype, with_bias):
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((6, 3), (5, 3), (5,)))
    return Projection(states, weight, bias if with_bias else None)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_logits_in_reserved_memory_are_those_in_new_memory(dtype, with_bias):
    new = projection(dtype, with_bias)
    reserved = new.reserve(4)
    for tokens in (slice(0, 4), slice(4, 6)):
        logits, expected = (one.select((torch.arange(6)[tokens],)).project().values for one in (reserved, new))
        assert logits.data_ptr() == reserved.memory.data_ptr()
        assert logits.dtype == expected.dtype == torch.promote_types(dtype, torch.float32)
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_log_probabilities_take_the_place_of_the_logits(temperature):
    logits = projection(torch.float64, True).project()
    expected = torch.log_softmax(logits.values / temperature, dim=-1)
    found = logits.select(slice(1, 3)).tempered_log_probs(temperature)
    torch.testing.assert_close(found, expected[1:3])
    assert torch.equal(logits.values[1:3], found)
