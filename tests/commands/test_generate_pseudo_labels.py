import json
import shutil
import subprocess
import sys

import pytest

from nemo_distill.commands import generate_pseudo_labels as job
from nemo_distill.commands import labelling_config
from nemo_distill.commands.generate_pseudo_labels import (
    asking_alone,
    check_labelling,
    chosen_job,
    labelling_job,
    translate,
    write_text,
)
from nemo_distill.commands.user_errors import plain_errors
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation import fastest_engine
from nemo_distill.pseudo_labels.shards import read_rows
from nemo_distill.text.lines import clean_text
from tests import forked
from tests.conftest import REPOSITORY, composed
from tests.pseudo_labels.bad_server import bad_server
from tests.pseudo_labels.fakes import TRANSLATOR, Shouting, contents, write_model, write_source


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch):
    monkeypatch.setattr(job, "load_engine", lambda **options: Shouting())


def overrides_of(files, *overrides):
    base = [f"model={files}/teacher.nemo", f"source={files}/text.de", f"output_dir={files}/labels"]
    return [*base, "shard_lines=20", "filters.identical=false", *overrides]


def config(files, *overrides):
    return composed("generate_pseudo_labels", *overrides_of(files, *overrides))


def run_job(cfg):
    check_labelling(cfg)
    labelling = labelling_job(cfg)
    assert translate(labelling, 0, 1, "cpu")
    write_text(labelling)


def run_script(*overrides):
    script = REPOSITORY / "tests" / "pseudo_labels" / "fake_script.py"
    return forked.run_script(script, *overrides, cwd=REPOSITORY, PYTHONPATH=str(REPOSITORY))


def test_one_command_leads_from_text_to_pairs(files, capsys):
    run_job(config(files, "keep_dropped=true"))
    labels = files / "labels"
    names = ("manifest.json", "settings.json", "pseudo.json", "pseudo.src", "pseudo.tgt", "pseudo.dropped.tsv")
    assert all((labels / name).is_file() for name in names)
    manifest, record = (json.loads((labels / name).read_text()) for name in ("manifest.json", "pseudo.json"))
    assert manifest["settings"]["engine"] == "nemo_distill" and manifest["settings"]["search"]["beam_size"] == 4
    assert len(manifest["settings"]["teachers"][0]["sha256"]) == 64
    lines = [(labels / f"pseudo.{side}").read_text().split("\n")[:-1] for side in ("src", "tgt")]
    assert len(lines[0]) == len(lines[1]) == record["kept"] > 60
    assert [line.upper().split() for line in lines[0]] == [line.split() for line in lines[1]]
    shown = capsys.readouterr().out
    assert "invalid utf8" in shown and "dropped: duplicates" in shown and "kept" in shown


def test_labels_of_which_no_pair_is_kept_end_with_an_error_that_says_why(files):
    (files / "text.de").write_text("ein Hund\nein Mann\n")
    with pytest.raises(DataError, match="no pair was kept for training: 2 identical;"):
        run_job(config(files, "filters.identical=true"))
    assert json.loads((files / "labels" / "pseudo.json").read_text())["kept"] == 0


@pytest.mark.parametrize(
    ("overrides", "taken"),
    [
        (["output_dir={files}", "name=text", "source={files}/text.src"], "text.src"),
        (["output_dir={files}/../{name}", "name=text", "reference={files}/text.tgt"], "text.tgt"),
        (["output_dir={files}", "name=other"], "other.src"),
    ],
)
def test_no_text_of_the_users_is_replaced(files, overrides, taken):
    for copy, name in (("text.src", "text.de"), ("text.tgt", "text.en"), ("other.src", "text.en")):
        shutil.copy(files / name, files / copy)
    overrides = [override.format(files=files, name=files.name) for override in overrides]
    with pytest.raises(ConfigurationError, match=f"would overwrite '.*{taken}'; give another name"):
        check_labelling(config(files, *overrides))


def test_two_processes_write_the_same_bytes_as_one(files):
    """Through Hydra, Lightning's launcher, and a second process that types the same command."""
    run_job(config(files))
    expected = contents(files / "labels")
    overrides = overrides_of(files, f"output_dir={files}/shared", "devices=2", "accelerator=cpu")
    result = run_script(*overrides)
    assert result.returncode == 0, result.stderr
    assert contents(files / "shared") == expected


def test_other_filters_need_another_name_and_no_second_translation(files, monkeypatch):
    run_job(config(files))
    monkeypatch.setattr(job, "load_engine", None)
    with pytest.raises(ConfigurationError, match="filters.duplicates was True and is False; give another name"):
        check_labelling(config(files, "filters.duplicates=false"))
    run_job(config(files, "filters.duplicates=false", "name=all"))
    run_job(config(files, "filters.duplicates=false", "overwrite=text"))
    assert (files / "labels" / "all.src").read_bytes() == (files / "labels" / "pseudo.src").read_bytes()


def test_other_search_settings_are_refused_unless_told_to_start_over(files):
    run_job(config(files))
    for overwrite in ("false", "text"):
        with pytest.raises(
            ConfigurationError,
            match="search.beam_size was 4 and is 5; give another folder, or start over with overwrite=true",
        ):
            check_labelling(config(files, "search.beam_size=5", f"overwrite={overwrite}"))
    run_job(config(files, "search.beam_size=5", "overwrite=true"))
    assert json.loads((files / "labels" / "settings.json").read_text())["settings"]["search"]["beam_size"] == 5


@pytest.mark.parametrize("name", ["settings.json", "pseudo.json"])
def test_a_folder_with_a_damaged_record_is_refused(files, name):
    run_job(config(files))
    (files / "labels" / name).write_text("{")
    with pytest.raises(ConfigurationError, match=f"{name}' cannot be read"):
        check_labelling(config(files))


@pytest.mark.parametrize(
    "record", [{"settings": [1]}, {"settings": None}, {"settings": {"engine": "ctranslate2"}}, {}]
)
def test_a_record_of_another_program_gives_no_engine_and_no_type(files, teacher_path, record):
    (files / "labels").mkdir()
    (files / "labels" / "settings.json").write_text(json.dumps(record))
    reverse = f"reverse_model={teacher_path}"
    for keys in (["engine=auto", "search.length_penalty=0"], ["reverse_dtype=auto", reverse]):
        try:
            assert check_labelling(config(files, *keys)).config.dtype is None
        except ConfigurationError as error:
            assert "output_dir: " in str(error)


def test_another_teacher_is_refused(files):
    run_job(config(files))
    (files / "better").mkdir()
    write_model(files / "better" / "teacher.nemo")
    with (files / "better" / "teacher.nemo").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(ConfigurationError, match="teachers was .* and is"):
        check_labelling(config(files, f"model={files}/better/teacher.nemo"))


def test_interpolation_and_monolingual_text_go_together(files):
    write_source(files / "mono.de", 30, seed=1)
    cfg = config(
        files, f"source=[{files}/text.de,{files}/mono.de]", f"reference=[{files}/text.en,null]",
        "selection=interpolation", "metric=chrf", "search.n_best=3",
    )  # fmt: skip
    run_job(cfg)
    assert json.loads((files / "labels" / "pseudo.json").read_text())["settings"]["selection"] == "interpolation"


@pytest.mark.parametrize(
    ("language", "overrides", "expected"),
    [
        (b"zh", [], "zh"),
        (b"zh", ["metric_language=ja"], "ja"),
        (b"zh", ["metric=chrf"], None),
        (b"zh", ["selection=one_best"], None),
        (b"en", [], None),  # which is what no language is
        (b"ignore", [], None),
    ],
)
def test_bleu_finds_the_words_of_the_language_that_the_teacher_writes(
    files, monkeypatch, language, overrides, expected
):
    write_model(files / "teacher.nemo", content=TRANSLATOR + b"\ntgt_language: " + language + b"\n")
    interpolation = ["selection=interpolation", f"reference={files}/text.en", "search.n_best=3"]
    monkeypatch.setattr(
        labelling_config, "language_problems", lambda where, language: []
    )  # a package may be missing here
    assert labelling_job(config(files, *interpolation, *overrides)).assembly.criteria.metric_language == expected


def test_what_is_wrong_with_data_ends_the_job_with_a_sentence(files):
    run_job(config(files))
    (files / "labels" / "pseudo.json").unlink()
    raw = (files / "text.de").read_bytes()
    (files / "text.de").write_bytes(raw[:-2] + b"?\n")
    with pytest.raises(SystemExit, match="text.de' line 130, has changed since it was translated"), plain_errors():
        write_text(labelling_job(config(files)))


def test_labels_and_text_of_a_source_whose_text_has_changed_are_made_again(files):
    run_job(config(files))
    (files / "text.de").write_bytes((files / "text.de").read_bytes().replace(b"Hund", b"Mund"))
    with pytest.raises(ConfigurationError, match="'source 1, text.de' has changed since; give another folder"):
        check_labelling(config(files))
    run_job(config(files, "overwrite=true"))
    text = (files / "labels" / "pseudo.tgt").read_text()
    assert "MUND" in text and "HUND" not in text


def test_a_reverse_model_scores_the_hypotheses(files, teacher_path):
    run_job(config(files, f"reverse_model={teacher_path}", "chunk_lines=5"))
    rows = [row for row in read_rows(files / "labels" / "shards") if row.hypotheses]
    assert all(len(row.reverse_scores) == 1 and row.reverse_scores[0] < 0 for row in rows)
    record = json.loads((files / "labels" / "pseudo.json").read_text())
    assert record["dropped"]["reverse_score_quantile"] > 0
    settings = json.loads((files / "labels" / "settings.json").read_text())["settings"]
    assert settings["reverse_model"]["name"] == "teacher.nemo"


@pytest.mark.parametrize("engine", ["nemo_distill", "nemo", "ctranslate2"])
def test_a_teachers_labels_are_what_translating_with_it_gives(tmp_path, corpus, teacher_path, monkeypatch, engine):
    monkeypatch.setattr(job, "load_engine", load_engine)
    off = [
        f"filters.{name}=false" for name in ("empty", "identical", "unfinished", "source_cut", "unknown", "duplicates")
    ]
    off += [f"filters.{name}=null" for name in ("length_ratio", "repetitions", "untranslated")]
    overrides = [f"model={teacher_path}", f"source={corpus}/val.de", f"output_dir={tmp_path}", f"engine={engine}"]
    overrides += ["search.max_delta=5", "search.length_penalty=0", "shard_lines=3", *off]
    run_job(composed("generate_pseudo_labels", *overrides))
    lines = (corpus / "val.de").read_text().splitlines()
    search = SearchSettings(max_delta=5, length_penalty=0.0)
    translations = load_engine(engine, [teacher_path]).translate(lines, search)
    labels = (tmp_path / "pseudo.tgt").read_text().split("\n")[:-1]
    assert labels == [clean_text(translation.text) for translation in translations]


def test_translations_made_elsewhere_are_labels_too(files):
    (files / "text.en").write_text("".join(f"translation {number}\n" for number in range(1, 131)))
    run_job(config(files, "engine=file", f"model={files}/text.en", "chunk_lines=7"))
    rows = list(read_rows(files / "labels" / "shards"))
    assert len(rows) == 130
    assert all(row.hypotheses[0].text == f"translation {row.line}" for row in rows if row.hypotheses)
    assert json.loads((files / "labels" / "settings.json").read_text())["settings"]["teachers"][0]["name"] == "text.en"


def test_translations_made_elsewhere_may_lie_in_many_files(files):
    for part in (1, 2):
        (files / f"part.{part}").write_text("translation\n" * 65)
    run_job(config(files, "engine=file", f"model={files}/part.*"))
    assert len(list(read_rows(files / "labels" / "shards"))) == 130


def test_the_references_say_what_the_teacher_does_not(files):
    """By 13a, a Chinese hypothesis is one word, and which is nearest to the reference a matter of chance."""
    (files / "text.zh").write_text("我喜欢你的狗。\n" * 130)
    interpolation = ["selection=interpolation", f"reference={files}/text.zh", "search.n_best=3"]
    assert labelling_job(config(files, *interpolation)).assembly.criteria.metric_language == "zh"


RIGHT, WRONG = "我很喜欢你的狗。", "猫在桌子上面睡觉。"


def of_systems(files, lines, *overrides):
    """Labels from four systems of which three nearly agree, and the first does not."""
    for name, line in zip("abcd", lines):
        (files / name).write_text(f"{line}\n" * 130)
    systems = f"model=[{files}/a,{files}/b,{files}/c,{files}/d]"
    return config(files, "engine=file", systems, "file.format=systems", "filters=null", *overrides)


def test_translations_in_files_say_their_language_themselves(files):
    cfg = of_systems(files, [WRONG, RIGHT, RIGHT.replace("很", ""), RIGHT.replace("你", "他")], "selection=mbr")
    assert labelling_job(cfg).assembly.criteria.metric_language == "zh"
    run_job(cfg)
    assert set((files / "labels" / "pseudo.tgt").read_text().split()) == {RIGHT}


def test_hypotheses_say_their_language_if_nothing_else_does(files, monkeypatch):
    cfg = of_systems(files, [WRONG, RIGHT, RIGHT.replace("很", ""), RIGHT.replace("你", "他")], "selection=mbr")
    monkeypatch.setattr(labelling_config.LabellingConfig, "bleu_language", lambda self: None)
    run_job(cfg)
    assert set((files / "labels" / "pseudo.tgt").read_text().split()) == {RIGHT}


def test_several_teachers_that_are_only_text_choose_by_consensus(files):
    """Four systems: two agree. Another teacher, which labelled before, has a say as well."""
    for name, word in (("a", "the dog"), ("b", "a dog"), ("c", "the dog"), ("d", "cats")):
        (files / name).write_text(f"{word}\n" * 130)
    run_job(config(files, f"output_dir={files}/samples"))
    run_job(
        config(
            files, "engine=file", f"model=[{files}/a,{files}/b,{files}/c,{files}/d]", "file.format=systems",
            f"more_labels=[{files}/samples]", "selection=mbr", "metric={bleu: 0.5, chrf: 0.5}", "labels_per_source=2",
            "label_weights=rank", "filters=null",
        )
    )  # fmt: skip
    targets = (files / "labels" / "pseudo.tgt").read_text().split("\n")[:-1]
    assert targets[::2] == ["the dog"] * (len(targets) // 2) and set(targets[1::2]) == {"a dog"}
    record = json.loads((files / "labels" / "pseudo.json").read_text())
    assert record["selected_by"] == ["BLEU", "chrF"] and record["kept"] > record["lines"] * 1.3
    assert len((files / "labels" / "pseudo.weights").read_text().split()) == len(targets)


def test_failures_of_an_api_are_counted(files, capsys):
    lines = [f"{number}\t{'ERROR' if number % 5 == 0 else 'a dog'}\n" for number in range(1, 131) if number % 7]
    (files / "api.tsv").write_text("".join(lines))
    run_job(config(files, "engine=file", f"model={files}/api.tsv", "file.format=tsv", "file.failed=ERROR"))
    counts = json.loads((files / "labels" / "manifest.json").read_text())["counts"]
    assert counts["failed"] > 10 and counts["missing"] > 10
    assert "dropped: teacher failed" in capsys.readouterr().out


def test_text_in_another_language_than_the_teacher_reads_is_told(files, caplog):
    (files / "text.de").write_text("The children played in the garden all afternoon, until it grew dark.\n" * 30)
    (files / "api.en").write_text("a\n" * 30)
    with bad_server() as server:
        keys = [
            "engine=api",
            "model=tiny",
            f"api.url={server.url}",
            "source_language=German",
            "target_language=English",
        ]
        run_job(config(files, *keys, "api.input_price=null", "filters.duplicates=false"))
    assert f"source: '{files}/text.de' seems to be English, but the teacher reads German." in caplog.text


def test_a_server_labels_text_and_writes_its_bill(files, caplog):
    """The language filter drops an answer in the wrong language, and a line that cannot be had is counted."""
    german = ["der Hund sieht den Mann nicht mehr", "ein refused Hund", "Das ist ein langer deutscher Satz"]
    (files / "text.de").write_text("".join(f"{line}\n" for line in german))
    with bad_server() as server:
        overrides = [
            "engine=api", "model=tiny", f"api.url={server.url}", "source_language=German", "target_language=English",
            "api.samples=4", "api.temperature=1", "api.backoff=0.01", "selection=mbr", "filters.languages=[null,en]",
            "api.input_price=1", "api.output_price=2",
        ]  # fmt: skip
        for more in ([], ["api.concurrency=2", "name=again"]):
            with pytest.raises(DataError, match="no pair was kept for training: 2 languages, 1 teacher failed"):
                run_job(config(files, *overrides, *more))
            assert len(server.bodies) == 12
    record = json.loads((files / "labels" / "pseudo.json").read_text())
    assert record["dropped"] == {"languages": 2, "teacher_failed": 1}
    assert json.loads((files / "labels" / "bill.json").read_text())["cost"] == pytest.approx(8 * (10 + 2 * 5) / 1e6)
    assert "requests 12, prompt_tokens 80, completion_tokens 40, cost 0.00016" in caplog.text


def test_a_second_process_that_would_pay_for_the_same_answers_is_refused(files):
    with bad_server() as server:
        job = labelling_job(
            config(
                files, "engine=api", "model=tiny", f"api.url={server.url}", "source_language=German",
                "target_language=English",
            )
        )  # fmt: skip
        with asking_alone(job), pytest.raises(DataError, match="another process asks the server"), asking_alone(job):
            pass
    with asking_alone(labelling_job(config(files))), asking_alone(labelling_job(config(files))):
        pass


RAW, TOKENIZED = "Der Hund, der bellt.", "Der Hund , der bellt ."


@pytest.mark.parametrize(
    ("languages", "moses", "written"),
    [
        (("de", "en"), "teacher", TOKENIZED),
        (("ignore", "ignore"), "teacher", RAW),
        (("de", "en"), "null", RAW),
        (("ignore", "ignore"), "[de,en]", TOKENIZED),
    ],
)
def test_text_is_written_as_a_student_of_the_teachers_languages_reads_it(files, languages, moses, written):
    content = TRANSLATOR + "src_language: {}\ntgt_language: {}\n".format(*languages).encode()
    write_model(files / "teacher.nemo", content=content)
    (files / "text.de").write_text(f"{RAW}\n")
    run_job(config(files, f"moses={moses}"))
    texts = [(files / "labels" / f"pseudo.{side}").read_text() for side in ("src", "tgt")]
    assert texts == [f"{written}\n", f"{written.upper()}\n"]


def test_the_parts_that_need_no_model_import_neither_torch_nor_nemo():
    modules = "nemo_distill.pseudo_labels.generate, nemo_distill.pseudo_labels.assemble, nemo_distill.text.mixing"
    command = f"import sys, {modules}; print([name for name in ('torch', 'nemo') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_an_engine_is_chosen_for_new_labels_and_kept_for_them(files, monkeypatch):
    monkeypatch.setattr(fastest_engine, "_chosen", lambda request, lines: {"engine": "ctranslate2", "dtype": "int8"})
    cfg = config(files, "engine=auto", "search.length_penalty=0")
    chosen = chosen_job(cfg, check_labelling(cfg))
    assert translate(chosen, 0, 1, "cpu")
    settings = json.loads((files / "labels" / "settings.json").read_text())["settings"]
    assert (settings["engine"], settings["dtype"]) == ("ctranslate2", "int8")
    (files / "labels" / "engine.json").unlink()
    assert labelling_job(cfg).folder.digest == chosen.folder.digest
    with pytest.raises(ConfigurationError, match="engine was ctranslate2 and is nemo_distill"):
        check_labelling(config(files, "search.length_penalty=0"))
    anew = config(files, "engine=auto", "search.length_penalty=0", "overwrite=true")
    assert labelling_job(anew).config.engine == "auto"
