import functools
import json
import re

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands import card as card_command
from nemo_distill.commands.card import CardConfig
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.section import read_config
from nemo_distill.report.model_card import model_card
from nemo_distill.storage.ledger import sha256_of
from tests.conftest import composed, tiny_config
from tests.evaluation.test_evaluation_tables import evaluation, score
from tests.models.test_multilingual import MANY_TO_ONE, ONE_TO_MANY

MADE = {
    "nemo_distill": "0.1.0",
    "teachers": [{"name": "teacher.nemo", "sha256": "abc"}],
    "distillation": {"model_path": "/home/me/teacher.nemo", "temperature": 2.0, "sets": ["/home/me/a.de"]},
}
LONG = "model.optim={name: adamw, lr: 0.0004, betas: [0.9, 0.98], sched: {name: InverseSquareRootAnnealing}}"
RUN = {
    "seed": 7,
    "inputs": {"/home/me/a.de": "f1", "/home/me/labels a/pseudo.src": "f2", "/home/me/labels b/pseudo.src": "f3"},
    "overrides": [
        "model.train_ds.src_file_name=[/home/me/a.de,b/c.de]",
        "student=slim_1x1",
        LONG,
        "model.validation_ds.src_file_name=/home/me too/my data/a.de",
        "mix={de: /home/me/x y/a.de, n: 1/2}",
    ],
    "settings": {"config": {"secret": 1}},
}


@pytest.fixture(scope="module")
def student(tokenizer, tmp_path_factory):
    from nemo_distill import DistillableMTEncDecModel

    config = tiny_config(tokenizer)
    config.distilled_with = MADE
    path = tmp_path_factory.mktemp("card") / "student.nemo"
    DistillableMTEncDecModel(config).save_to(str(path))
    return path


@pytest.fixture
def evaluated(student, tmp_path):
    record = evaluation()
    for name, sha256 in (("teacher", "abc"), ("student", sha256_of(student))):
        record["systems"][name]["sha256"] = sha256
    (tmp_path / "evaluation.json").write_text(json.dumps(record))
    return tmp_path / "evaluation.json"


def test_a_card_says_what_the_model_is_how_it_was_made_and_how_good_it_is(student, evaluated, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    card = model_card(student, tmp_path, evaluated)
    for part in ("# student", "| num layers | 1 | 1 |", "| teacher.nemo | `abc` |", "temperature: 2.0", "seed: 7",
                 "model_path: teacher.nemo", "train_ds.src_file_name=[a.de,c.de]", LONG,
                 "validation_ds.src_file_name=a.de", "mix={de: a.de, n: 2}", "- name: pseudo.src\n  sha256: f3",
                 "39.63", "| student | teacher | -0.50 (p = 0.2000) |", sha256_of(student)):  # fmt: skip
        assert part in card
    assert not any(private in card for private in ("/home/me", "my data", "me too", "secret"))


def test_a_card_of_one_seed_shows_the_mean_of_all(student, evaluated):
    record = json.loads(evaluated.read_text())
    of_seed = record["systems"].pop("student") | {"group": "student"}
    record["systems"] |= {f"student_seed{seed}": of_seed | {"seed": seed, "sha256": "a"} for seed in (0, 1)}
    record["systems"]["student_seed0"]["sha256"] = sha256_of(student)
    one = record["test_sets"]["flickr"]
    one["scores"] = {"teacher": score(40.126)} | {f"student_seed{seed}": score(39.0 + seed) for seed in (0, 1)}
    one["groups"] = {"student": {"systems": 2, "BLEU": {"mean": 39.5, "standard_deviation": 0.7}}}
    one["comparisons"] = []
    evaluated.write_text(json.dumps(record))
    card = model_card(student, evaluation=evaluated)
    assert "| student_seed0 | PyTorch float32 | 39.00 |" in card and "student_seed1" not in card
    assert "| student | 2 | PyTorch float32 | 39.50 ± 0.70 |" in card
    one["groups"] = {}
    del record["systems"]["student_seed1"], one["scores"]["student_seed1"]
    evaluated.write_text(json.dumps(record))
    assert "| student |" not in model_card(student, evaluation=evaluated)  # what would be the same row again


def test_paths_in_a_metrics_command_are_reduced_and_other_text_is_not(student, evaluated):
    record = json.loads(evaluated.read_text())
    command = "mine|mean of 9|higher is better|/home/me/env/bin/python /home/me/score.py --model=/home/me/m {scores}"
    for scores in record["test_sets"]["flickr"]["scores"].values():
        scores["mine"] = {"value": 0.5, "signature": command}
    record["notes"] = ["Not exported: encoder_tokenizer.tokenizer_model=/home/me/a.model: it must be in the .nemo."]
    evaluated.write_text(json.dumps(record))
    card = model_card(student, evaluation=evaluated)
    assert "`mine|mean of 9|higher is better|python score.py --model=m {scores}`" in card
    assert "/home/me" not in card and "tokenizer_model=a.model" in card and "sentences/s" in card


def test_a_model_without_a_teacher_has_a_card_too(teacher_path):
    card = model_card(teacher_path)
    assert "trained without a teacher" in card and "How it was distilled" not in card


@pytest.mark.parametrize(
    ("languages", "named", "asked"),
    [
        (MANY_TO_ONE, "from de, nl to en", 'source_lang="de", target_lang="en"'),
        (ONE_TO_MANY, "from de to en, fr", 'source_lang="de", target_lang="en"'),
    ],
)
def test_the_code_of_a_multilingual_models_card_runs(languages, named, asked, tokenizer, tmp_path, capsys):
    from nemo_distill import DistillableMTEncDecModel

    path = tmp_path / "student.nemo"
    DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer), languages)).save_to(str(path))
    card = model_card(path)
    code = card.partition("```python\n")[2].partition("```")[0]
    exec(code.replace("student.nemo", str(path)), {})
    assert named in card and asked in card and capsys.readouterr().out.startswith("[")


def test_the_code_of_a_card_lets_nemo_load_youtokentome(tokenizer, yttm_tokenizer, tmp_path):
    from nemo_distill import DistillableMTEncDecModel

    config = tiny_config(tokenizer)
    config.encoder_tokenizer = {"library": "yttm", "tokenizer_model": str(yttm_tokenizer)}
    config.shared_embeddings = False
    DistillableMTEncDecModel(config).save_to(str(tmp_path / "student.nemo"))
    _, code = model_card(tmp_path / "student.nemo").split("```python\n")
    assert code.startswith("import nemo_distill.nemo_files.youtokentome")


def test_the_card_is_written_beside_the_model_and_not_over_another(student):
    cfg = composed("model_card", f"model={student}")
    card_command.main(cfg)
    assert student.with_suffix(".md").read_text() == model_card(student)
    with pytest.raises(ConfigurationError, match="which exists; set overwrite=true"):
        read_config(CardConfig, cfg)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model=none.nemo", "there is no file 'none.nemo'"),
        ("run=none", "there is no run.json in 'none'"),
        ("evaluation=none.json", "there is no file 'none.json'"),
    ],
)
def test_what_is_missing_is_told(student, tmp_path, override, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        read_config(CardConfig, composed("model_card", f"model={student}", override, f"output={tmp_path / 'card.md'}"))


@pytest.mark.parametrize(
    "place",
    [
        "systems.teacher.speed", "test_sets.flickr.groups", "test_sets.flickr.comparisons", "made_with.threads",
        "test_sets.flickr.scores.student.BLEU.signature",
    ],
)  # fmt: skip
def test_an_evaluation_that_lacks_a_key_is_refused(student, evaluated, place):
    record = json.loads(evaluated.read_text())
    *sections, key = place.split(".")
    del functools.reduce(dict.__getitem__, sections, record)[key]
    evaluated.write_text(json.dumps(record))
    with pytest.raises(DataError, match=rf"evaluation\.json' cannot be read: {re.escape(place)}: field required"):
        model_card(student, evaluation=evaluated)


def test_an_evaluation_of_other_models_is_refused(teacher_path, evaluated):
    with pytest.raises(ValueError, match="does not include this model"):
        model_card(teacher_path, evaluation=evaluated)


def test_an_evaluation_may_be_named_by_its_folder(student, evaluated):
    file, folder = (CardConfig(model=student, evaluation=path).card() for path in (evaluated, evaluated.parent))
    assert file == folder and "BLEU" in folder
