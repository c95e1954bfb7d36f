"""Where a student's first weights come from another model, they are that model's: every start, with every sharing.

The oracle is NeMo's own restored model: its weights, and the log-probabilities that it gives, bit for bit.
"""

from itertools import product

import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.commands.training import start_from_nemo
from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.models.pairing import check_teachers
from nemo_distill.models.start_model import KEY, start_problems
from tests.conftest import tiny_config, train_sentencepiece

STACKS = ("encoder._encoder.", "decoder._decoder.")
EMBEDDINGS = ("encoder._embedding.", "decoder._embedding.", "log_softmax.")
# What each start copies: the beginnings of the weights' names.
STARTS = {
    "layers": STACKS,
    "embeddings": EMBEDDINGS,
    "layers_and_embeddings": (*STACKS, *EMBEDDINGS),
    "whole": (*STACKS, *EMBEDDINGS),
    "shared_encoder": ("encoder.",),
}
PRECISIONS = ("float32", "half_file", "bfloat16_teacher")
TEACHERS = {"tied": (True, 1), "untied": (False, 1), "two_tokenizers": (False, 2)}


@pytest.fixture(scope="module")
def tokenizers(tokenizer, corpus, tmp_path_factory):
    other = train_sentencepiece(tmp_path_factory.mktemp("first") / "english", corpus / "train.en", vocab_size=45)
    return {1: (tokenizer, tokenizer), 2: (tokenizer, other)}


def config_of(shared, files):
    config = tiny_config(files[0], seed_size={"num_layers": 2, "pre_ln": True})
    config.decoder_tokenizer.tokenizer_model = str(files[1])
    config.shared_embeddings = shared
    return config


@pytest.fixture(scope="module")
def teachers(tokenizers, tmp_path_factory):
    """Path and oracle by kind and precision of the file, of models none of whose weights is an initial value."""
    made = {}
    for kind, (shared, count) in TEACHERS.items():
        torch.manual_seed(3)
        model = DistillableMTEncDecModel(config_of(shared, tokenizers[count])).requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for precision, dtype in (("float32", torch.float32), ("half_file", torch.half)):
            path = tmp_path_factory.mktemp("teachers") / f"{kind}.nemo"
            model.to(dtype).save_to(str(path))
            oracle = MTEncDecModel.restore_from(str(path), map_location="cpu").eval()
            for side in (oracle.encoder, oracle.decoder):  # a file of half precision rounds fixed positions, too
                side.embedding.position_embedding._build_pos_enc(side.hidden_size, side.max_sequence_length)
            made[kind, precision] = path, oracle
    return made


def is_refused(kind, start, shared, precision):
    teacher_is_tied, count = TEACHERS[kind]
    if start == "shared_encoder" and (shared or precision == "bfloat16_teacher"):
        return True
    return shared and (count == 2 or (not teacher_is_tied and start not in ("layers", "shared_encoder")))


def student_config(start, shared, precision, files, path):
    model = config_of(shared, files)
    layers = "uniform" if start.startswith("layers") else None
    model.distillation = {
        "model_path": str(path),
        "share_encoder": start == "shared_encoder",
        "loss": {"kl": {"_target_": "nemo_distill.losses.KLDivergenceLoss", "weight": 1}},
    }
    if start in ("layers", "embeddings", "layers_and_embeddings"):
        parts = {"encoder": layers, "decoder": layers, "embeddings": "embeddings" in start}
        model.distillation.update({"distilbert_initialization": True, "initialization": parts})
    if precision == "bfloat16_teacher":
        model.distillation.teacher_precision = "bfloat16"
    return model


def found_problems(model, start, path):
    """What the check says that runs before NeMo is imported."""
    plain = OmegaConf.to_container(model)
    distillation, _ = read_distillation(plain, "distillation")
    problems, _ = check_teachers(plain, distillation, [path])
    return problems + (start_problems(plain, str(path), path) if start == "whole" else [])


def started_student(model, start, path):
    torch.manual_seed(11)
    distillation = DistillationModelPT(model, model_class=DistillableMTEncDecModel)
    if start == "whole":
        start_from_nemo(OmegaConf.create({KEY: str(path)}), distillation.student)
    return distillation


def log_probs(model):
    """Of a padded batch, (B, T, V)."""
    generator = torch.Generator().manual_seed(0)
    src, tgt = (torch.randint(4, 40, (3, length), generator=generator) for length in (7, 5))
    src_mask, tgt_mask = (torch.arange(n) < torch.tensor(lengths)[:, None] for n, lengths in ((7, [7, 4, 2]), (5, [5, 2, 3])))  # fmt: skip
    with torch.no_grad():
        return model.eval()(src, src_mask.long(), tgt, tgt_mask.long())


@pytest.mark.parametrize(
    ("kind", "start", "shared", "precision"),
    list(product(TEACHERS, STARTS, (True, False), PRECISIONS)),
    ids=lambda value: str(value),
)
def test_a_start_copies_the_teachers_weights_or_is_refused_before_nemo_is_imported(
    kind, start, shared, precision, teachers, tokenizers
):
    path, oracle = teachers[kind, "half_file" if precision == "half_file" else "float32"]
    model = student_config(start, shared, precision, tokenizers[TEACHERS[kind][1]], path)
    problems = found_problems(model, start, path)
    if is_refused(kind, start, shared, precision):
        assert problems
        if precision == "float32":
            with pytest.raises((ConfigurationError, ValueError)):  # the second is NeMo's, of two sizes in one matrix
                started_student(model, start, path)
        return
    assert problems == []
    distillation = started_student(model, start, path)
    student, expected = distillation.student, oracle.state_dict()
    for name, weight in student.state_dict().items():
        if name.endswith("pos_enc"):
            continue
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected[name]) == name.startswith(STARTS[start]), name
    if start == "layers_and_embeddings" or (start == "whole" and precision != "half_file"):
        assert torch.equal(log_probs(student), log_probs(oracle))
    rounded = torch.bfloat16 if precision == "bfloat16_teacher" else torch.float32
    assert {parameter.dtype for parameter in distillation.teacher.parameters()} == {rounded}
