"""Archives that mean harm: each is refused with its reason, and nothing of it is run or written."""

import gzip
import io
import pickle
import shutil
import tarfile

import pytest
import yaml

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.archive_safety import MAX_EXPANSION, TRANSLATION_MODEL, TRUST
from tests.conftest import Harm, changed_weights

CONFIG = f"target: {TRANSLATION_MODEL}\n".encode()


def member(name, content=b"", type_=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type, info.size = type_, len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, io.BytesIO(content)


def write(path, *members, config=CONFIG):
    with tarfile.open(path, "w") as tar:
        for info, content in (*members, member("./model_config.yaml", config)):
            tar.addfile(info, content)
    return path


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member("../evil", b"x")], "its member '../evil' would be written outside"),
        ([member("a/../../evil", b"x")], "would be written outside"),
        ([member("/tmp/evil", b"x")], "its member '/tmp/evil' would be written outside"),
        ([member("a\\..\\evil", b"x")], "would be written outside"),
        ([member("link", type_=tarfile.SYMTYPE, linkname="/etc/passwd")], "'link' is not a regular file or folder"),
        ([member("link", type_=tarfile.LNKTYPE, linkname="model_config.yaml")], "is not a regular file or folder"),
        ([member("device", type_=tarfile.CHRTYPE)], "is not a regular file or folder"),
        ([member("")], "its member '' does not have a valid file name"),
        ([member("ä" * 128)], "does not have a valid file name"),
        ([member("pipe", type_=tarfile.FIFOTYPE)], "is not a regular file or folder"),
        ([member(f"{number}") for number in range(10_001)], "it has more than 10,000 members"),
        ([member("a_tokenizer.model"), member("./a_tokenizer.model")], "'./a_tokenizer.model' occurs twice"),
        ([member("a//b"), member("a/./b")], "'a/./b' occurs twice"),
        ([member("model_config.yaml", CONFIG)], "'./model_config.yaml' occurs twice"),
    ],
)  # fmt: skip
def test_members_that_could_do_harm_are_refused(tmp_path, members, reason):
    with pytest.raises(ValueError, match="is not opened") as error:
        NemoArchive(write(tmp_path / "evil.nemo", *members))
    assert reason in str(error.value)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    plain = write(tmp_path / "plain.nemo", member("model_weights.ckpt", bytes(1 << 27)))
    packed = tmp_path / "bomb.nemo"
    with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target)
    assert packed.stat().st_size * MAX_EXPANSION < 1 << 27
    plain.unlink()
    with pytest.raises(ValueError, match="it would unpack to more than"):
        NemoArchive(packed)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"a: &a [1]\nb: [" + b"*a, " * 11 + b"]\n", "its config has too many YAML aliases: 11"),
        (b"a: [", "its config is not valid YAML"),
        (b"x" * (1 << 25), "its config is too large: 33,554,432 bytes"),
        (b"a: !!python/object/apply:os.mkdir [evil]\n", "could not determine a constructor"),
        (b"a: " + b"[" * 101 + b"]" * 101 + b"\n", "its config is nested more than 100 deep"),
        (b"- a\n", "its model_config.yaml is not a mapping"),
        (b"", "its model_config.yaml is not a mapping"),
    ],
)
def test_configs_that_could_do_harm_are_refused(tmp_path, monkeypatch, config, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=reason):
        NemoArchive(write(tmp_path / "evil.nemo", config=config))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"target": "os.system"},
        {"target": "evil.MTEncDecModel"},
        {"encoder": {"_target_": "subprocess.check_output"}},
        {"layers": [{"deep": {"cls": "builtins.eval"}}]},
        {"_target_": "nemo_collections.evil"},
        {"_target_": "system"},
        {"encoder": {"note": {"_target_": "${payload}"}}, "payload": "os.system"},
        {"encoder": {"note": "${oc.create:{_target_:os.system}}"}},
        {"encoder": {"note": "${${payload}:{_target_:os.system}}"}, "payload": "oc.create"},
        {"encoder": {"_target_": "nemo.core.classes.modelPT.os.system"}},
        {"encoder": {"_target_": "torch.nn.modules.module.os.system"}},
        {"encoder": {"_target_": TRANSLATION_MODEL}},
        {"encoder": {"_target_": "transformers.DetrConfig"}},
        {"encoder": {"note": {"_target_": "transformers.BertConfig"}}},
        {"encoder": {"note": {"cls": "antigravity"}}},
        {"encoder": "${distilled_with.encoder}", "distilled_with": {"encoder": {"_target_": "os.system"}}},
        {"target": TRANSLATION_MODEL, "params": {"encoder": {"library": "huggingface"}}},
        {"target": TRANSLATION_MODEL, "encoder_tokenizer": {"vocab_file": "/home/user/secret"}},
        {"target": "nemo.collections.nlp.data.machine_translation.preproc_mt_data.MTDataPreproc"},
    ],
)
def test_classes_that_could_do_harm_are_refused(tmp_path, config):
    path = write(tmp_path / "evil.nemo", config=yaml.safe_dump(config).encode())
    with pytest.raises(ValueError, match=r"loading it could run code.* set NEMO_DISTILL_TRUST="):
        NemoArchive(path).check_targets()


def test_the_record_of_how_a_student_was_made_may_name_anything(tmp_path):
    config = CONFIG + b"distilled_with: {distillation: {mix: {corpora: {real: {target: data/train.en}}}}}\n"
    NemoArchive(write(tmp_path / "student.nemo", config=config)).check_targets()


def test_a_trusted_file_may_name_any_class(tmp_path, monkeypatch):
    path = write(tmp_path / "mine.nemo", config=b"target: mine.Model\n")
    monkeypatch.setenv(TRUST, "0" * 64)
    with pytest.raises(ValueError, match=r"mine\.Model"):
        NemoArchive(path).check_targets()
    monkeypatch.setenv(TRUST, f"{'0' * 64}, {NemoArchive(path).sha256()}")
    NemoArchive(path).check_targets()
    monkeypatch.delenv(TRUST)
    NemoArchive(path).check_targets(["mine.Model"])


def test_weights_that_would_run_code_do_not(teacher_path, tmp_path, monkeypatch):
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.nemo_files.restore import restore_for_inference

    harm = tmp_path / "harm"
    path = changed_weights(teacher_path, tmp_path / "evil.nemo", lambda weights: {"weight": Harm(harm)})
    with pytest.raises(ConfigurationError, match="reading them would run code; if you trust its author, set") as error:
        restore_for_inference(DistillableMTEncDecModel, path)
    assert NemoArchive(path).sha256() in str(error.value)
    assert not harm.exists()
    pickle.loads(pickle.dumps(Harm(harm)))
    assert harm.exists()  # the payload works where it is let
