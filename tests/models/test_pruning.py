from itertools import permutations

import pytest
import torch
from nemo.collections.nlp.modules.common.transformer.transformer_encoders import TransformerEncoderBlock
from nemo.collections.nlp.modules.common.transformer.transformer_modules import MultiHeadAttention, PositionWiseFF
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.models.distillation_section import Initialization
from nemo_distill.models.initialization import initialization_problems, initialize_from_teacher
from nemo_distill.models.pruning import KeptWidth, _assigned, copy_layer, kept_width
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.conftest import batch_of_lines, reversing_sentences, tiny_config

PRUNED = Initialization(prune_width=True)
DIMS = [0, 1, 6, 7, 8, 9, 14, 15, 2, 3, 20, 21]  # of 24
WIDTH = KeptWidth(torch.tensor(DIMS), 24)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(3)


def attention(width, heads):
    """A block of NeMo's encoder layer in a module, with random biases, for biases of 0 hide mistakes."""
    return random(torch.nn.ModuleDict({"attention": MultiHeadAttention(width, heads)}))


def random(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def attended(module, states):
    return module["attention"](states, states, states, None)


def hide(linear, rows=slice(None), columns=slice(None)):
    """Sets all weights to 0 that are not in the given rows and columns."""
    kept = torch.zeros_like(linear.weight)
    kept[rows, :] += 1
    kept[:, columns] += 1
    linear.weight.data.mul_(kept == 2)


@pytest.mark.parametrize(
    ("heads", "used", "own_heads", "used_units"),
    [
        (6, [1, 4, 5], 3, 4),  # half of the heads, as large as before
        (3, [0, 1, 2], 3, 4),  # as many heads, half as large
        (4, [2, 3], 2, 6),  # as large again
        (2, [0, 1], 3, 4),  # more heads than the teacher
        (12, [0, 5, 7], 2, 2),  # larger heads than the teacher's
    ],
)
@torch.no_grad()
def test_attention_that_reads_and_writes_only_what_is_kept_stays_the_same(heads, used, own_heads, used_units):
    size = 24 // heads
    used = used[:own_heads]
    units = torch.tensor([head * size + unit for head in used for unit in range(size - min(used_units, size), size)])
    teacher, student = attention(24, heads), attention(12, own_heads)
    part = teacher["attention"]
    for net in (part.query_net, part.key_net, part.value_net):
        hide(net, units, DIMS)
        net.bias[[unit for unit in range(24) if unit not in units]] = 0
    hide(part.out_projection, DIMS, units)
    copy_layer(student, teacher, WIDTH)
    states = torch.randn(2, 5, 24)
    expected = attended(teacher, states)[..., DIMS]
    factor = (24 / 12) ** 0.5  # by which the rest of the columns is scaled
    torch.testing.assert_close(attended(student, states[..., DIMS] / factor), expected)


@pytest.mark.parametrize(("inner", "used", "own_inner"), [(10, [0, 3, 9], 3), (10, range(10), 10), (4, range(4), 6)])
@torch.no_grad()
def test_a_feed_forward_network_that_uses_only_what_is_kept_stays_the_same(inner, used, own_inner):
    teacher, student = (
        random(torch.nn.ModuleDict({"ffn": PositionWiseFF(width, units)}))
        for width, units in ((24, inner), (12, own_inner))
    )
    hide(teacher["ffn"].dense_in, list(used), DIMS)
    hide(teacher["ffn"].dense_out, DIMS, list(used))
    copy_layer(student, teacher, WIDTH)
    states = torch.randn(2, 5, 24)
    expected = teacher["ffn"](states)[..., DIMS]
    torch.testing.assert_close(student["ffn"](states[..., DIMS] / 2**0.5), expected)


@torch.no_grad()
def test_the_heads_and_units_with_the_largest_weights_are_kept():
    teacher, student = attention(24, 4), attention(24, 2)
    part, own = teacher["attention"], student["attention"]
    part.value_net.weight[6:12] *= 10  # head 1
    part.out_projection.weight[:, 18:24] *= 5  # head 3
    copy_layer(student, teacher, KeptWidth(torch.arange(24), 24))
    torch.testing.assert_close(own.value_net.weight[:6], part.value_net.weight[6:12])
    torch.testing.assert_close(own.value_net.weight[12:18], part.value_net.weight[18:24])
    torch.testing.assert_close(own.query_net.weight[:6], part.query_net.weight[6:12] * 2**0.25)
    # What a head has more than the teacher's has no effect at first, and can learn.
    assert not own.out_projection.weight[:, 6:12].any() and not own.key_net.weight[6:12].any()
    assert own.value_net.weight[6:12].all() and own.query_net.weight[6:12].all()


@torch.no_grad()
def test_units_of_a_head_are_chosen_for_its_scores_and_for_its_values_apart():
    teacher, student = attention(24, 4), attention(12, 4)  # as many heads, of 6 and of 3 units
    part, own = teacher["attention"], student["attention"]
    matched, passed = ([6 * head + unit for head in range(4) for unit in units] for units in ((0, 2, 4), (1, 2, 5)))
    part.query_net.weight[matched] *= 10
    part.value_net.weight[passed] *= 10
    copy_layer(student, teacher, WIDTH)
    factor = 2**0.5  # of the columns
    torch.testing.assert_close(own.key_net.weight, part.key_net.weight[matched][:, DIMS] * factor * 0.5**0.25)
    torch.testing.assert_close(own.value_net.weight, part.value_net.weight[passed][:, DIMS] * factor)
    torch.testing.assert_close(own.out_projection.weight, part.out_projection.weight[DIMS][:, passed])


@torch.no_grad()
def test_inner_units_that_read_and_write_most_are_kept():
    teacher, student = (random(torch.nn.ModuleDict({"ffn": PositionWiseFF(24, units)})) for units in (4, 2))
    for unit, (reading, writing) in enumerate([(10, 0.01), (1, 10), (5, 1), (1, 1)]):
        teacher["ffn"].dense_in.weight[unit] *= reading
        teacher["ffn"].dense_out.weight[:, unit] *= writing
    copy_layer(student, teacher, KeptWidth(torch.arange(24), 24))
    assert torch.equal(student["ffn"].dense_in.weight, teacher["ffn"].dense_in.weight[[1, 2]])
    assert torch.equal(student["ffn"].dense_out.weight, teacher["ffn"].dense_out.weight[:, [1, 2]])


@torch.no_grad()
def test_norms_keep_the_weights_of_the_kept_dimensions():
    teacher, student = random(TransformerEncoderBlock(24, 8, 4)), random(TransformerEncoderBlock(12, 8, 2))
    copy_layer(student, teacher, WIDTH)
    assert torch.equal(student.layer_norm_2.weight, teacher.layer_norm_2.weight[DIMS])
    assert torch.equal(student.layer_norm_1.bias, teacher.layer_norm_1.bias[DIMS])


def model(tokenizer, **size):
    return DistillableMTEncDecModel(tiny_config(tokenizer, seed_size={"pre_ln": True, **size})).eval()


def alike(teacher):
    """Makes all dimensions of a model equally important."""
    for parameter in teacher.parameters():
        if parameter.dim() == 2:
            torch.nn.init.ones_(parameter)
    return teacher


@pytest.mark.parametrize(
    ("important", "kept"),
    [
        ((), [0, 1, 4, 5, 8, 9, 12, 13]),  # every second pair has exactly the student's frequencies
        ((6,), [0, 1, 4, 5, 6, 7, 12, 13]),  # unless a neighbour matters more
    ],
)
def test_with_fixed_positions_pairs_are_kept_that_matter_and_have_the_same_frequencies(tokenizer, important, kept):
    teacher, student = alike(model(tokenizer)), model(tokenizer, hidden_size=8)
    teacher.encoder.embedding.token_embedding.weight.data[:, important] *= 100
    width = kept_width(student, teacher, list(teacher.encoder.encoder.layers))
    assert width.dims.tolist() == kept


@pytest.mark.parametrize("seed", [0, 15, 17])  # with the last two, the phase of the waves matters
def test_pairs_have_the_greatest_sum_of_importance_times_similarity_of_positions(tokenizer, seed):
    """All choices are tried. The similarity is the mean cosine between the waves of two frequencies."""
    importance = torch.rand(16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).pow(4)
    tables = [model(tokenizer, hidden_size=width).encoder.embedding.position_embedding.pos_enc for width in (16, 8)]
    theirs, ours = (10_000 ** -(torch.arange(pairs) / pairs).double() for pairs in (8, 4))
    positions = torch.arange(len(tables[0]))[:, None, None]
    similarity = torch.cos((theirs[:, None] - ours) * positions).mean(dim=0)  # (8, 4)
    scores = importance.view(8, 2).sum(dim=1, keepdim=True) * similarity
    best = max(permutations(range(8), 4), key=lambda chosen: scores[list(chosen), range(4)].sum().item())
    assert tuple(_assigned(importance, *tables).tolist()) == best


def test_with_learned_positions_the_most_important_dimensions_are_kept(tokenizer):
    teacher, student = (model(tokenizer, hidden_size=width, learn_positional_encodings=True) for width in (16, 4))
    alike(teacher)
    for factor, (dim, matrix) in enumerate(
        {3: "dense_in", 8: "dense_out", 9: "query_net", 15: "out_projection"}.items(), start=2
    ):
        for name, weight in teacher.decoder.decoder.layers[0].named_parameters():
            if name.endswith(f"{matrix}.weight"):
                (weight.data if matrix in ("dense_out", "out_projection") else weight.data.T)[dim] *= factor
    for name, weight in teacher.decoder.decoder.layers[0].named_parameters():
        if name.endswith("key_net.weight"):  # however large it is, a matrix counts as much as any other
            weight.data *= 1000
            weight.data[:, :4] *= 1.1
    width = kept_width(student, teacher, list(teacher.decoder.decoder.layers))
    assert width.dims.tolist() == [3, 8, 9, 15]


def nll(model):
    *inputs, labels = batch_of_lines(model, *reversing_sentences(64, seed=1000))
    with torch.no_grad():
        return model.loss_fn(log_probs=model(*inputs), labels=labels).item()


@pytest.fixture(scope="module")
def trained(trained_path):
    return restore_for_inference(DistillableMTEncDecModel, trained_path)


@pytest.mark.parametrize(
    "size",
    [
        {"hidden_size": 32, "inner_size": 32},
        {"hidden_size": 24, "inner_size": 64, "num_attention_heads": 3},
        {"hidden_size": 24, "inner_size": 96, "num_attention_heads": 1},
        {"hidden_size": 16, "inner_size": 32},
    ],
)
def test_a_pruned_student_knows_more_than_a_random_one(tokenizer, trained, size):
    student = model(tokenizer, **size)
    unused, before = list(map(str, student.state_dict())), nll(student)
    record = initialize_from_teacher(student, trained, PRUNED)
    assert list(student.state_dict()) == unused
    assert nll(trained) < nll(student) < before - 0.2
    assert record["pruned_from"]["encoder"] == {"hidden_size": 32, "inner_size": 64, "num_attention_heads": 2}


def test_a_student_of_its_teachers_width_starts_as_its_teacher(tokenizer, trained):
    student = model(tokenizer, hidden_size=32, inner_size=64)
    record = initialize_from_teacher(student, trained, PRUNED)
    assert "pruned_from" not in record
    assert all(torch.equal(ours, trained.state_dict()[name]) for name, ours in student.state_dict().items())


def test_a_distillation_starts_from_a_wider_teacher_and_records_it(distillation_config, trained_path):
    section = distillation_config.distillation
    section.model_path, section.distilbert_initialization = str(trained_path), True
    section.initialization.prune_width = True
    for side in ("encoder", "decoder"):
        distillation_config[side].pre_ln = True
    student = DistillationModelPT(distillation_config, model_class=DistillableMTEncDecModel).student
    record = OmegaConf.to_container(student.cfg.distilled_with.initialized_from_teacher)
    assert record["pruned_from"]["decoder"]["hidden_size"] == 32 and record["decoder"] == [1]
    distillation_config.encoder.hidden_size = distillation_config.decoder.hidden_size = 64
    with pytest.raises(ConfigurationError, match="prune_width=true.*hidden_size=32; the student has 64"):
        DistillationModelPT(distillation_config, model_class=DistillableMTEncDecModel)


def test_only_the_sizes_may_differ():
    student, teacher = (
        {side: {"num_layers": 1, **size} for side in ("encoder", "decoder")}
        for size in (
            {"hidden_size": 8, "inner_size": 16, "num_attention_heads": 1, "pre_ln": True},
            {"hidden_size": 16, "inner_size": 32, "num_attention_heads": 2},
        )
    )
    problems = initialization_problems(PRUNED, student, teacher)
    assert len(problems) == 2 and all("pre_ln=None; the student has True." in problem for problem in problems)
    without = initialization_problems(Initialization(), student, teacher)
    assert (
        len(without) == 8
        and "hidden_size=16; the student has 8; to prune the teacher's, set prune_width" in without[0]
    )
