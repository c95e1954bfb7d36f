import shutil
from dataclasses import replace

import pytest

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_value
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.exports import make_exports, with_exports
from nemo_distill.evaluation.parameters import archive_parameters
from nemo_distill.evaluation.system_sections import Models, build_systems, system_problems
from nemo_distill.evaluation.systems import System
from nemo_distill.nemo_files.archive import NemoArchive
from tests.conftest import changed_archive
from tests.decoding.test_hugging_face_engine import write_model
from tests.hugging_face_folders import write_folder

SEARCH = SearchSettings(length_penalty=0.0)


def read_systems(models, search):
    """The systems of a config's models, and all problems."""
    found, problems = read_value(Models, models, "models")
    systems = build_systems(found) if found is not None else []
    return systems, problems + (system_problems(systems, search) if systems else [])


@pytest.fixture(scope="module")
def export(teacher_path, tmp_path_factory):
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    folder = tmp_path_factory.mktemp("export") / "ct2"
    export_model(ExportSettings(teacher_path, folder))
    return folder


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A model's folder, of which the size and the tokenizer are read."""
    from transformers import MarianConfig, MarianMTModel

    folder = write_model(tmp_path_factory.mktemp("marian"))
    sizes = {
        f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in (("layers", 1), ("ffn_dim", 32))
    }
    config = MarianConfig(vocab_size=50, d_model=16, **sizes, pad_token_id=0, decoder_start_token_id=1)
    model = MarianMTModel(config)
    model.save_pretrained(folder)
    return folder, sum(parameter.numel() for parameter in model.parameters())


def test_the_path_tells_the_engine(teacher_path, export, marian):
    systems, problems = read_systems({"a": str(teacher_path), "b": str(export), "c": str(marian[0])}, SEARCH)
    assert problems == []
    assert [system.engine for system in systems] == ["nemo_distill", "ctranslate2", "hugging_face"]


def test_an_export_has_the_parameters_of_its_model_and_its_own_bytes(teacher_path, export):
    system = System("a", export, "ctranslate2")
    assert system.parameters() == archive_parameters(NemoArchive(teacher_path))
    assert system.bytes() == sum(file.stat().st_size for file in export.iterdir())
    assert System("b", teacher_path, "nemo_distill").bytes() == teacher_path.stat().st_size


def test_a_model_of_hugging_face_is_counted_without_its_weights(marian):
    count = System("a", marian[0], "hugging_face").parameters()
    assert count.total == marian[1]
    assert count.embeddings == 50 * 16 + 2 * 1024 * 16  # tied tokens, and two tables of positions


@pytest.mark.parametrize(
    ("name", "group", "seed"), [("kl_seed12", "kl", 12), ("kl", "kl", None), ("seed_seed", "seed_seed", None)]
)
def test_seeds_of_one_model_are_a_group(tmp_path, name, group, seed):
    system = System(name, tmp_path, "nemo_distill")
    assert (system.group, system.seed) == (group, seed)


def with_config(source, path, before, after):
    """A copy of a `.nemo` with a part of its config replaced."""
    return changed_archive(source, path, "model_config.yaml", lambda content: content.replace(before, after))


def test_a_model_says_what_language_it_writes(teacher_path, marian, tmp_path):
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    chinese = with_config(teacher_path, tmp_path / "zh.nemo", b"tgt_language: ignore", b"tgt_language: zh")
    assert System("a", teacher_path, "nemo_distill").written_language() is None
    assert System("a", chinese, "nemo_distill").written_language() == "zh"
    export_model(ExportSettings(chinese, tmp_path / "ct2"))
    assert System("a", tmp_path / "ct2", "ctranslate2").written_language() == "zh"
    folder = shutil.copytree(marian[0], tmp_path / "marian")
    assert System("a", folder, "hugging_face").written_language() is None
    (folder / "tokenizer_config.json").write_text('{"source_lang": "eng", "target_lang": "zho"}')
    assert System("a", folder, "hugging_face").written_language() == "zho"
    assert System("a", folder, "hugging_face", None, "eng_Latn", "jpn_Jpan").written_language() == "jpn_Jpan"


def test_the_export_of_a_model_without_the_key_of_shared_embeddings_is_counted_as_the_model_is(teacher_path, tmp_path):
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    unsaid = with_config(teacher_path, tmp_path / "unsaid.nemo", b"shared_embeddings: true\n", b"")
    assert "shared_embeddings" not in NemoArchive(unsaid).config
    export_model(ExportSettings(unsaid, tmp_path / "ct2"))
    counts = [
        System("a", tmp_path / "ct2", "ctranslate2").parameters(),
        System("b", unsaid, "nemo_distill").parameters(),
    ]
    assert counts[0] == counts[1] and counts[0].total > 0


@pytest.mark.parametrize("names", [("kl", "kl_seed0"), ("kl_seed1", "kl"), ("kl_seed0", "kl_seed00")])
def test_a_group_has_each_seed_once_and_no_system_without_one_beside_them(teacher_path, names):
    _, problems = read_systems({name: str(teacher_path) for name in (*names, "other", "other2_seed0")}, SEARCH)
    assert len(problems) == 1 and all(f"models.{name} " in problems[0] + " " for name in names[1:])


def test_all_mistakes_are_told(teacher_path, tmp_path):
    (tmp_path / "text").write_text("text")
    models = {
        "missing": ("none.nemo", "does not exist"),
        "text": (str(tmp_path / "text"), "is not a .nemo file"),
        "list": (["a.nemo"], "must be text or a section"),
        "engine": ({"model": str(teacher_path), "engine": "magic"}, "engine=magic"),
        "packed": (
            {"model": str(teacher_path), "engine": "ctranslate2"}, "takes a folder that 'nemo-distill export' wrote"
        ),
        "empty": ({"dtype": "int8"}, "model has no value"),
        "role": ({"model": str(teacher_path), "role": "boss"}, "role=boss"),
    }  # fmt: skip
    _, problems = read_systems({name: value for name, (value, _) in models.items()}, SEARCH)
    assert len(problems) == len(models)
    for name, (_, told) in models.items():
        assert any(problem.startswith(f"models.{name}") and told in problem for problem in problems), name


def test_a_model_of_hugging_face_is_exported_beside_nemos(corpus, teacher_path, tmp_path):
    folder = write_folder("nllb", tmp_path / "nllb", corpus)
    teacher = System("teacher", folder, "hugging_face", None, "de", "en")
    given = [teacher, System("student", teacher_path, "nemo_distill"), replace(teacher, name="greedy", beam_size=1)]
    systems, left_out = with_exports(given, SEARCH, "int8", tmp_path / "exports")
    assert left_out == [] and [one.name for one in systems] == [
        "teacher", "teacher_int8", "student", "student_int8", "greedy", "greedy_int8",
    ]  # fmt: skip
    other = replace(teacher, name="other", source_language="fr")
    both, _ = with_exports([teacher, other], SEARCH, "int8", tmp_path / "exports")
    assert [one.name for one in both] == ["teacher", "teacher_int8", "other", "other_int8"]
    assert both[1].model == both[3].model
    made = next(one for one in systems if one.name == "teacher_int8")
    assert (made.same_model_as, made.languages) == ("teacher", ("de", "en"))
    make_exports(systems, "int8")
    assert made.precision == "int8" and made.sha256() == teacher.sha256() and made.selected_by() == []
    assert made.parameters() == teacher.parameters() and 0 < made.bytes() < teacher.bytes()
    assert (made.written_language(), made.training()) == ("en", None)
    before = made.model.stat().st_ino
    make_exports(systems, "int8")
    assert made.model.stat().st_ino == before
    (translation,) = made.load("cpu").translate(["der Hund"], SEARCH)
    assert translation.hypotheses[0].score < 0


def test_a_model_of_hugging_face_that_ctranslate2_cannot_express_is_not_exported(marian, tmp_path):
    systems, (reason,) = with_exports([System("teacher", marian[0], "hugging_face")], SEARCH, "int8", tmp_path)
    assert len(systems) == 1 and reason.startswith("Not exported to int8: teacher. ") and "padding" in reason


def test_a_folder_that_would_be_converted_on_the_fly_is_not_evaluated(corpus, tmp_path):
    folder = write_folder("marian", tmp_path / "marian", corpus)
    _, (problem,) = read_systems({"teacher": {"model": str(folder), "engine": "ctranslate2"}}, SEARCH)
    assert problem.startswith(
        f"models.teacher.model names '{folder}', a folder of Hugging Face; leave engine out, and with export="
    )


def test_a_name_that_is_no_part_of_a_file_name_is_told(teacher_path):
    _, (problem,) = read_systems({"a/b": str(teacher_path)}, SEARCH)
    assert problem.startswith("models.a/b: a name may have")


def test_an_export_that_the_user_names_is_not_made_again(teacher_path, export, monkeypatch):
    """Its folder is where the evaluation makes its own exports."""
    made = []
    monkeypatch.setattr("nemo_distill.export.export_model.export_model", lambda settings: made.append(settings.output))
    given = [System("teacher", teacher_path, "nemo_distill"), System("mine", export, "ctranslate2")]
    systems, _ = with_exports(given, SEARCH, "int8", export.parent)
    make_exports(systems, "int8")
    assert made == [export.parent / "teacher_int8"]


def test_an_export_of_the_users_is_one_group_with_those_of_seeds_only_if_it_is_of_another_seed(
    teacher_path, trained_path, export, tmp_path
):
    paths = {"student_seed0": teacher_path, "student_seed1": trained_path}
    given = [System(name, path, "nemo_distill") for name, path in paths.items()]
    mine = System("student_int8_seed2", export, "ctranslate2")
    groups = [one.group for one in with_exports([*given, mine], SEARCH, "int8", tmp_path)[0]]
    assert groups.count("student_int8") == 3
    with pytest.raises(ConfigurationError, match="models.student_int8 has a name of the group that the export of"):
        with_exports([*given, replace(mine, name="student_int8")], SEARCH, "int8", tmp_path)


def test_an_export_with_intels_library_is_not_made_again(teacher_path, tmp_path, monkeypatch):
    monkeypatch.setenv("CT2_USE_MKL", "1")
    systems, _ = with_exports([System("teacher", teacher_path, "nemo_distill")], SEARCH, "int8", tmp_path)
    made = []
    for _ in range(2):
        make_exports(systems, "int8")
        made.append((tmp_path / "teacher_int8").stat().st_ino)
    assert made[0] == made[1]


def test_a_model_with_two_beam_sizes_is_exported_once_and_evaluated_with_both(teacher_path, trained_path, tmp_path):
    sizes = {"teacher": None, "same": 4, "teacher_greedy": 1}
    given = [System(name, teacher_path, "nemo_distill", beam_size=size) for name, size in sizes.items()]
    given.append(System("student", trained_path, "nemo_distill", beam_size=1))
    systems, _ = with_exports(given, replace(SEARCH, beam_size=4), "int8", tmp_path)
    assert [(one.name, one.model.name, one.beam_size, one.same_model_as) for one in systems if one.made_from] == [
        ("teacher_int8", "teacher_int8", None, "teacher"),
        ("teacher_greedy_int8", "teacher_int8", 1, "teacher"),
        ("student_int8", "student_int8", 1, "student"),
    ]
    make_exports(systems, "int8")
    assert [one.made_from.name for one in systems if one.made_from] == ["teacher", "teacher_greedy", "student"]


def test_settings_that_an_engine_cannot_follow_are_told(export):
    _, problems = read_systems({"a": str(export)}, SearchSettings(length_penalty=0.6))
    assert "CTranslate2 supports only power for a beam" in problems[0]


def test_of_a_hugging_face_folder_the_files_that_are_read_count(tmp_path):
    for name in ("model.safetensors", "config.json", "source.spm"):
        (tmp_path / name).write_bytes(bytes(10))
    assert System("a", tmp_path, "hugging_face").bytes() == 30
    for name in ("pytorch_model.bin", "tf_model.h5", "rust_model.ot", ".gitattributes"):
        (tmp_path / name).write_bytes(bytes(1000))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "pack").write_bytes(bytes(1000))
    assert System("a", tmp_path, "hugging_face").bytes() == 30
    (tmp_path / "model.safetensors").unlink()
    assert System("a", tmp_path, "hugging_face").bytes() == 1020
