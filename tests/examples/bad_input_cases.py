"""What users type wrongly: a script, its arguments, the exit code and the sentence that they must read.

The files that the arguments name are those of `bad_files.py`. Exit code 2: a mistake in the configuration, told before
anything is loaded, also one that Hydra refuses. Code 1: data that turn out to be unusable while they are read.
"""

CONFIG, DATA = 2, 1

TRAIN = "model.train_ds.src_file_name=train.de model.train_ds.tgt_file_name=train.en"
VALID = "model.validation_ds.src_file_name=val.de model.validation_ds.tgt_file_name=val.en"
TEACHER = "model.distillation.model_path=teacher.nemo"
LOGS = "+exp_manager.explicit_log_dir=run"
DISTIL = f"{TEACHER} {TRAIN} {VALID} ~model.test_ds {LOGS}"
PLAIN = (
    f"{TRAIN} {VALID} ~model.test_ds {LOGS} model.encoder_tokenizer.tokenizer_model=tokenizer.model "
    "model.decoder_tokenizer.tokenizer_model=tokenizer.model"
)
CACHE = f"{TEACHER} {TRAIN} model.distillation.teacher_cache=new_cache trainer.accelerator=cpu cache.k=8"
LABELS = "model=teacher.nemo source=train.de output_dir=new_labels accelerator=cpu"
MIX = (
    "output=new corpora.real.source=train.de corpora.real.target=train.en corpora.real.share=1 "
    "corpora.pseudo.source=val.de corpora.pseudo.target=val.en corpora.pseudo.share=1"
)
TRANSLATE = "model=teacher.nemo input=test.de output=new.en"
EVALUATE = "output_dir=new +models.a=teacher.nemo '+test_sets.t={source: test.de, reference: test.en}'"
EXPLAIN = (
    "output_dir=new teacher=teacher.nemo model=teacher.nemo test.source=test.de test.reference=test.en "
    "train.source=train.de train.target=train.en"
)
PIPELINE = "--config-name=pipeline output_dir=new teacher=teacher.nemo corpus.folder=. corpus.monolingual=train.de"


def distil(text: str, code: int, sentence: str) -> tuple[str, str, int, str]:
    return "enc_dec_nmt_distill.py", f"{DISTIL} {text}", code, sentence


def odd_text(name: str, place: str) -> tuple[str, str, int, str]:
    """A training file with a line that other programs read otherwise than NeMo does."""
    return distil(f"model.train_ds.src_file_name={name}", CONFIG, f"model.train_ds: '{name}' {place}")


SOURCE = "model.train_ds.src_file_name"
KEYS = [
    distil("+model.distillation.temprature=2", CONFIG, "unknown key 'temprature'; the closest known key is 'temperature'"),
    distil("model.distillation.temprature=2", CONFIG, "Could not override 'model.distillation.temprature'"),
    distil("model.beam_size='${nope}'", CONFIG, "model.beam_size: Interpolation key 'nope' not found."),
    distil("model.beam_size='${nope:1}'", CONFIG, "model.beam_size: Unsupported interpolation type nope."),
    distil("+trainer.max_step=10", CONFIG, "trainer has the unknown key 'max_step'; the closest known key is 'max_steps'"),
    distil("model.train_ds.tokens_in_batch=many", CONFIG, "model.train_ds.tokens_in_batch=many: must be"),
    distil("~model.distillation", CONFIG, "model.distillation is missing"),
    distil("~model.decoder", CONFIG, "model.decoder is missing"),
]  # fmt: skip
OBJECTIVES = [
    distil("+model.distillation.loss.own._target_=os.system", CONFIG, "loss.own._target_=os.system: must begin with nemo_distill.losses."),
    distil("model.distillation.loss.primary=null", CONFIG, "model.distillation.loss.primary"),
    distil("model.distillation.loss=kl", CONFIG, "model.distillation.loss=kl: must be"),
    distil("'+model.distillation.mix.corpora.pseudo={source: nowhere, target: val.en, share: 1}'", CONFIG,
           "model.distillation.mix.corpora.pseudo.source names 'nowhere', which does not exist."),
    distil("distillation=seq_level", CONFIG, "model.distillation.mix.corpora.pseudo.source has no value"),
]  # fmt: skip
TEACHERS = [
    distil("model.distillation.model_path=null", CONFIG, "model.distillation.model_path has no value"),
    distil("model.distillation.model_path=3", CONFIG, "model.distillation.model_path=3: must be"),
    distil("model.distillation.model_path=folder", CONFIG, "'folder' is a folder without config.json"),
    distil("model.distillation.model_path=empty.nemo", CONFIG, "'empty.nemo' is not a .nemo file"),
    distil("model.distillation.model_path=without_config.nemo", CONFIG, "it has no model_config.yaml"),
    distil("model.distillation.model_path=speech.nemo", CONFIG, "'speech.nemo' holds a 'nemo.collections.asr.models.EncDecCTCModel'"),
    distil("model.distillation.model_path=evil.nemo", CONFIG, "its config has 'os.system', and loading it could run code"),
    distil("model.distillation.model_path=[teacher.nemo,teacher.nemo] model.distillation.teacher_weights=[1]", CONFIG,
           "model.distillation.teacher_weights=[1.0]: must be"),
    distil("model.decoder_tokenizer.tokenizer_model=swapped.model", CONFIG, "id 14 is '\u2581rex', but the teacher's is '\u2581red'"),
    distil("model.distillation.teacher_cache=cache", CONFIG, "'cache' holds no finished teacher cache"),
]  # fmt: skip
TEXT = [
    distil(f"{SOURCE}=folder", CONFIG, f"{SOURCE} names 'folder', which"),
    distil(f"{SOURCE}=null", CONFIG, f"{SOURCE} has no value"),
    distil(f"{SOURCE}=7", CONFIG, f"{SOURCE}=7: must be"),
    distil(f"{SOURCE}=[train.de,val.de]", CONFIG, "has 2 source and 1 target files"),
    distil(f"{SOURCE}=empty.de", CONFIG, "'empty.de' has 0 lines and 'train.en' has 40;"),
    odd_text("latin1.de", "is not UTF-8 in line 3"),
    odd_text("windows.de", "ends line 1 with CR LF (Windows line end)"),
    odd_text("line_separator.de", "holds U+2028 (line separator) in line 3"),
    distil("model.train_ds.use_tarred_dataset=true model.train_ds.metadata_file=nowhere.json", CONFIG,
           "model.train_ds.metadata_file names 'nowhere.json', which does not exist."),
    distil("model.train_ds.use_tarred_dataset=true model.train_ds.metadata_file=torn.json", CONFIG,
           "'torn.json' is not metadata of tarred data"),
]  # fmt: skip
BASELINES = [
    ("enc_dec_nmt.py", f"{PLAIN} model.encoder_tokenizer.tokenizer_model=null", CONFIG, "tokenizer_model has no value"),
    ("enc_dec_nmt.py", f"{PLAIN} model.decoder_tokenizer.tokenizer_model=plain.model", CONFIG, "is not a sentencepiece"),
    ("enc_dec_nmt.py", f"{PLAIN} model.preproc_out_dir=new model.encoder_tokenizer.tokenizer_model=null", CONFIG,
     "model.encoder_tokenizer.vocab_size has no value"),
    ("enc_dec_nmt.py", f"{PLAIN} model.preproc_out_dir=train.de", CONFIG, "model.preproc_out_dir=train.de: this is a file"),
    ("enc_dec_nmt_distill.py", f"-m {DISTIL} model.distillation.temperature=1,2", CONFIG, "would share it; leave"),
    ("enc_dec_nmt_distill.py", f"-m {DISTIL.replace(LOGS, '')} model.distillation.temperature=1,-1", CONFIG,
     "must be a number above 0 or a schedule such as {schedule: linear, start: 1.0, end: 0.0, steps: 10000}. So with "
     "model.distillation.temperature=-1."),
    ("enc_dec_nmt.py", f"-m {PLAIN.replace(LOGS, '')} model.optim.lr=1e-3,x", CONFIG, "So with model.optim.lr=x."),
]  # fmt: skip
PREPARE = "source=train.de target=train.en output=new tokenizer.vocab_size=60"
PREPARING = [
    ("prepare.py", f"{PREPARE} target=empty.de", CONFIG, "target names 'empty.de', which is empty."),
    ("prepare.py", f"{PREPARE} output=", CONFIG, "output=: must be a path that is not empty."),
    ("prepare.py", f"{PREPARE} output=train.en", CONFIG, "output=train.en: this is a file; give a folder."),
]
CACHES = [
    ("cache_teacher.py", f"{CACHE} cache.k=0", CONFIG, "cache.k=0: must be"),
    ("cache_teacher.py", f"{CACHE} cache.dtype=int8", CONFIG, "cache.dtype=int8: must be one of float16, float32"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=null", CONFIG, "teacher_cache has no value"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=cache", CONFIG, "'cache' holds a teacher cache"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=taken.en", CONFIG, "'taken.en' is a file"),
    ("cache_teacher.py", f"{CACHE} model.distillation.model_path=[a.nemo,b.nemo]", CONFIG, "one teacher's .nemo or folder."),
    ("cache_teacher.py", f"{CACHE} {SOURCE}=line_separator.de", CONFIG, "holds U+2028 (line separator)"),
]  # fmt: skip
LABELLING = [
    ("generate_pseudo_labels.py", "", CONFIG, "model has no value"),
    ("generate_pseudo_labels.py", f"{LABELS} source=torn.de.gz", CONFIG, "'torn.de.gz' cannot be unpacked after line"),
    ("generate_pseudo_labels.py", f"{LABELS} devices=0", CONFIG, "devices=0: must be"),
    ("generate_pseudo_labels.py", f"{LABELS} model=speech.nemo", CONFIG, "'speech.nemo' holds a 'nemo.collections.asr.models.EncDecCTCModel'"),
    ("generate_pseudo_labels.py", f"{LABELS} engine=ctranslate2 model=folder", CONFIG, "'folder' is not an export"),
    ("generate_pseudo_labels.py", f"{LABELS} output_dir=", CONFIG, "output_dir=: must be a path that is not empty."),
    ("generate_pseudo_labels.py", f"{LABELS} output_dir=labels", CONFIG, "'labels' holds labels"),
    ("generate_pseudo_labels.py", f"{LABELS} output_dir=taken.en", CONFIG, "'taken.en' is a file"),
]  # fmt: skip
MIXING = [
    ("mix_corpora.py", f"{MIX} output=.", CONFIG, "output=.: must be what the names of files begin with."),
    ("mix_corpora.py", f"{MIX} corpora.real.source=short.de", DATA, "'train.en' has more lines than 'short.de'"),
    ("mix_corpora.py", f"{MIX} output=mixed", CONFIG, "'mixed.src' is there, and no record of a mix"),
    ("mix_corpora.py", f"{MIX} reading.max_characters=1", DATA, "corpora.real has no usable pair."),
]  # fmt: skip
USES = [
    ("translate.py", f"{TRANSLATE} output=taken.en", CONFIG, "output names 'taken.en', which exists; set overwrite"),
    ("translate.py", f"{TRANSLATE} output=nowhere/new.en", CONFIG, "output names 'nowhere/new.en', but there is no"),
    ("translate.py", f"{TRANSLATE} output=2024/new.en", CONFIG, "output names '2024/new.en', but there is no"),
    ("translate.py", f"{TRANSLATE} device=gpu", CONFIG, "device=gpu: must be cpu, cuda,"),
    ("export.py", "model=teacher.nemo output=folder", CONFIG, "output='folder' already exists; choose another"),
    ("export.py", "model=teacher.nemo output=folder force=true", CONFIG, "is not an earlier export"),
    ("export.py", "model=nowhere.nemo output=new", CONFIG, "model=nowhere.nemo: there is no file"),
    ("evaluate.py", f"{EVALUATE} '+models.b={{model: teacher.nemo, engine: auto}}'", CONFIG, "models.b.engine=auto: an evaluation compares"),
    ("evaluate.py", f"{EVALUATE} output_dir=", CONFIG, "output_dir=: must be a path that is not empty."),
    ("evaluate.py", "output_dir=new", CONFIG, "models is empty: give at least one"),
    ("evaluate.py", f"{EVALUATE} '+test_sets.u={{source: short.de, reference: train.en}}'", CONFIG, "be parallel."),
    ("evaluate.py", f"{EVALUATE} '+test_sets.u={{sacrebleu: wmt41, pair: de-en}}'", CONFIG, "wmt41: sacrebleu knows"),
    ("evaluate.py", f"{EVALUATE} significance=bootstrap", CONFIG, "significance=bootstrap: must be a section with"),
    ("evaluate.py", "models=teacher.nemo", CONFIG, "models=teacher.nemo: must be a section"),
    ("size_student.py", "teacher=teacher.nemo target=10000", CONFIG, "target=10000: must be a section with"),
    ("size_student.py", "teacher=teacher.nemo recipe.source=train.de recipe.target=short.de", CONFIG, "recipe.source: 'train.de' has 40 lines and"),
    ("size_student.py", "teacher=text.nemo target.parameters=9", CONFIG, "'text.nemo' is not a .nemo file"),
    ("model_card.py", "model=teacher.nemo output=taken.en", CONFIG, "output names 'taken.en', which exists"),
    ("model_card.py", "model=teacher.nemo run=folder output=new.md", CONFIG, "there is no run.json in 'folder'"),
    ("model_card.py", "model=teacher.nemo evaluation=list.json output=new.md", CONFIG, "'list.json' cannot be read: input should be an object"),
    ("model_card.py", "model=teacher.nemo evaluation=torn.json output=new.md", CONFIG, "'torn.json' cannot be read"),
    ("explain.py", f"{EXPLAIN} model=text.nemo", CONFIG, "'text.nemo' is not a .nemo file"),
    ("explain.py", f"{EXPLAIN} teacher='{{translations: test.en}}'", CONFIG, "teacher.translations: the teacher has to"),
    ("explain.py", f"{EXPLAIN} export=folder", CONFIG, "'folder' is not an export"),
    ("explain.py", f"{EXPLAIN} search.length_penalty=1.0", CONFIG, "search.length_penalty_form=wu: CTranslate2 supports only"),
    ("report.py", "output_dir=new runs=2024", CONFIG, "runs=2024: must be null or a path"),
    ("report.py", "output_dir=new runs=folder curves=val_loss", CONFIG, "curves=val_loss: must be a list"),
    ("report.py", "output_dir=new runs=folder", DATA, "'folder' holds no training"),
    ("report.py", "output_dir=new runs=runs", DATA, "run.json' cannot be read"),
    ("demo_server.py", "", CONFIG, "models={}: must be a section with at least one model"),
    ("demo_server.py", "models=teacher.nemo", CONFIG, "models=teacher.nemo: must be a section with at least one model, such as '+models.student="),
    ("compare_students.py", "--config-name=pipeline", CONFIG, "corpus.monolingual has no value; give it."),
    ("compare_students.py", f"{PIPELINE} teacher=nowhere.nemo", CONFIG, "teacher names 'nowhere.nemo'"),
    ("compare_students.py", f"{PIPELINE} corpus.folder=folder", CONFIG, "corpus.folder=folder lacks folder/train.de"),
    ("study/study.py", "corpus.folder=. '~experiments.triple'", CONFIG, "'experiments.triple.methods.wide_nll_init'"),
    ("study/study.py", "output_dir=new corpus.folder=. report_only=true", CONFIG, "output_dir=new holds no trained teacher."),
]  # fmt: skip
CASES = [
    *KEYS, *OBJECTIVES, *TEACHERS, *TEXT, *BASELINES, *PREPARING, *CACHES, *LABELLING, *MIXING, *USES,
]  # fmt: skip
