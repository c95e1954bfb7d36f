from itertools import product

import torch

from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.registry import DistillationRegistry, Role


class Model(DistillationMixin):
    def forward(self, logits):
        self.distillation_registration_step(logits=logits, hidden_states=logits)
        return logits


def test_outside_distillation_nothing_happens():
    model = Model()
    assert not model.is_being_distilled() and not model.is_student_model()
    model.forward(torch.ones(1, 3))


def test_log_probs_are_registered_at_the_temperature_and_the_rest_as_it_is():
    registry = DistillationRegistry(product(Role, ["log_probs", "hidden_states"]), temperature=4.0)
    model, logits = Model(), torch.tensor([[1.0, 2.0, 6.0]])
    with model.distillation_pass(Role.STUDENT, registry):
        assert model.is_student_model()
        model.forward(logits)
    assert torch.allclose(registry.get(Role.STUDENT, "log_probs"), (logits / 4).log_softmax(-1))
    assert registry.get(Role.STUDENT, "hidden_states") is logits


def test_logits_and_their_log_softmax_give_the_same_tempered_distribution():
    model, logits = Model(), torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    with model.distillation_pass(Role.TEACHER, DistillationRegistry(product(Role, ["log_probs"]), temperature=3.0)):
        from_logits = model.tempered_log_probs(logits)
        from_log_probs = model.tempered_log_probs(logits.log_softmax(-1), is_normalized=True)
    assert torch.allclose(from_logits, from_log_probs, atol=1e-6)


def test_log_probabilities_that_half_precision_has_rounded_are_normalized_anew():
    model, rounded = Model(), torch.randn(4, 60, generator=torch.Generator().manual_seed(0)).log_softmax(-1).bfloat16()
    with model.distillation_pass(Role.TEACHER, DistillationRegistry(product(Role, ["log_probs"]))):
        sums = model.tempered_log_probs(rounded, is_normalized=True).exp().sum(-1)
        kept = model.tempered_log_probs(rounded.float(), is_normalized=True)
    assert torch.allclose(sums, torch.ones(4), atol=1e-5) and torch.equal(kept, rounded.float())
    assert not torch.allclose(kept.exp().sum(-1), torch.ones(4), atol=1e-4)


def test_the_role_ends_with_the_pass_even_if_the_forward_fails():
    model = Model()
    try:
        with model.distillation_pass(Role.TEACHER, DistillationRegistry(set())):
            raise ValueError
    except ValueError:
        pass
    assert not model.is_being_distilled()


def test_two_distillations_do_not_see_each_other():
    first, second = (DistillationRegistry(product(Role, ["log_probs"])) for _ in range(2))
    teacher, student = Model(), Model()
    with teacher.distillation_pass(Role.TEACHER, first), student.distillation_pass(Role.TEACHER, second):
        teacher.forward(torch.zeros(1, 2))
        student.forward(torch.tensor([[0.0, 9.0]]))
    assert first.get(Role.TEACHER, "log_probs")[0, 0] > second.get(Role.TEACHER, "log_probs")[0, 0]
