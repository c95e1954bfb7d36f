"""The commands as a user types them, with tiny sizes."""

import csv
import json
import pickle
import subprocess
import sys
import tarfile
from collections import Counter

import pytest

from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.records import read_json
from tests.conftest import SCRIPTS
from tests.forked import run_script

PAD = 3  # of the tests' tokenizer
# As the study's author published it; `trainer.gpus` is `trainer.devices` since.
PUBLISHED = """
--config-path=conf --config-name=aayn_base_distill do_training=true trainer.devices=1 ~trainer.max_epochs
+trainer.max_steps=4 +trainer.val_check_interval=2 +trainer.accumulate_grad_batches=1
model.src_language=de model.tgt_language=en model.beam_size=4 model.max_generation_delta=5 model.label_smoothing=0.0
model.encoder_tokenizer.tokenizer_model={tokenizer} model.decoder_tokenizer.tokenizer_model={tokenizer}
model.encoder.hidden_size=16 model.encoder.inner_size=32 model.encoder.num_attention_heads=2 model.encoder.num_layers=1
model.encoder.pre_ln=true model.decoder.hidden_size=16 model.decoder.inner_size=32 model.decoder.num_attention_heads=2
model.decoder.num_layers=1 model.decoder.pre_ln=true model.train_ds.tokens_in_batch=200
model.validation_ds.src_file_name=[{corpus}/val.de,{corpus}/test.de,{corpus}/val.de]
model.validation_ds.tgt_file_name=[{corpus}/val.en,{corpus}/test.en,{corpus}/val.en]
~model.test_ds model.optim.lr=4e-4 +model.optim.sched.warmup_steps=15000 ~model.optim.sched.warmup_ratio
model.distillation.model_path={teacher} model.distillation.distillation_loss_weight=1.0
model.distillation.student_train_loss_weight=0.0 model.distillation.cosine_loss_weight=0.0
model.distillation.temperature=1.0 model.distillation.distill_encoder=True
model.distillation.distilbert_initialization=False
+exp_manager.explicit_log_dir={output} +exp_manager.resume_if_exists=True
+exp_manager.resume_ignore_no_checkpoint=True +exp_manager.create_checkpoint_callback=True
+exp_manager.checkpoint_callback_params.monitor=val_sacreBLEU +exp_manager.checkpoint_callback_params.save_top_k=1
+exp_manager.checkpoint_callback_params.mode=max +exp_manager.checkpoint_callback_params.always_save_nemo=True
"""


def run(script, *arguments, cwd):
    return run_script(SCRIPTS / script, *arguments, cwd=cwd)


def run_alone(job, *arguments, cwd):
    """Runs the command in a process of its own: where it, or NeMo, starts others, or what it prints is tested."""
    command = [sys.executable, "-m", "nemo_distill", job, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def tarred(corpus, tokenizer, teacher_path, tmp_path_factory):
    """Tarred data that a training has prepared, of 64 real pairs and half as many pseudo-labels."""
    folder = tmp_path_factory.mktemp("tarred")
    for side in ("src", "tgt"):
        (folder / f"pseudo.{side}").write_text("rot rot rot\n" * 48)
    result = run(
        "enc_dec_nmt_distill.py", "do_training=false", "~model.validation_ds", "~model.test_ds",
        f"model.distillation.model_path={teacher_path}", "distillation=low_data",
        "model.distillation.mix.corpora.real={share: 2, fraction: 1.0}",
        f"model.distillation.mix.corpora.pseudo={{source: {folder}/pseudo.src, target: {folder}/pseudo.tgt, share: 1}}",
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        "model.train_ds.use_tarred_dataset=true", "model.train_ds.tokens_in_batch=200",
        "model.train_ds.num_batches_per_tarfile=1", "+model.train_ds.n_preproc_jobs=1",
        f"model.preproc_out_dir={folder}", f"model.encoder_tokenizer.tokenizer_model={tokenizer}",
        f"model.decoder_tokenizer.tokenizer_model={tokenizer}", cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


def test_tarred_data_holds_every_line_of_a_mix_in_its_proportions(tarred):
    targets = []
    for path in tarred.glob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive.getmembers():
                targets += pickle.load(archive.extractfile(member))["tgt"].tolist()
    counts = Counter(tuple(token for token in row if token != PAD) for row in targets)
    assert len(targets) == 64 + 32
    assert counts.most_common(1)[0][1] == 32


def test_the_published_command_works_on_several_tarred_data_sets(corpus, tokenizer, teacher_path, tarred, tmp_path):
    values = {"tokenizer": tokenizer, "corpus": corpus, "teacher": teacher_path, "output": tmp_path / "run"}
    tar_files = [sorted(map(str, tarred.glob("*.tar")))] * 2
    metadata = [str(next(tarred.glob("metadata*.json")))] * 2
    data = [
        "model.train_ds.use_tarred_dataset=true",
        f"model.train_ds.tar_files={tar_files}".replace("'", "").replace(" ", ""),
        f"model.train_ds.metadata_file={metadata}".replace("'", "").replace(" ", ""),
        "model.train_ds.concat_sampling_technique=random",
        "model.train_ds.concat_sampling_probabilities=[0.75,0.25]",
        "model.train_ds.num_workers=0",
    ]
    result = run("enc_dec_nmt_distill.py", *PUBLISHED.format(**values).split(), *data, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "checkpoints" / "AAYNBaseDistill.nemo").is_file()
    with tarfile.open(tmp_path / "run" / "checkpoints" / "AAYNBaseDistill.nemo") as archive:
        assert any(name.endswith("tokenizer.model") for name in archive.getnames())
    for name in ("val_0", "test", "val_2"):
        assert f"val {name}: 8 sentences" in result.stdout


NOISE = ("Apex", "apex", "pynvml", "egatron", "bitsandbytes", "GPU available", "ExpManager schema", "Deprecat")


def test_a_sweep_trains_without_noise_and_its_report_shows_the_training(corpus, teacher_path, tmp_path):
    sweep = run_alone(
        "distill", "-m", "model.distillation.temperature=choice(2)",
        f"model.distillation.model_path={teacher_path}", "trainer.accelerator=cpu", "+trainer.max_steps=2",
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        f"model.validation_ds.src_file_name={corpus}/val.de", f"model.validation_ds.tgt_file_name={corpus}/val.en",
        "student=slim_1x1", "model.beam_size=1", "model.train_ds.num_workers=0", "do_testing=true",
        f"model.test_ds.src_file_name={corpus}/test.de", f"model.test_ds.tgt_file_name={corpus}/test.en",
        "model.test_ds.names=[flickr]", "+trainer.val_check_interval=1", "trainer.log_every_n_steps=1", cwd=tmp_path,
    )  # fmt: skip
    assert sweep.returncode == 0, sweep.stderr
    assert "test flickr: 8 sentences" in sweep.stdout
    screen = sweep.stdout + sweep.stderr
    assert not [noise for noise in NOISE if noise in screen], screen
    folder = tmp_path / "sweep" / "model.distillation.temperature=2"
    assert (folder / "checkpoints" / "AAYNBaseDistill.nemo").is_file()
    report = run("report.py", "runs=sweep", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert all(text in page for text in ("temperature=2", "train_loss", "finished"))


def test_a_model_of_ones_own_is_distilled_in_a_few_lines(tmp_path):
    script = SCRIPTS.parent.parent / "classification" / "distil_classifier.py"
    result = run_script(script, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    accuracy = dict(line.split() for line in result.stdout.splitlines() if line.startswith("classifier"))
    assert float(accuracy["classifier_teacher.nemo"]) > 0.9 and float(accuracy["classifier_student.nemo"]) > 0.7
    lines = [
        line
        for line in script.read_text().splitlines()
        if line.strip() and not line.startswith(('"""', "import", "from"))
    ]
    assert len(lines) < 40


def test_the_pipeline_leads_from_a_teacher_to_a_hybrid_student_and_goes_on_where_it_was(
    corpus, teacher_path, tmp_path
):
    sizes = {"hidden_size": 16, "inner_size": 32, "num_attention_heads": 2, "num_layers": 1}
    student = [f"model.{side}.{key}={value}" for side in ("encoder", "decoder") for key, value in sizes.items()]
    student += ["model.shared_embeddings=true", "model.beam_size=1", "model.train_ds.num_workers=0"]
    student += ["~trainer.max_epochs", "+trainer.max_steps=2", "+trainer.val_check_interval=2"]
    student += ["trainer.check_val_every_n_epoch=null", "trainer.accelerator=cpu"]
    unfiltered = [f"filters.{name}=false" for name in ("identical", "unfinished", "duplicates")]
    unfiltered += [f"filters.{name}=null" for name in ("length_ratio", "repetitions", "untranslated")]
    command = [
        "compare", "--config-name", "pipeline", f"teacher={teacher_path}", f"corpus.folder={corpus}",
        "corpus.monolingual=null", f"output_dir={tmp_path}/runs", "beam_size=2", f"students={student}",
        f"search={['search.max_delta=5', 'accelerator=cpu', *unfiltered]}",
        "~baselines.baseline", "~labels.mono", "~labels.second", "~methods.noisy",
        "methods.hybrid=['distillation=hybrid','${pseudo}']", "report=true",
    ]  # fmt: skip
    result = run("compare_students.py", *command[1:], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    finished = sorted(path.parent.name for path in (tmp_path / "runs").glob("*/finished.json"))
    assert finished == ["hybrid_seed0", "labels_train"]
    again = run("compare_students.py", *command[1:], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "3 of 3 jobs have finished before." in again.stdout  # with the teacher that was there
    mixed = NemoArchive(tmp_path / "runs" / "hybrid_seed0" / "model.nemo").config.distilled_with.distillation.mix
    labels = read_json(tmp_path / "runs" / "labels_train" / "pseudo.json")
    assert mixed.made.corpora.pseudo.pairs == labels["kept"] > 0
    for name in ("teacher", "hybrid_seed0"):
        assert name in again.stdout
    assert "hybrid_seed0" in (tmp_path / "runs" / "report" / "report.html").read_text()
    rows = {row["system"]: row for row in csv.DictReader((tmp_path / "runs" / "evaluation" / "evaluation.csv").open())}
    assert list(rows) == ["teacher", "teacher_int8", "hybrid_seed0", "hybrid_int8_seed0"]
    for name in ("hybrid_seed0", "hybrid_int8_seed0"):
        assert float(rows[name]["training_seconds"]) > 0 and rows[name]["label_smoothing"] == "0.0"


def test_two_processes_cache_tarred_data_and_two_train_from_it(corpus, teacher_path, tarred, tmp_path):
    metadata = next(tarred.glob("metadata*.json"))
    shared = [
        f"model.distillation.teacher_cache={tmp_path}/cache", "model.train_ds.use_tarred_dataset=true",
        f"model.train_ds.metadata_file={metadata}", "model.train_ds.num_workers=0", "trainer.accelerator=cpu",
        "trainer.devices=2",
    ]  # fmt: skip
    teacher = [f"model.distillation.model_path={teacher_path}", "cache.k=8", "cache.shard_pairs=20"]
    made = run_script(SCRIPTS / "cache_teacher.py", *shared, *teacher, cwd=tmp_path, devices=2)
    assert made.returncode == 0 and "Teacher cache in" in made.stdout, made.stderr
    training = [
        "trainer.strategy=ddp", "trainer.max_epochs=2", "model.beam_size=1", f"model.validation_ds.src_file_name={corpus}/val.de", "student=slim_1x1",
        f"model.validation_ds.tgt_file_name={corpus}/val.en", "~model.test_ds",
        f"+exp_manager.explicit_log_dir={tmp_path}/run", "+exp_manager.seconds_to_sleep=0",
    ]  # fmt: skip
    trained = run_script(SCRIPTS / "enc_dec_nmt_distill.py", *shared, *training, cwd=tmp_path, devices=2)
    assert trained.returncode == 0, trained.stderr
    record, batches = read_json(tmp_path / "run" / "run.json"), json.loads(metadata.read_text())["num_batches"]
    assert record["best"] and (record["epochs"], record["steps"]) == (2, 2 * (batches // 2))


def test_an_export_is_evaluated_and_timed_by_one_command(corpus, teacher_path, tmp_path):
    from nemo_distill.export.export_model import export_model
    from nemo_distill.export.settings import ExportSettings

    export_model(ExportSettings(teacher_path, tmp_path / "ct2"))
    result = run(
        "evaluate.py", "output_dir=out", "+models.one=ct2", "+models.two={model: ct2, dtype: int8}",
        f"+test_sets.mine={{source: {corpus}/test.de, reference: {corpus}/test.en}}", "significance.samples=20",
        "speed={sentences: 4, latency_sentences: 2, rounds: 1}", "threads=1", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "evaluation.md").read_text().splitlines()[2].startswith("| one | CTranslate2 float32 |")
    assert "ms alone" in result.stdout and "mine: two has" in result.stdout
