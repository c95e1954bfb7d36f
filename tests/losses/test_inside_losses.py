"""Losses on hidden states and attention maps of several layers."""

import pytest
import torch

from nemo_distill.losses import AttentionMapsLoss, CosineEmbeddingLoss, MeanSquaredErrorLoss


def states(count, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, width, generator=generator) for _ in range(count)]


MASK = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()


def test_pairs_are_averaged_and_embeddings_are_not_taken_for_layer_one():
    student, teacher = states(3, 4, seed=0), states(5, 4, seed=1)
    loss = MeanSquaredErrorLoss("decoder_layers", layers="uniform")
    loss.prepare([4] * 3, [4] * 5)
    expected = [((student[i] - teacher[j]) ** 2)[MASK].mean() for i, j in ((1, 2), (2, 4))]
    assert loss(student, teacher, MASK).item() == pytest.approx(sum(expected).item() / 2, rel=1e-5)


def test_all_layers_are_compared_where_a_model_tells_no_widths():
    """Unprepared, it compared the embeddings alone."""
    student, teacher = states(3, 4, seed=0), states(5, 4, seed=1)
    prepared, other = (MeanSquaredErrorLoss("decoder_layers", include_embeddings=True) for _ in range(2))
    prepared.prepare([4] * 3, [4] * 5)
    assert torch.equal(other(student, teacher, MASK), prepared(student, teacher, MASK))


def test_embeddings_are_compared_where_asked():
    student, teacher = states(2, 4, seed=0), states(2, 4, seed=1)
    loss = MeanSquaredErrorLoss("decoder_layers", include_embeddings=True)
    loss.prepare([4] * 2, [4] * 2)
    expected = [((student[i] - teacher[i]) ** 2)[MASK].mean() for i in (0, 1)]
    assert loss(student, teacher, MASK).item() == pytest.approx(sum(expected).item() / 2, rel=1e-5)


def test_each_pair_of_different_widths_has_its_own_projection_of_the_student():
    loss = MeanSquaredErrorLoss("encoder_layers")
    loss.prepare([4, 4, 4], [6, 6, 6])
    assert [tuple(projection.weight.shape) for projection in loss.projections] == [(6, 4), (6, 4)]
    student, teacher = states(3, 4, seed=0), states(3, 6, seed=1)
    found = loss(student, teacher, MASK)
    projected = [student[i] @ loss.projections[i - 1].weight.T for i in (1, 2)]
    expected = [((ours - theirs) ** 2)[MASK].mean() for ours, theirs in zip(projected, teacher[1:])]
    assert found.item() == pytest.approx(sum(expected).item() / 2, rel=1e-5)
    found.backward()
    assert all(projection.weight.grad.abs().sum() > 0 for projection in loss.projections)


def test_equal_widths_need_no_parameters():
    loss = CosineEmbeddingLoss("decoder_hidden_states")
    loss.prepare([4], [4])
    assert not list(loss.parameters())


def maps(heads, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, heads, 3, 5, generator=generator).softmax(-1)


def test_attention_is_compared_head_by_head_where_the_heads_are_as_many():
    student, teacher = maps(2, seed=0), maps(2, seed=1)
    expected = (teacher * (teacher / student).log()).sum(-1).mean(1)[MASK].mean()
    assert AttentionMapsLoss()([student], [teacher], MASK).item() == pytest.approx(expected.item(), rel=1e-4)


def test_attention_is_averaged_over_the_pairs_of_layers():
    student, teacher = [maps(2, seed) for seed in (0, 1)], [maps(2, seed) for seed in (2, 3, 4, 5)]
    pairs = [(student[ours], teacher[theirs]) for ours, theirs in ((0, 1), (1, 3))]
    expected = sum((q * (q / p).log()).sum(-1).mean(1)[MASK].mean() for p, q in pairs) / 2
    assert AttentionMapsLoss()(student, teacher, MASK).item() == pytest.approx(expected.item(), rel=1e-4)


def test_attention_is_averaged_over_heads_where_they_are_not():
    student, teacher = maps(2, seed=0), maps(4, seed=1)
    p, q = student.mean(1), teacher.mean(1)
    expected = (q * (q / p).log()).sum(-1)[MASK].mean()
    assert AttentionMapsLoss()([student], [teacher], MASK).item() == pytest.approx(expected.item(), rel=1e-4)


def test_keys_that_a_mask_hides_give_no_infinite_loss():
    hidden = maps(2, seed=0).clone()
    hidden[..., 3:] = 0.0
    assert AttentionMapsLoss()([hidden], [maps(2, seed=1)], MASK).isfinite()


def test_embeddings_have_no_attention():
    with pytest.raises(ValueError, match="pairs layer 0, the embeddings, which have no attention"):
        AttentionMapsLoss(layers=[[0, 1]]).prepare([2], [2])
