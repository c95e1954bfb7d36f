"""Training on the student's own translations: which they are, what the teacher says of them, and when."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.config.section import read_section
from nemo_distill.core.loss_terms import checked_loss_terms
from nemo_distill.decoding.search import Found, SpecialIds
from nemo_distill.models.distillation_section import REGISTERED_TENSORS, TranslationDistillation
from nemo_distill.models.on_policy import OnPolicy, target_tensors
from tests.conftest import NO_DROPOUT, tiny_config
from tests.models.conftest import distill, distillation_of

PAD, BOS, EOS = 3, 1, 2
TARGET = "nemo_distill.losses."
KL = {"primary": {"_target_": f"{TARGET}KLDivergenceLoss"}}
SELECTIVE = {"words": {"_target_": f"{TARGET}SelectiveDistillationLoss", "queue_size": 0}}
RISING = {"schedule": "linear", "start": 0.0, "end": 1.0, "steps": 100}


def test_targets_are_shifted_translations_and_empty_ones_have_no_labels():
    found = [Found([7, 8], 0.0, True), Found([], 0.0, True), Found([5, 6], 0.0, False)]
    tgt_ids, tgt_mask, labels = target_tensors(found, SpecialIds(PAD, BOS, EOS))
    assert labels.tolist() == [[7, 8, EOS], [PAD] * 3, [5, 6, PAD]]
    assert tgt_ids.tolist() == [[BOS, 7, 8], [BOS, PAD, PAD], [BOS, 5, 6]]
    assert tgt_mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert [tensor.tolist() for tensor in target_tensors(found[1:2], SpecialIds(PAD, BOS, EOS))] == [
        [[BOS]],
        [[1]],
        [[PAD]],
    ]
    assert target_tensors(found, SpecialIds(PAD, BOS, EOS), longest=2)[2].tolist() == [[7, 8], [PAD] * 2, [5, 6]]


def test_steps_are_drawn_by_seed_and_share(monkeypatch):
    def drawn(section, steps=range(2000)):
        return [section.is_drawn(step) for step in steps]

    half = drawn(OnPolicy(share=0.5))
    assert drawn(OnPolicy(share=0.5)) == half and 0.45 < sum(half) / len(half) < 0.55
    assert not any(drawn(OnPolicy())) and all(drawn(OnPolicy(share=1.0)))
    rising, problems = read_section(OnPolicy, {"share": RISING})
    assert not problems and not rising.is_drawn(0) and all(drawn(rising, range(100, 200)))
    assert not rising.is_always and rising.share_at(50) == 0.5
    seeds = {OnPolicy().search_settings(step, device).seed for step in (3, 4) for device in (0, 1)}
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert drawn(OnPolicy(share=0.5)) != half
    assert len(seeds) == 4 and OnPolicy().search_settings(3, 0).seed not in seeds


@pytest.mark.parametrize(
    ("change", "losses", "sentences"),
    [
        ({"on_policy": {"share": 1.5}}, KL, ["d.on_policy.share=1.5: must be a number of at least 0 and at most 1 or a schedule"]),
        ({"on_policy": {"share": {**RISING, "end": 2.0}}}, KL, ["d.on_policy.share.end=2: must be at most 1."]),
        (
            {"on_policy": {"method": "greedy", "temperature": 2.0}}, KL,
            ["d.on_policy.temperature=2: greedy search has none", "d.on_policy.method=greedy: has no effect", "d.on_policy.temperature=2.0: has no"],
        ),
        ({"on_policy": {"method": "greedy", "max_delta": 3}}, KL, ["d.on_policy.method=greedy: has no effect with share=0.", "d.on_policy.max_delta=3: has no effect"]),
        ({"on_policy": {"share": 0.5}, "teacher_cache": "c"}, KL, ["d.on_policy.share=0.5: the teacher must read what the student wrote"]),
        ({"on_policy": {"share": RISING}, "teacher_cache": "c"}, KL, ["d.on_policy.share={schedule: linear, start: 0.0, end: 1.0, steps: 100}: the teacher"]),
        ({"iterations": 2, "teacher_cache": "c"}, KL, ["d.iterations=2: the teacher must read"]),
        (
            {"on_policy": {"share": 1.0}, "student_train_loss_weight": 0.5, "mix": {"corpora": {"real": {"share": 1.0}}}}, KL,
            ["d.mix.corpora=real has no effect, because on_policy.share=1", "d.student_train_loss_weight=0.5 has no effect"],
        ),
        ({"on_policy": {"share": 1.0}}, KL | SELECTIVE, ["d.loss.words is about the words of the references"]),
        ({"on_policy": {"share": 0.5}, "student_train_loss_weight": 1.0}, SELECTIVE, ["d.on_policy.share=0.5: the student's own translations need a loss"]),
        ({"iterations": 3}, {"cosine": {"_target_": f"{TARGET}CosineEmbeddingLoss"}}, ["d.iterations=3: has no effect without a loss"]),
        ({"iterations": 0}, KL, ["d.iterations=0: must be a whole number of at least 1."]),
    ],
)  # fmt: skip
def test_what_replaced_targets_make_useless_or_impossible_is_told_by_key(change, losses, sentences):
    values = {"model_path": "x", "loss": losses} | change
    section, problems = read_section(TranslationDistillation, values, "d")
    if section is not None and not problems:
        _, problems = checked_loss_terms(section, section.loss, REGISTERED_TENSORS, where="d")
    assert len(problems) == len(sentences)
    assert all(problem.startswith(sentence) for problem, sentence in zip(problems, sentences)), problems


def test_references_and_pseudo_labels_go_together_with_a_share_of_own_translations():
    values = {
        "on_policy": {"share": 0.5},
        "student_train_loss_weight": 0.5,
        "mix": {"corpora": {"real": {"share": 1.0}}},
    }
    section, problems = read_section(TranslationDistillation, {"loss": KL | SELECTIVE} | values, "d")
    assert not problems and not checked_loss_terms(section, section.loss, REGISTERED_TENSORS, where="d")[1]


@pytest.fixture
def config(distillation_config):
    """Word-level losses, the student's own and one on words of the references; no dropout; every step is drawn."""
    cfg = distillation_config
    cfg.distillation.update({"distill_encoder": False, "cosine_loss_weight": 1.0, "temperature": 1.0})
    cfg.distillation.loss.words = {"_target_": f"{TARGET}SelectiveDistillationLoss", "weight": 0.25, "queue_size": 0}
    cfg.distillation.on_policy = {"share": {**RISING, "start": 0.0, "steps": 1}, "method": "greedy", "max_delta": 3}
    cfg.optim = {"name": "sgd", "lr": 0.5}
    for side in ("encoder", "decoder"):
        cfg[side].update(NO_DROPOUT)
    return cfg


def build(config, folder, **options):
    model = distillation_of(config, folder, **options)
    model.student.log_through(SimpleNamespace(log=lambda *args, **kwargs: None))
    return model.train()


def first_batch(model):
    return next(iter(model.train_dataloader()))


def greedy(model, src, src_mask, limit):
    """Translates one source, word by word with whole forward passes."""
    tokenizer = model.decoder_tokenizer
    never = [tokenizer.pad_id, tokenizer.unk_id, *range(tokenizer.vocab_size, model.decoder.vocab_size)]
    words = [tokenizer.bos_id]
    while len(words) <= limit and words[-1] != tokenizer.eos_id:
        tgt = torch.tensor([words])
        words.append(
            model(src, src_mask, tgt, torch.ones_like(tgt))[0, -1]
            .index_fill(0, torch.tensor(never), -9e9)
            .argmax()
            .item()
        )
    return words[1:]


def test_the_teacher_scores_what_the_student_would_say_and_losses_on_references_are_left_out(config, tmp_path):
    model = build(config, tmp_path)
    batch = first_batch(model)
    before = torch.get_rng_state()
    own, terms, counts = model.step_inputs(batch, step=1)
    assert torch.equal(torch.get_rng_state(), before) and model.student.training
    src, src_mask, *_ = (tensor.squeeze(0) for tensor in batch)
    assert torch.equal(own[0], src) and torch.equal(own[1], src_mask)
    model.eval()
    expected = [
        greedy(model.student, ids[mask.bool()][None], mask[mask.bool()][None], int(mask.sum()) + 3)
        for ids, mask in zip(src, src_mask)
    ]
    assert [[i for i in row if i != PAD] for row in own[-1].tolist()] == expected
    assert counts["on_policy_tokens"] == sum(map(len, expected)) and counts["on_policy_empty"] == 0
    assert terms.weights == {"primary": 1.0, "cosine": 1.0}
    losses = model.distillation_losses(own, 1, terms)
    real = own[-1] != PAD
    q, p = (one(*own[:4])[real].log_softmax(-1) for one in (model.teacher, model.student))
    torch.testing.assert_close(losses["primary"], (q.exp() * (q - p)).sum(-1).mean())
    assert set(losses) == {"primary", "cosine"}
    torch.testing.assert_close(terms.weighted_sum(losses), losses["primary"] + losses["cosine"])  # nothing is moved


def test_a_step_without_a_loss_that_could_be_used_reads_the_references(config, tmp_path):
    for name in ("primary", "cosine"):
        config.distillation.loss[name].weight = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 5}
    model = build(config, tmp_path)
    batch = first_batch(model)
    assert model.step_inputs(batch, step=4)[0] is not batch
    assert model.step_inputs(batch, step=5)[0] is batch


def test_samples_depend_on_step_and_device_alone_and_follow_the_temperature(config, tmp_path):
    config.distillation.on_policy.method = "sampled"
    model = build(config, tmp_path)
    batch = first_batch(model)

    def labels(step, device=0, **changes):
        model.student._on_policy = replace(OnPolicy(share=1.0, max_delta=3), **changes)
        model.student.global_rank = device
        return model.step_inputs(batch, step)[0][-1].tolist()

    class Ranked(type(model.student)):
        global_rank = 0

    model.student.__class__ = Ranked
    assert labels(1) == labels(1) != labels(2)
    assert labels(1) != labels(1, device=1)
    assert labels(1, temperature=1e-4) == labels(2, temperature=1e-4) == labels(1, method="greedy")


def gradients_of(config, folder, **options):
    """The gradients of the second optimizer step, which is drawn."""

    class Gradients(pl.Callback):
        def on_train_batch_end(self, trainer, model, *args):
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    gradients = Gradients()
    model, trainer = distill(config, folder, limit_val_batches=0, callbacks=[gradients], **options)
    return gradients.found, model, trainer


@pytest.mark.parametrize("fused", [True, False])
def test_bf16_mixed_gives_nearly_the_same_gradients(config, fused, tmp_path):
    config.distillation.fused, config.optim.lr = fused, 1e-6
    full, _, _ = gradients_of(config, tmp_path)
    mixed, model, trainer = gradients_of(config, tmp_path, precision="bf16-mixed")
    assert set(model.step_losses) == {"primary", "cosine"} and trainer.callback_metrics["on_policy_tokens"] > 0
    assert set(mixed) == set(full)
    for name, value in full.items():
        assert bool(value.any()) == bool(mixed[name].any()), name
    full, mixed = (torch.cat([value.flatten() for value in found.values()]) for found in (full, mixed))
    assert (mixed - full).norm() < 0.2 * full.norm()


def test_translations_that_are_all_empty_move_nothing_and_are_counted(config, tmp_path):
    config.distillation.on_policy.share = 1.0
    config.distillation.student_train_loss_weight = 0.0
    del config.distillation.loss.words

    class Silent(pl.Callback):
        """Lets the student say nothing."""

        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            model.student.log_softmax.mlp.layer0.bias.data[EOS] = 100.0
            self.before, self.sentences = copy.deepcopy(model.student.state_dict()), batch[0].shape[1]

    silent = Silent()
    model, trainer = distill(config, tmp_path, limit_val_batches=0, callbacks=[silent])
    assert trainer.global_step == 2
    assert all(torch.equal(value, silent.before[name]) for name, value in model.student.state_dict().items())
    logged = trainer.callback_metrics
    assert not any(logged[name] for name in ("train_loss", "primary_loss", "cosine_loss", "on_policy_tokens"))
    assert logged["on_policy_empty"] == silent.sentences > 1 and logged["on_policy_share"] == 1


def test_all_batches_of_an_optimizer_step_are_alike(config, tmp_path):
    config.distillation.on_policy = {"share": 0.5, "max_delta": 1}
    config.train_ds.tokens_in_batch = 60

    steps = {}

    class Seen(pl.Callback):
        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            self.step = trainer.global_step

        def on_train_batch_end(self, trainer, model, *args):
            steps.setdefault(self.step, []).append(set(model.step_losses) == {"primary", "cosine"})

    distill(config, tmp_path, max_steps=8, accumulate_grad_batches=3, limit_val_batches=0, callbacks=[Seen()])
    section = OnPolicy(share=0.5)
    assert steps == {step: [section.is_drawn(step)] * len(steps[step]) for step in range(8)}
    assert {len(batches) for batches in steps.values()} >= {3}
    assert {drawn for drawn, *_ in steps.values()} == {True, False}


def test_several_teachers_and_a_shared_encoder_score_own_translations_too(config, teacher_path, tmp_path):
    config.distillation.loss.pop("cosine")
    config.distillation.model_path = [str(teacher_path), str(teacher_path)]
    several = build(config, tmp_path)
    config.distillation.model_path = str(teacher_path)
    one = build(config, tmp_path)
    batch = first_batch(one)
    losses = [model.distillation_losses(*_inputs(model, batch)) for model in (several, one)]
    assert set(losses[0]) == {"primary"} and losses[0]["primary"] > 0
    torch.testing.assert_close(losses[0]["primary"], losses[1]["primary"])
    config.distillation.share_encoder, config.shared_embeddings = True, False
    shared = build(config, tmp_path)
    assert shared.distillation_losses(*_inputs(shared, batch))["primary"] > 0
    assert not shared.student.encoder.training and shared.student.decoder.training


def _inputs(model, batch):
    own, terms, _ = model.step_inputs(batch, step=1)
    return own, 1, terms


def test_translations_are_cut_where_a_teacher_has_learned_no_more_positions(config, tokenizer, tmp_path):
    short = tiny_config(tokenizer, seed_size={"learn_positional_encodings": True, "max_sequence_length": 12})
    torch.manual_seed(1)
    DistillableMTEncDecModel(short).save_to(str(tmp_path / "short.nemo"))
    config.distillation.update({"model_path": str(tmp_path / "short.nemo")})
    config.train_ds.update({"clean": True, "max_seq_length": 10, "min_seq_length": 1})
    model = build(config, tmp_path)
    model.student._on_policy = OnPolicy(share=1.0, method="greedy", max_delta=30)
    model.student.log_softmax.mlp.layer0.bias.data[EOS] = -100.0  # the student never ends
    own, terms, _ = model.step_inputs(first_batch(model), 1)
    assert own[-1].shape[1] == 12 and model.distillation_losses(own, 1, terms)["primary"] > 0


def test_a_cache_is_refused_without_the_script_too(config, tmp_path):
    config.distillation = OmegaConf.merge(config.distillation, {"teacher_cache": "nowhere", "model_path": None})
    with pytest.raises(ConfigurationError, match=r"distillation.on_policy.share=.*teacher_cache=nowhere"):
        build(config, tmp_path)
