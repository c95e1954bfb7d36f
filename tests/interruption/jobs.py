"""The six kinds of job that run for long, each as a command on tiny models and data."""

from pathlib import Path

from tests.interruption.harness import Script
from tests.pseudo_labels.fakes import Shouting

SMALL = (
    "model.encoder.hidden_size=16", "model.encoder.inner_size=32", "model.encoder.num_attention_heads=2",
    "model.encoder.num_layers=1", "model.decoder.hidden_size=16", "model.decoder.inner_size=32",
    "model.decoder.num_attention_heads=2", "model.decoder.num_layers=1", "model.beam_size=1",
)  # fmt: skip


def use_fake_engine() -> None:
    """In a child: labels come from an engine of a few lines."""
    from nemo_distill.commands import generate_pseudo_labels as job

    job.load_engine = lambda **options: Shouting()


def labelling(corpus: Path, folder: Path) -> Script:
    """Pseudo-labels of several shards, and the text made of them."""
    arguments = (
        f"model={corpus}/teacher.nemo", f"source={corpus}/train.de", f"output_dir={folder}", "accelerator=cpu",
        "shard_lines=20", "chunk_lines=8", "filters.identical=false", "keep_dropped=true",
    )  # fmt: skip
    return Script("generate_pseudo_labels.py", arguments, use_fake_engine)


def caching(corpus: Path, folder: Path) -> Script:
    """A teacher's distributions, in several shards."""
    arguments = (
        f"model.distillation.model_path={corpus}/teacher.nemo", f"model.distillation.teacher_cache={folder}",
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        "trainer.accelerator=cpu", "trainer.devices=1", "cache.shard_pairs=16", "cache.tokens_in_batch=100", "cache.k=4",
    )  # fmt: skip
    return Script("cache_teacher.py", arguments)


def exporting(corpus: Path, folder: Path) -> Script:
    """CTranslate2's format, in the place of an earlier export, if there is one."""
    arguments = (f"model={corpus}/teacher.nemo", f"output={folder}/export", "force=true", "format=ctranslate2")
    return Script("export.py", arguments)


def evaluating(corpus: Path, folder: Path) -> Script:
    """Scores and comparisons of two systems on two test sets."""
    arguments = (
        f"output_dir={folder}", f"+models.teacher={corpus}/teacher.nemo", f"+models.same={corpus}/teacher.nemo",
        *(f"+test_sets.{one}={{source: {corpus}/{one}.de, reference: {corpus}/{one}.en}}" for one in ("val", "test")),
        "speed=null", "search.beam_size=1", "search.max_delta=2", "significance.samples=20", "device=cpu", "threads=1",
    )  # fmt: skip
    return Script("evaluate.py", arguments)


def training(corpus: Path, folder: Path) -> Script:
    """A student of a mix and of noisy sources, under schedules, validated and saved in mid-epoch."""
    mix = "model.distillation.mix.corpora"
    arguments = (
        "--config-name=aayn_base_distill", f"model.distillation.model_path={corpus}/teacher.nemo", *SMALL,
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        f"model.validation_ds.src_file_name={corpus}/val.de", f"model.validation_ds.tgt_file_name={corpus}/val.en",
        "~model.test_ds", "model.train_ds.num_workers=0", "model.train_ds.tokens_in_batch=150",
        "model.validation_ds.num_workers=0", "model.src_language=ignore", "model.tgt_language=ignore",
        f"+{mix}.real={{share: 2}}", f"+{mix}.pseudo={{source: {corpus}/test.de, target: {corpus}/test.en, share: 1}}",
        "model.distillation.temperature={schedule: linear, start: 2.0, end: 1.0, steps: 8}",
        "model.distillation.student_train_loss_weight={schedule: cosine, start: 0.0, end: 1.0, steps: 8}",
        "model.distillation.noise={word_dropout: 0.1, swap_distance: 2, mask: 0.1, bpe_dropout: 0.1}",
        "trainer.accelerator=cpu", "trainer.devices=1", "+trainer.enable_progress_bar=false", "ema=0.9",
        "~trainer.max_epochs", "+trainer.max_steps=7", "+trainer.accumulate_grad_batches=2",
        "+trainer.val_check_interval=3", "trainer.log_every_n_steps=1",
        f"+exp_manager.explicit_log_dir={folder}", "+exp_manager.resume_if_exists=true",
        "+exp_manager.resume_ignore_no_checkpoint=true", "+exp_manager.checkpoint_callback_params.save_top_k=1",
    )  # fmt: skip
    return Script("enc_dec_nmt_distill.py", arguments)


def preparing(corpus: Path, folder: Path) -> Script:
    """A tokenizer, and tarred data of several fragments."""
    arguments = (
        f"source={corpus}/train.de", f"target={corpus}/train.en", f"output={folder}", "tokenizer.vocab_size=60",
        "tokens_in_batch=100", "lines_per_dataset_fragment=20", "num_batches_per_tarfile=3", "threads=1",
    )  # fmt: skip
    return Script("prepare.py", arguments)


SCRIPTS_OF = {
    "preparing": preparing,
    "labelling": labelling,
    "caching": caching,
    "exporting": exporting,
    "evaluating": evaluating,
    "training": training,
}
