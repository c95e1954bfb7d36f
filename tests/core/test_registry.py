import pytest
import torch

from nemo_distill.core.registry import DistillationRegistry, Role

BOTH = {(role, "log_probs") for role in Role}


def test_what_no_loss_wants_is_not_kept():
    registry = DistillationRegistry(BOTH)
    registry.register(Role.STUDENT, "hidden_states", torch.ones(1))
    with pytest.raises(KeyError, match="student did not register 'hidden_states'"):
        registry.get(Role.STUDENT, "hidden_states")


def test_roles_are_kept_apart():
    registry = DistillationRegistry(BOTH)
    registry.register(Role.TEACHER, "log_probs", torch.ones(1))
    registry.register(Role.STUDENT, "log_probs", torch.zeros(1))
    assert registry.get(Role.TEACHER, "log_probs").item() == 1
    assert registry.get(Role.STUDENT, "log_probs").item() == 0


def test_what_a_loss_wants_of_one_role_is_not_kept_of_the_other():
    registry = DistillationRegistry({(Role.STUDENT, "nll")})
    for role in Role:
        registry.register(role, "nll", torch.ones(1))
    assert registry.get(Role.STUDENT, "nll").item() == 1
    with pytest.raises(KeyError, match="teacher did not register 'nll'"):
        registry.get(Role.TEACHER, "nll")


def test_a_name_registered_twice_in_a_step_is_refused():
    registry = DistillationRegistry(BOTH)
    registry.register(Role.TEACHER, "log_probs", torch.ones(1))
    with pytest.raises(RuntimeError, match="teacher registered 'log_probs' twice"):
        registry.register(Role.TEACHER, "log_probs", torch.ones(1))


def test_of_several_teachers_all_must_have_a_distribution():
    registry = DistillationRegistry(BOTH)
    for pairs in ([True, True, False, False], [True, False, True, False]):
        registry.register_pairs(torch.tensor([pairs]))
    assert registry.mask("log_probs").tolist() == [[True, False, False, False]]


def test_a_mask_of_weights_keeps_them_where_the_teacher_has_a_distribution():
    registry = DistillationRegistry({(Role.STUDENT, "log_probs")})
    registry.register_mask("log_probs", torch.tensor([[0.5, 0.5, 0.0], [3.0, 3.0, 3.0]]))
    registry.register_pairs(torch.tensor([[True, False, True], [True, True, False]]))
    assert torch.equal(registry.mask("log_probs"), torch.tensor([[0.5, 0.0, 0.0], [3.0, 3.0, 0.0]]))
