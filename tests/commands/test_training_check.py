"""Each mistake gets its sentence, all of them at once, and without NeMo's import."""

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands import cache_teacher
from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.training_check import check_distillation_job, check_training
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.text.files import data_problems
from tests.conftest import SCRIPTS, composed, train_sentencepiece, write_corpus
from tests.models.conftest import TINY, problems


def test_a_complete_job_passes(job):
    check_distillation_job(job())


def test_a_complete_training_passes(job, tokenizer):
    tokenizers = [f"model.{side}_tokenizer.tokenizer_model={tokenizer}" for side in ("encoder", "decoder")]
    check_training(job(*tokenizers, name="aayn_base"))


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("aayn_base", "+student=self"),
        ("aayn_base", "+model.distillation.model_path=teacher.nemo"),
        ("aayn_base_distill", "model.distillation.model_path=teacher.nemo"),
    ],
)
def test_a_training_without_a_teacher_does_not_ignore_one(job, tokenizer, name, override):
    tokenizers = [f"model.{side}_tokenizer.tokenizer_model={tokenizer}" for side in ("encoder", "decoder")]
    (problem,) = problems(check_training, job(*tokenizers, override, name=name))
    assert problem.startswith("model.distillation has no effect") and "nemo-distill distill" in problem


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.distillation.temperature=0"], "model.distillation.temperature=0: must be a number above 0"),
        (["+model.distillation.temprature=2"], "unknown key 'temprature'; the closest known key is 'temperature'"),
        (["model.distillation.distillation_loss_weight=-1"], "model.distillation.distillation_loss_weight=-1: must be a number of at least 0"),
        (["distillation=word_level_kl", "model.distillation.distillation_loss_weight=0"], "nothing to train on"),
        (["model.distillation.temperature=1", "model.distillation.distilbert_initialization=true", "model.distillation.initialization={encoder: null, decoder: [2], embeddings: false}", "model.encoder.num_layers=1", "model.decoder.num_layers=1", "model.encoder.hidden_size=16", "model.decoder.hidden_size=16", "model.decoder.inner_size=32", "model.decoder.num_attention_heads=2"], "model.distillation.initialization.decoder=[2]: must be 1 numbers from 1 to 1"),
        (["distillation=distilbert", *TINY, "model.encoder.num_layers=many"], "model.encoder.num_layers=many: must be a whole number of at least 1."),
        (["distillation=distilbert", *TINY, "model.encoder.num_layers=null"], "model.encoder.num_layers=null: must be a whole number of at least 1."),
        (["~model.train_ds", "do_training=false", "+model.distillation.mix.corpora.real={share: 1}"], "model.distillation.mix.corpora are read instead of model.train_ds"),
        (["model.bleu_tokenizer={a: 1}"], "model.bleu_tokenizer={'a': 1}: must be null or one of"),
        (["model.distillation.cosine_loss_weight=1", "model.distillation.loss.cosine.hidden_states=decoder_layers"], "layers=uniform: the student's 6 layers outnumber the teacher's 1"),
        (["+model.distillation.loss.cosine.layers=[[1,9]]", "model.distillation.cosine_loss_weight=1", "model.distillation.loss.cosine.hidden_states=encoder_layers"], "layers=[[1, 9]]: pairs layer 1 with the teacher's 9"),
        (["model.distillation.model_path=nowhere.nemo"], "there is no file 'nowhere.nemo'"),
        (["model.train_ds.src_file_name=nowhere.de"], "model.train_ds.src_file_name names 'nowhere.de', which does not exist."),
        (["model.validation_ds.names=[a,b]"], "model.validation_ds.names has ['a', 'b']; 1 different names are needed"),
        (["model.encoder.num_attention_heads=7", "model.decoder.num_attention_heads=8"], "not a multiple of num_attention_heads=7"),
        (["model.encoder.hidden_size=256"], "differ in hidden_size"),
        (["model.train_ds.use_tarred_dataset=true", "model.preproc_out_dir=out", "model.train_ds.max_seq_length_ratio=0.5"], "model.train_ds.max_seq_length_ratio=0.5: must be a number of at least 1."),
        (["model.train_ds.use_tarred_dataset=true", "model.preproc_out_dir=out", "model.train_ds.num_batches_per_tarfile=0"], "model.train_ds.num_batches_per_tarfile=0: must be a whole number of at least 1."),
        (["model.train_ds.use_tarred_dataset=true", "model.preproc_out_dir=out", "model.train_ds.tokens_in_batch=0"], "model.train_ds.tokens_in_batch=0: must be a whole number of at least 1."),
        (["model.encoder_tokenizer.library=byte-level"], "model.encoder_tokenizer.library=byte-level: NeMo 2's byte tokenizer has no start symbol"),
        (["model.train_ds.use_tarred_dataset=true", "model.preproc_out_dir=out", "model.train_ds.tar_files=[x.tar]"], "model.train_ds.metadata_file has no value"),
        (["model.encoder_tokenizer.r2l=true"], "model.encoder_tokenizer.r2l=True has no effect, because the student has its teacher's tokenizer"),
        (["model.decoder_tokenizer.bpe_dropout=0.1"], "model.decoder_tokenizer.bpe_dropout=0.1 has no effect, because the student has its teacher's tokenizer"),
        (["ema=0.99", "trainer.precision=bf16-true"], "ema=0.99: needs weights in float32; set trainer.precision=bf16-mixed, not bf16-true."),
        (["trainer.precision=16-true"], "trainer.precision=16-true: in float16, model.optim.eps=1e-08 of adam is 0, so that weights become NaN"),
        (["model.distillation.teacher_precision=float32", "trainer.precision=bf16-true"], "model.distillation.teacher_precision=float32: trainer.precision=bf16-true converts the teacher to bfloat16 too; set null."),
        (["+trainer.gpus=1"], "trainer.gpus is called trainer.devices now."),
        (["model.encoder_tokenizer.tokenizer_model=nowhere.model"], "names 'nowhere.model', which does not exist"),
        (["model.search=beam"], "model.search=beam: must be one of nemo_distill, nemo."),
        (["model.distillation.noise.mask=2"], "model.distillation.noise.mask=2: must be a number of at least 0 and below 1."),
        (["+model.distillation.noise.maks=0.1"], "model.distillation.noise has the unknown key 'maks'"),
        (["model.distillation.noise.mask=0.1", "model.distillation.cosine_loss_weight=1", "model.distillation.loss.cosine.hidden_states=encoder_hidden_states"], "distillation.loss.cosine cannot compare their 'encoder_hidden_states'"),
        (["student=self", "model.distillation.noise.swap_distance=3", "+model.distillation.loss.maps={_target_: nemo_distill.losses.AttentionMapsLoss}"], "distillation.loss.maps cannot compare their 'decoder_cross_attention'"),
        (["model.distillation.cosine_loss_weight=1", "+model.distillation.loss.cosine.layers=last"], "model.distillation.loss.cosine.layers=last: no effect on 'decoder_hidden_states', the last layer"),
        (["model.src_language=true"], "model.src_language=True: must be the code of a language."),
        (["model.head.num_layers=2"], "model.head.num_layers=2: NeMo's model has a head of 1 layer"),
        (["model.head.log_softmax=false"], "model.head.log_softmax=false: losses and searches need log-probabilities"),
        (["model.shared_embeddings=true", "model.shared_tokenizer=false"], "set model.shared_tokenizer=true"),
        (["+model.optim.sched.warmup_steps=2000"], "model.optim.sched has warmup_steps=2000 and warmup_ratio=0.1; give one of them"),
        (["trainer.max_epochs=-1"], "trainer.max_epochs=-1: the learning rate's schedule, model.optim.sched, needs a length"),
        (["trainer.max_epochs=null", "+trainer.max_time=00:01:00:00"], "trainer.max_epochs=null: the learning rate's schedule"),
        (["~model.train_ds"], "model.train_ds is missing, and do_training=true needs it."),
        (["do_testing=true"], "model.test_ds is missing, and do_testing=true needs it."),
        (["model.distillation.loss.cosine.hidden_states=states", "model.distillation.cosine_loss_weight=1"], "reads 'states'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(job, overrides, sentence):
    found = problems(check_distillation_job, job(*overrides))
    assert len(found) == 1 and sentence in found[0], found


def test_all_mistakes_are_told_at_once(job):
    found = problems(
        check_distillation_job,
        job("model.distillation.temperature=-1", "model.train_ds.tgt_file_name=nowhere.en", "+trainer.gpus=[0]"),
    )
    assert len(found) == 3


def test_files_that_are_not_parallel_are_told_with_their_lengths(job, tmp_path):
    source, _ = write_corpus(tmp_path, "short", 5, seed=9)
    (problem,) = problems(check_distillation_job, job(f"model.train_ds.src_file_name={source}"))
    assert "has 5 lines and" in problem and "has 64" in problem


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"der Hund\nrot \xff\n", "is not UTF-8 in line 2"),
        (
            b"\x1f\x8b\x08\x00packed",
            "is compressed, but NeMo reads only plain text; decompress it, or for training, let 'nemo-distill prepare'",
        ),
    ],
)
def test_text_that_nemo_cannot_read_is_told(job, corpus, tmp_path, text, sentence):
    (tmp_path / "odd.de").write_bytes(text)
    (problem,) = problems(check_distillation_job, job(f"model.train_ds.src_file_name={tmp_path}/odd.de"))
    assert sentence in problem


def test_lines_that_other_programs_would_end_elsewhere_are_told_with_the_first_place(job, tmp_path):
    (tmp_path / "odd.de").write_bytes(b"Hund\n" * 300_000 + "Hund\u2028rot\r\n\0\n".encode() + b"rot\n" * 300_000)
    (problem,) = problems(check_distillation_job, job(f"model.train_ds.src_file_name={tmp_path}/odd.de"))
    assert "holds U+2028 (line separator) in line 300001; 'nemo-distill mix' writes" in problem


@pytest.mark.parametrize(
    ("character", "said"),
    [
        ("\0", "holds U+0000 (NUL) in line 2"),
        ("\r", "holds U+000D (carriage return) in line 2"),
        ("\v", "holds U+000B (vertical tab) in line 2"),
        ("\f", "holds U+000C (form feed) in line 2"),
        ("\x1c", "holds U+001C (file separator) in line 2"),
        ("\x85", "holds U+0085 (next line) in line 2"),
        ("\u2029", "holds U+2029 (paragraph separator) in line 2"),
        ("\ufeff", "holds U+FEFF (byte order mark) in line 1"),
    ],
)
def test_each_character_that_other_programs_end_lines_at_is_told_by_its_name(tmp_path, character, said):
    lines = [f"{character}rot", "Hund"] if character == "\ufeff" else ["rot", f"Hund{character}rot"]
    for name, content in (("odd.de", lines), ("plain.en", ["red", "dog"])):
        (tmp_path / name).write_bytes("".join(f"{line}\n" for line in content).encode())
    files = {"src_file_name": f"{tmp_path}/odd.de", "tgt_file_name": f"{tmp_path}/plain.en"}
    (problem,) = data_problems("model.train_ds", files)
    assert problem.startswith(f"model.train_ds: '{tmp_path}/odd.de' {said}")


def test_values_that_no_library_could_use_are_told_by_key_and_range(job):
    found = problems(
        check_distillation_job, job("model.train_ds.tokens_in_batch=0", "model.optim.lr=nan", "trainer.devices=-2")
    )
    assert found == [
        "model.train_ds.tokens_in_batch=0: must be a whole number of at least 1.",
        "model.optim.lr=nan: must be a number above 0.",
        "trainer.devices=-2: must be a number of at least 1, -1 or auto for all, or a list of the devices' numbers.",
    ]


def test_a_test_set_in_the_training_data_is_warned_of_with_number_and_line(job, corpus, tmp_path):
    lines = {side: (corpus / f"train.{side}").read_text().splitlines() for side in ("de", "en")}
    new = {"de": "Haus Haus Haus Haus", "en": "house house house house"}
    for side in ("de", "en"):
        known = [*lines[side][:10], "rot" if side == "de" else "something else", *lines[side][10:]]
        (tmp_path / f"train.{side}").write_text("\n".join(known) + "\n")
        (tmp_path / f"val.{side}").write_text("\n".join([new[side], *lines[side][40:43]]) + "\n")
    sources = [f"model.{section}.src_file_name={tmp_path}/{name}.de" for section, name in PARTS]
    targets = [f"model.{section}.tgt_file_name={tmp_path}/{name}.en" for section, name in PARTS]
    (warning,) = check_distillation_job(job(*sources, *targets))
    pairs = list(zip(*lines.values()))
    first = min(pairs.index(pair) + (2 if pairs.index(pair) >= 10 else 1) for pair in pairs[40:43])
    assert warning == (
        "model.validation_ds: 3 of its 4 pairs are also in the training data, the first in line "
        f"{first} of '{tmp_path}/train.de'; scores on this set will be too optimistic."
    )


def test_a_section_that_a_shell_has_made_a_word_of_is_told(job):
    """As of model.encoder={num_layers:1,hidden_size:48} without quotes."""
    words = ["model.encoder=num_layers:1", "model.encoder=hidden_size:48", "model.optim=adam"]
    found = sorted(problems(check_distillation_job, job(*words)))
    assert [problem.split(":")[0] for problem in found] == ["model.encoder=hidden_size", "model.optim=adam"]
    assert found[0].endswith("must be a section of keys; in a shell, braces want quotes: 'model.encoder={...}'.")


def test_raw_text_that_translation_would_tokenize_is_warned_of(job, tmp_path):
    raw, tokenized = tmp_path / "raw.de", tmp_path / "tokenized.de"
    raw.write_text("Der Hund sieht.\n" * 64, encoding="utf-8")
    tokenized.write_text("Der Hund sieht .\n" * 64, encoding="utf-8")
    (warning,) = check_distillation_job(job(f"model.train_ds.src_file_name={raw}", "model.src_language=de"))
    assert warning.startswith("model.train_ds.src_file_name") and "model.src_language=ignore" in warning
    assert check_distillation_job(job(f"model.train_ds.src_file_name={raw}", "model.src_language=ignore")) == []
    assert check_distillation_job(job(f"model.train_ds.src_file_name={tokenized}", "model.src_language=de")) == []


START = [*TINY, *(f"model.{side}.max_sequence_length=64" for side in ("encoder", "decoder"))]


def test_a_start_from_a_model_of_another_size_is_refused_by_key(job, teacher_path):
    check_distillation_job(job(f"init_from_nemo_model={teacher_path}", *START))
    check_distillation_job(job(f"init_from_nemo_model={teacher_path}", "student=self"))
    found = problems(
        check_distillation_job, job(f"init_from_nemo_model={teacher_path}", *START, "model.encoder.num_layers=2")
    )
    assert found == [f"init_from_nemo_model: '{teacher_path}' has encoder.num_layers=1, model.encoder has 2."]
    (problem,) = problems(check_distillation_job, job("init_from_nemo_model=nowhere.nemo"))
    assert problem == "init_from_nemo_model: there is no file 'nowhere.nemo'."


def test_a_tokenizer_that_would_be_replaced_by_a_trained_one_is_told(job, tokenizer, tmp_path):
    """NeMo trains both where one is missing, and uses both."""
    found = problems(
        check_training,
        job(
            f"model.preproc_out_dir={tmp_path}",
            f"model.encoder_tokenizer.tokenizer_model={tokenizer}",
            "model.decoder_tokenizer.vocab_size=60",
            name="aayn_base",
        ),
    )
    assert len(found) == 1 and "model.encoder_tokenizer.tokenizer_model is given" in found[0]


def test_label_smoothing_beside_distillation_is_warned_of_with_the_reason(job):
    (warning,) = check_distillation_job(job("model.label_smoothing=0.1"))
    assert warning.startswith("model.label_smoothing=0.1") and "Mueller et al. 2019" in warning
    weights = ("model.distillation.distillation_loss_weight=0", "model.distillation.student_train_loss_weight=1")
    assert check_distillation_job(job("model.label_smoothing=0.1", *weights)) == []  # of a baseline


PARTS = (("train_ds", "train"), ("validation_ds", "val"))
GROUPS = {
    group: sorted(path.stem for path in (SCRIPTS / "conf" / group).glob("*.yaml"))
    for group in ("distillation", "student", "schedule")
}
SIZES = {"slim_1x1": (1, 1, 256), "slim_3x3": (3, 3, 256), "wide_1x1": (1, 1, 1024), "wide_3x4": (3, 4, 1024)}


@pytest.mark.parametrize("method", GROUPS["distillation"])
def test_every_method_is_one_word(job, corpus, tmp_path, method):
    cfg = job(f"distillation={method}", *TINY)
    if cfg.model.distillation.across_vocabularies:
        own = train_sentencepiece(tmp_path / "own", corpus / "both.txt", vocab_size=45)
        for side in ("encoder", "decoder"):
            cfg.model[f"{side}_tokenizer"].tokenizer_model = str(own)
    if pseudo := cfg.model.distillation.mix.corpora.get("pseudo"):
        pseudo.source, pseudo.target = str(corpus / "train.de"), str(corpus / "train.en")
    check_distillation_job(cfg)


@pytest.mark.parametrize("student", SIZES)
def test_every_size_of_the_study_is_one_word(job, student):
    cfg = job(f"student={student}")
    check_distillation_job(cfg)
    encoder, decoder = cfg.model.encoder, cfg.model.decoder
    assert (encoder.num_layers, decoder.num_layers, encoder.hidden_size) == SIZES[student]
    assert encoder.hidden_size == decoder.hidden_size and encoder.inner_size == 4 * encoder.hidden_size


def test_the_studys_schedule_is_one_word(job):
    cfg = job("schedule=study")
    check_distillation_job(cfg)
    assert (cfg.trainer.max_steps, cfg.model.optim.sched.warmup_steps, cfg.model.optim.lr) == (150_000, 15_000, 4e-4)


def test_every_key_of_the_teachers_config_is_in_the_students():
    base, distill = composed("aayn_base"), composed("aayn_base_distill")

    def keys(node, prefix=""):
        for key, value in OmegaConf.to_container(node, resolve=False).items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from keys(node[key], f"{prefix}{key}.")

    assert set(keys(base)) < set(keys(distill))


@pytest.mark.parametrize(
    ("trainer", "unvalidated"),
    [
        ("+trainer.max_steps=3600 +trainer.val_check_interval=1000 trainer.check_val_every_n_epoch=null", 600),
        ("+trainer.max_steps=3000 +trainer.val_check_interval=1000 trainer.check_val_every_n_epoch=null", None),
        (
            "+trainer.max_steps=250 +trainer.val_check_interval=200 trainer.check_val_every_n_epoch=null "
            "+trainer.accumulate_grad_batches=2",
            50,
        ),
        (
            "+trainer.max_steps=10 +trainer.val_check_interval=3 trainer.check_val_every_n_epoch=null "
            "+trainer.accumulate_grad_batches=4",
            1,
        ),
        ("+trainer.max_steps=3600 +trainer.val_check_interval=1000", None),
        ("+trainer.max_steps=3600 +trainer.val_check_interval=0.3 trainer.check_val_every_n_epoch=null", None),
    ],
)
def test_steps_after_the_last_validation_are_warned_of(job, trainer, unvalidated):
    warnings = check_distillation_job(job(*trainer.split()))
    assert [f"the last {unvalidated} steps" in warning for warning in warnings] == ([True] if unvalidated else [])


@pytest.mark.parametrize(("weight", "warned"), [(0, 1), (0.5, 0)])
def test_an_encoder_loss_without_weight_is_warned_of(job, weight, warned):
    keys = ["model.distillation.distill_encoder=true", f"model.distillation.cosine_loss_weight={weight}"]
    warnings = check_distillation_job(job(*keys))
    assert ["distill_encoder=true has no effect" in warning for warning in warnings] == [True] * warned


def test_a_tag_that_the_tokenizer_splits_is_warned_of(job, corpus):
    files = f"source: {corpus}/train.de, target: {corpus}/train.en"
    mixes = [f"+model.distillation.mix.corpora.back={{{files}, share: 1, tag: {tag}}}" for tag in ("BT", "the")]
    (warning,) = check_distillation_job(job(mixes[0]))
    assert warning.startswith("model.distillation.mix.corpora.back.tag=BT: the tokenizer has no such piece")
    assert check_distillation_job(job(mixes[1])) == []


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.train_ds.max_seq_length=abc", "model.train_ds.max_seq_length=abc: must be"),
        ("model.train_ds.clean=no", "model.train_ds.clean=no: must be"),
        ("trainer.devices=abc", "trainer.devices=abc: must be"),
        ("+trainer.device=4", "trainer has the unknown key 'device'; the closest known key is 'devices'"),
        ("+trainer.gpus=4", "trainer.gpus is called trainer.devices now."),
        ("model.train_ds=num_workers:3", "model.train_ds=num_workers:3: must be a section of keys"),
    ],
)
def test_a_cache_checks_what_it_reads_of_a_training(override, sentence, cache_keys):
    keys = [key for key in cache_keys if override != "model.train_ds=num_workers:3" or "train_ds" not in key]
    (problem,) = problems(check_caching, composed("cache_teacher", *keys, override))
    assert problem.startswith(sentence)


@pytest.fixture
def cache_keys(corpus, teacher_path, tmp_path):
    """The overrides of a whole configuration of `cache`."""
    return [
        f"model.distillation.model_path={teacher_path}", f"model.distillation.teacher_cache={tmp_path}/cache",
        f"model.train_ds.src_file_name={corpus}/train.de", f"model.train_ds.tgt_file_name={corpus}/train.en",
        "cache.k=4",
    ]  # fmt: skip


def test_a_cache_is_made_by_one_process_where_its_devices_are_left_out(cache_keys, tmp_path):
    left_out = [f"~trainer.{key}" for key in ("accelerator", "devices", "num_nodes")]
    cache_teacher.main(composed("cache_teacher", *cache_keys, "cache.precision=auto", *left_out))
    assert (tmp_path / "cache" / "manifest.json").is_file()


def test_a_section_without_a_value_is_missing(job, corpus):
    data = [f"model.train_ds.{side}_file_name={corpus}/train.de" for side in ("src", "tgt")]
    for check, cfg in ((check_distillation_job, job()), (check_caching, composed("cache_teacher", *data))):
        cfg.trainer = None
        assert problems(check, cfg) == ["trainer is missing; it is a section of keys."]


def test_an_activation_that_nemo_does_not_have_is_refused(job):
    assert "model.encoder.hidden_act=swish: must be one of relu, gelu." in problems(
        check_distillation_job, job("model.encoder.hidden_act=swish")
    )


@pytest.mark.parametrize("allowed", ["+model.optim.eps=1e-4", "model.optim.name=sgd", "trainer.precision=16-mixed"])
def test_weights_in_float16_may_be_trained_where_nothing_is_divided_by_zero(allowed):
    cfg = composed("aayn_base", "trainer.precision=16-true", allowed)
    with pytest.raises(ConfigurationError) as raised:
        check_training(cfg)
    assert not any("trainer.precision" in problem for problem in raised.value.problems)
