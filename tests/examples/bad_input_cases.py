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
COMPARE = "--config-name=demo output_dir=new"
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
    distil("model.distillation.temperature", CONFIG, "missing EQUAL at"),
    distil("model.distillation.temperature=[1", CONFIG, "no viable alternative at input"),
    distil("distillation=word_levle", CONFIG, "Could not find 'distillation/word_levle'"),
    distil("--config-name=aayn_distil", CONFIG, "Cannot find primary config 'aayn_distil'"),
    distil("model.beam_size='${nope}'", CONFIG, "model.beam_size: Interpolation key 'nope' not found."),
    distil("model.beam_size='${nope:1}'", CONFIG, "model.beam_size: Unsupported interpolation type nope."),
    distil("--temperature 2", CONFIG, "unrecognized arguments: --temperature"),
    distil("+trainer.max_step=10", CONFIG, "trainer has the unknown key 'max_step'; the closest known key is 'max_steps'"),
    distil("+trainer.gpus=1", CONFIG, "trainer.gpus is called trainer.devices now."),
    distil("+model.train_ds.token_in_batch=8000", CONFIG, "the closest known key is 'tokens_in_batch'"),
    distil("+exp_manager.explicit_logdir=run", CONFIG, "the closest known key is 'explicit_log_dir'"),
    distil("model.train_ds.tokens_in_batch=many", CONFIG, "model.train_ds.tokens_in_batch=many: must be"),
    distil("model.train_ds.tokens_in_batch=0", CONFIG, "model.train_ds.tokens_in_batch=0: must be"),
    distil("model.train_ds.num_workers=-1", CONFIG, "model.train_ds.num_workers=-1: must be"),
    distil("model.encoder.num_layers=0", CONFIG, "model.encoder.num_layers=0: must be"),
    distil("model.encoder.hidden_size=big", CONFIG, "model.encoder.hidden_size=big: must be"),
    distil("model.decoder.num_attention_heads=7", CONFIG, "is not a multiple of num_attention_heads=7."),
    distil("model.encoder.hidden_size=256", CONFIG, "model.encoder and model.decoder differ in hidden_size"),
    distil("model.encoder.ffn_dropout=1.5", CONFIG, "model.encoder.ffn_dropout=1.5: must be"),
    distil("model.beam_size=0", CONFIG, "model.beam_size=0: must be"),
    distil("model.label_smoothing=1.5", CONFIG, "model.label_smoothing=1.5: must be"),
    distil("model.optim.lr=-1", CONFIG, "model.optim.lr=-1: must be"),
    distil("model.optim.lr=fast", CONFIG, "model.optim.lr=fast: must be"),
    distil("trainer.precision=8", CONFIG, "trainer.precision=8: must be"),
    distil("trainer.accelerator=tpuu", CONFIG, "trainer.accelerator=tpuu: must be"),
    distil("+trainer.max_steps=0.5", CONFIG, "trainer.max_steps=0.5: must be"),
    distil("trainer.devices=0", CONFIG, "trainer.devices=0: must be"),
    distil("~model.train_ds", CONFIG, "model.train_ds is missing, and do_training=true needs it."),
    distil("~model.distillation", CONFIG, "model.distillation is missing"),
    distil("~model.decoder", CONFIG, "model.decoder is missing"),
    distil("seed=lucky", CONFIG, "seed=lucky: must be"),
    distil("init_from_nemo_model=nowhere.nemo", CONFIG, "there is no file 'nowhere.nemo'"),
]  # fmt: skip
OBJECTIVES = [
    distil("model.distillation.temperature=0", CONFIG, "model.distillation.temperature=0: must be"),
    distil("model.distillation.temperature=nan", CONFIG, "model.distillation.temperature=nan: must be"),
    distil("model.distillation.temperature=\"'1,5'\"", CONFIG, "model.distillation.temperature=1,5: must be"),
    distil("model.distillation.distillation_loss_weight=-1", CONFIG, "model.distillation.distillation_loss_weight=-1: must be"),
    distil("model.distillation.distillation_loss_weight=0", CONFIG, "has no loss with a weight above 0, so there is"),
    distil("+model.distillation.loss.own._target_=os.system", CONFIG, "loss.own._target_=os.system: must begin with nemo_distill.losses."),
    distil("model.distillation.loss.primary=null", CONFIG, "model.distillation.loss.primary"),
    distil("model.distillation.loss=kl", CONFIG, "model.distillation.loss=kl: must be"),
    distil("model.distillation.noise.mask=2", CONFIG, "model.distillation.noise.mask=2: must be"),
    distil("'+model.distillation.mix.corpora.pseudo={source: nowhere, target: val.en, share: 1}'", CONFIG,
           "model.distillation.mix.corpora.pseudo.source names 'nowhere', which does not exist."),
    distil("distillation=seq_level", CONFIG, "model.distillation.mix.corpora.pseudo.source has no value"),
]  # fmt: skip
TEACHERS = [
    distil("model.distillation.model_path=nowhere.nemo", CONFIG, "there is no file 'nowhere.nemo'"),
    distil("model.distillation.model_path=null", CONFIG, "model.distillation.model_path has no value"),
    distil("model.distillation.model_path=3", CONFIG, "model.distillation.model_path=3: must be"),
    distil("model.distillation.model_path=[]", CONFIG, "model.distillation.model_path has no value"),
    distil("model.distillation.model_path=folder", CONFIG, "'folder' is a folder without config.json"),
    distil("model.distillation.model_path=empty.nemo", CONFIG, "'empty.nemo' is not a .nemo file"),
    distil("model.distillation.model_path=text.nemo", CONFIG, "'text.nemo' is not a .nemo file"),
    distil("model.distillation.model_path=without_config.nemo", CONFIG, "it has no model_config.yaml"),
    distil("model.distillation.model_path=speech.nemo", CONFIG, "'speech.nemo' holds a 'nemo.collections.asr.models.EncDecCTCModel'"),
    distil("model.distillation.model_path=evil.nemo", CONFIG, "its config has 'os.system', and loading it could run code"),
    distil("model.distillation.model_path=without_tokenizer.nemo", CONFIG, "has no member 'tokenizer.model', which its"),
    distil("model.distillation.model_path=[teacher.nemo,teacher.nemo] model.distillation.teacher_weights=[1]", CONFIG,
           "model.distillation.teacher_weights=[1.0]: must be"),
    distil("model.encoder_tokenizer.tokenizer_model=other.model", CONFIG, "pieces, the teacher's"),
    distil("model.decoder_tokenizer.tokenizer_model=swapped.model", CONFIG, "id 14 is '\u2581rex', but the teacher's is '\u2581red'"),
    distil("model.encoder_tokenizer.tokenizer_model=plain.model", CONFIG, "'plain.model' is not a sentencepiece"),
    distil("model.distillation.teacher_cache=nowhere", CONFIG, "'nowhere' holds no finished teacher cache"),
    distil("model.distillation.teacher_cache=cache", CONFIG, "'cache' holds no finished teacher cache"),
]  # fmt: skip
TEXT = [
    distil(f"{SOURCE}=nowhere.de", CONFIG, f"{SOURCE} names 'nowhere.de', which does not exist."),
    distil(f"{SOURCE}=folder", CONFIG, f"{SOURCE} names 'folder', which"),
    distil(f"{SOURCE}=null", CONFIG, f"{SOURCE} has no value"),
    distil(f"{SOURCE}=7", CONFIG, f"{SOURCE}=7: must be"),
    distil(f"{SOURCE}=[train.de,val.de]", CONFIG, "has 2 source and 1 target files"),
    distil(f"{SOURCE}=short.de", CONFIG, "'short.de' has 39 lines and 'train.en' has 40; they must be parallel."),
    distil(f"{SOURCE}=empty.de", CONFIG, "'empty.de' has 0 lines and 'train.en' has 40;"),
    distil(f"{SOURCE}=torn.de.gz", CONFIG, "'torn.de.gz' is compressed"),
    odd_text("latin1.de", "is not UTF-8 in line 3"),
    odd_text("utf16.de", "is not UTF-8 in line 1"),
    odd_text("windows.de", "ends line 1 with CR LF (Windows line end)"),
    odd_text("bom.de", "holds U+FEFF (byte order mark) in line 1"),
    odd_text("nul.de", "holds U+0000 (NUL) in line 3"),
    odd_text("return.de", "holds U+000D (carriage return) in line 3"),
    odd_text("vertical_tab.de", "holds U+000B (vertical tab) in line 3"),
    odd_text("form_feed.de", "holds U+000C (form feed) in line 3"),
    odd_text("file_separator.de", "holds U+001C (file separator) in line 3"),
    odd_text("next_line.de", "holds U+0085 (next line) in line 3"),
    odd_text("line_separator.de", "holds U+2028 (line separator) in line 3"),
    odd_text("paragraph_separator.de", "holds U+2029 (paragraph separator) in line 3"),
    distil("model.train_ds.use_tarred_dataset=true model.train_ds.metadata_file=nowhere.json", CONFIG,
           "model.train_ds.metadata_file names 'nowhere.json', which does not exist."),
    distil("model.train_ds.use_tarred_dataset=true model.train_ds.metadata_file=torn.json", CONFIG,
           "'torn.json' is not metadata of tarred data"),
    distil("model.train_ds.use_tarred_dataset=true", CONFIG, "model.train_ds.metadata_file has no value"),
]  # fmt: skip
BASELINES = [
    ("enc_dec_nmt.py", f"{PLAIN} model.encoder_tokenizer.tokenizer_model=null", CONFIG, "tokenizer_model has no value"),
    ("enc_dec_nmt.py", f"{PLAIN} model.decoder_tokenizer.tokenizer_model=plain.model", CONFIG, "is not a sentencepiece"),
    ("enc_dec_nmt.py", f"{PLAIN} model.train_ds.tgt_file_name=empty.de", CONFIG, "'empty.de' has 0"),
    ("enc_dec_nmt.py", f"{PLAIN} model.preproc_out_dir=new model.encoder_tokenizer.tokenizer_model=null", CONFIG,
     "model.encoder_tokenizer.vocab_size has no value"),
    ("enc_dec_nmt.py", f"{PLAIN} model.preproc_out_dir=train.de", CONFIG, "model.preproc_out_dir=train.de: this is a file"),
    ("enc_dec_nmt.py", f"{PLAIN} model.preproc_out_dir=3", CONFIG, "model.preproc_out_dir=3: must be"),
    ("enc_dec_nmt.py", f"{PLAIN} model.optim.name=adamm", CONFIG, "model.optim.name=adamm: must be"),
    ("enc_dec_nmt.py", f"{PLAIN} model.optim.sched.name=Cosine", CONFIG, "model.optim.sched.name=Cosine: must be"),
    ("enc_dec_nmt.py", f"-m {PLAIN} seed=0,1", CONFIG, "the trainings of a sweep would share it"),
    ("enc_dec_nmt_distill.py", f"-m {DISTIL} model.distillation.temperature=1,2", CONFIG, "would share it; leave"),
]  # fmt: skip
PREPARE = "source=train.de target=train.en output=new tokenizer.vocab_size=60"
PREPARING = [
    ("prepare.py", "source=train.de target=train.en output=new", CONFIG, "tokenizer.vocab_size has no value; give it"),
    ("prepare.py", f"{PREPARE} target=empty.de", CONFIG, "target names 'empty.de', which is empty."),
    ("prepare.py", f"{PREPARE} source=nowhere.de", CONFIG, "source names 'nowhere.de', which does not exist."),
    ("prepare.py", f"{PREPARE} tokenizer.tokenizer_model=plain.model", CONFIG, "'plain.model' is not a sentencepiece"),
    ("prepare.py", f"{PREPARE} output=train.en", CONFIG, "output=train.en: this is a file; give a folder."),
    ("prepare.py", f"{PREPARE} tokens_in_batch=0", CONFIG, "tokens_in_batch=0: must be a whole number of at least 1."),
]
CACHES = [
    ("cache_teacher.py", f"{CACHE} cache.k=0", CONFIG, "cache.k=0: must be"),
    ("cache_teacher.py", f"{CACHE} cache.dtype=int8", CONFIG, "cache.dtype=int8: must be one of float16, float32"),
    ("cache_teacher.py", f"{CACHE} cache.k=all", CONFIG, "cache.k=all: must be"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=null", CONFIG, "teacher_cache has no value"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=cache", CONFIG, "'cache' holds a teacher cache"),
    ("cache_teacher.py", f"{CACHE} model.distillation.teacher_cache=taken.en", CONFIG, "'taken.en' is a file"),
    ("cache_teacher.py", f"{CACHE} model.distillation.model_path=[a.nemo,b.nemo]", CONFIG, "one teacher's .nemo or folder."),
    ("cache_teacher.py", f"{CACHE} {SOURCE}=line_separator.de", CONFIG, "holds U+2028 (line separator)"),
]  # fmt: skip
LABELLING = [
    ("generate_pseudo_labels.py", "", CONFIG, "model has no value"),
    ("generate_pseudo_labels.py", f"{LABELS} source=nowhere.de", CONFIG, "source names 'nowhere.de', which does not"),
    ("generate_pseudo_labels.py", f"{LABELS} source=empty.de", CONFIG, "source names 'empty.de', which is empty."),
    ("generate_pseudo_labels.py", f"{LABELS} source=torn.de.gz", CONFIG, "'torn.de.gz' cannot be unpacked after line"),
    ("generate_pseudo_labels.py", f"{LABELS} engine=nemmo", CONFIG, "engine=nemmo: must be one of nemo_distill,"),
    ("generate_pseudo_labels.py", f"{LABELS} devices=0", CONFIG, "devices=0: must be"),
    ("generate_pseudo_labels.py", f"{LABELS} model=speech.nemo", CONFIG, "'speech.nemo' holds a 'nemo.collections.asr.models.EncDecCTCModel'"),
    ("generate_pseudo_labels.py", f"{LABELS} engine=ctranslate2 model=folder", CONFIG, "'folder' is not an export"),
    ("generate_pseudo_labels.py", f"{LABELS} engine=file model=short.de filters=null", CONFIG, "model has 39 lines"),
    ("generate_pseudo_labels.py", f"{LABELS} search.beam_size=0", CONFIG, "search.beam_size=0: must be"),
    ("generate_pseudo_labels.py", f"{LABELS} output_dir=labels", CONFIG, "'labels' holds labels"),
    ("generate_pseudo_labels.py", f"{LABELS} output_dir=taken.en", CONFIG, "'taken.en' is a file"),
    ("generate_pseudo_labels.py", f"{LABELS} selection=interpolation", CONFIG, "but reference names no file."),
    ("generate_pseudo_labels.py", f"{LABELS} filters.length_ratio=wide", CONFIG, "filters.length_ratio=wide: must be"),
    ("generate_pseudo_labels.py", f"{LABELS} reading.invalid_utf8=guess", CONFIG, "reading.invalid_utf8=guess: must be one of skip, replace"),
    ("generate_pseudo_labels.py", f"{LABELS} engine=file model=short.de", CONFIG, "model has 39 lines, and source has"),
]  # fmt: skip
MIXING = [
    ("mix_corpora.py", f"{MIX} output=.", CONFIG, "output=.: must be what the names of files begin with."),
    ("mix_corpora.py", f"{MIX} corpora.real.share=-1", CONFIG, "corpora.real.share=-1: must be"),
    ("mix_corpora.py", f"{MIX} corpora.real.share=nan", CONFIG, "corpora.real.share=nan: must be"),
    ("mix_corpora.py", f"{MIX} corpora.real.source=short.de", DATA, "'train.en' has more lines than 'short.de'"),
    ("mix_corpora.py", f"{MIX} corpora.real.source=torn.de.gz", CONFIG, "'torn.de.gz' cannot be unpacked after line"),
    ("mix_corpora.py", f"{MIX} output=mixed corpora.real.source=mixed.src", CONFIG, "would overwrite 'mixed.src'."),
    ("mix_corpora.py", f"{MIX} output=mixed", CONFIG, "'mixed.src' is there, and no record of a mix"),
    ("mix_corpora.py", f"{MIX} base=mono", CONFIG, "base=mono: must be null or one of real, pseudo."),
    ("mix_corpora.py", f"{MIX} reading.max_characters=1", DATA, "corpora.real has no usable pair."),
]  # fmt: skip
USES = [
    ("translate.py", f"{TRANSLATE} input=nowhere.de", CONFIG, "input names 'nowhere.de', which does not exist."),
    ("translate.py", f"{TRANSLATE} output=taken.en", CONFIG, "output names 'taken.en', which exists; set overwrite"),
    ("translate.py", f"{TRANSLATE} output=nowhere/new.en", CONFIG, "output names 'nowhere/new.en', but there is no"),
    ("translate.py", f"{TRANSLATE} model=speech.nemo", CONFIG, "'speech.nemo' holds a 'nemo.collections.asr.models.EncDecCTCModel'"),
    ("translate.py", f"{TRANSLATE} output=2024/new.en", CONFIG, "output names '2024/new.en', but there is no"),
    ("translate.py", f"{TRANSLATE} model=text.nemo", CONFIG, "'text.nemo' is not a .nemo file"),
    ("translate.py", f"{TRANSLATE} device=gpu", CONFIG, "device=gpu: must be cpu, cuda,"),
    ("translate.py", f"{TRANSLATE} chunk=0", CONFIG, "chunk=0: must be"),
    ("translate.py", f"{TRANSLATE} search.n_best=9", CONFIG, "search.n_best=9: must be"),
    ("translate.py", f"{TRANSLATE} input=torn.de.gz", CONFIG, "'torn.de.gz' cannot be unpacked after line"),
    ("export.py", "model=teacher.nemo output=folder", CONFIG, "output='folder' already exists; choose another"),
    ("export.py", "model=teacher.nemo output=folder force=true", CONFIG, "is not an earlier export"),
    ("export.py", "model=teacher.nemo output=new quantization=int3", CONFIG, "quantization=int3: must be one of"),
    ("export.py", "model=nowhere.nemo output=new", CONFIG, "model=nowhere.nemo: there is no file"),
    ("export.py", "model=speech.nemo output=new", CONFIG, "EncDecCTCModel"),
    ("evaluate.py", f"{EVALUATE} +models.b=nowhere.nemo", CONFIG, "model names 'nowhere.nemo', which does not exist."),
    ("evaluate.py", f"{EVALUATE} '+models.b={{model: teacher.nemo, engine: auto}}'", CONFIG, "models.b.engine=auto: an evaluation compares"),
    ("evaluate.py", f"{EVALUATE} metrics=[BLUE]", CONFIG, "metrics[0]=BLUE: must be one of BLEU, chrF"),
    ("evaluate.py", "output_dir=new", CONFIG, "models is empty: give at least one"),
    ("evaluate.py", f"{EVALUATE} '+test_sets.u={{source: short.de, reference: train.en}}'", CONFIG, "be parallel."),
    ("evaluate.py", f"{EVALUATE} '+test_sets.u={{sacrebleu: wmt41, pair: de-en}}'", CONFIG, "wmt41: sacrebleu knows"),
    ("evaluate.py", f"{EVALUATE} significance.baselines=[b]", CONFIG, "significance.baselines names 'b'; models has a."),
    ("evaluate.py", f"{EVALUATE} significance=bootstrap", CONFIG, "significance=bootstrap: must be a section with"),
    ("evaluate.py", "models=teacher.nemo", CONFIG, "models=teacher.nemo: must be a section"),
    ("evaluate.py", "+models.a=teacher.nemo test_sets=val.de", CONFIG, "test_sets=val.de: must be a section"),
    ("size_student.py", "teacher=teacher.nemo target=10000", CONFIG, "target=10000: must be a section with"),
    ("size_student.py", "teacher=teacher.nemo target.hours=9", CONFIG, "target.hours=9.0: needs a recipe; give recipe.source"),
    ("size_student.py", "teacher=teacher.nemo recipe.source=train.de", CONFIG, "recipe.distill: trainer.max_steps has no value"),
    ("size_student.py", "teacher=teacher.nemo recipe.source=train.de recipe.target=short.de", CONFIG, "recipe.target"),
    ("size_student.py", "teacher=text.nemo target.parameters=9", CONFIG, "'text.nemo' is not a .nemo file"),
    ("size_student.py", "teacher=without_tokenizer.nemo target.parameters=9", CONFIG, "has no member 'tokenizer.model'"),
    ("model_card.py", "model=nowhere.nemo", CONFIG, "there is no file 'nowhere.nemo'."),
    ("model_card.py", "model=teacher.nemo output=taken.en", CONFIG, "output names 'taken.en', which exists"),
    ("model_card.py", "model=teacher.nemo run=folder output=new.md", CONFIG, "there is no run.json in 'folder'"),
    ("model_card.py", "model=teacher.nemo evaluation=list.json output=new.md", CONFIG, "'list.json' cannot be read: input should be an object"),
    ("model_card.py", "model=teacher.nemo evaluation=torn.json output=new.md", CONFIG, "'torn.json' cannot be read"),
    ("report.py", "output_dir=new", CONFIG, "runs, evaluation and explanation have no value"),
    ("report.py", "output_dir=new explanation=folder", CONFIG, "'folder' holds no explanation.json"),
    ("explain.py", f"{EXPLAIN} model=text.nemo", CONFIG, "'text.nemo' is not a .nemo file"),
    ("explain.py", f"{EXPLAIN} train.source=short.de", CONFIG, "'short.de' has 39 lines and 'train.en' has 40; they must be"),
    ("explain.py", f"{EXPLAIN} teacher='{{translations: test.en}}'", CONFIG, "teacher.translations: the teacher has to"),
    ("explain.py", f"{EXPLAIN} export=folder", CONFIG, "'folder' is not an export"),
    ("explain.py", f"{EXPLAIN} search.length_penalty=1.0", CONFIG, "search.length_penalty_form=wu: CTranslate2 supports only"),
    ("report.py", "output_dir=new runs=nowhere", CONFIG, "runs names 'nowhere', which is no folder."),
    ("report.py", "output_dir=new runs=2024", CONFIG, "runs=2024: must be null or a path"),
    ("report.py", "output_dir=new runs=folder curves=val_loss", CONFIG, "curves=val_loss: must be a list"),
    ("report.py", "output_dir=new runs=folder", DATA, "'folder' holds no training"),
    ("report.py", "output_dir=new runs=runs", DATA, "run.json' cannot be read"),
    ("report.py", "output_dir=new evaluation=evaluation metric=COMET", CONFIG, "metric=COMET: must be one of BLEU."),
    ("report.py", "output_dir=new evaluation=evaluation baseline=b", DATA, "baseline=b: must be one of a"),
    ("demo_server.py", "port=0 +models.a=teacher.nemo", CONFIG, "port=0: must be"),
    ("demo_server.py", "port=http +models.a=teacher.nemo", CONFIG, "port=http: must be"),
    ("demo_server.py", "", CONFIG, "models={}: must be a section with at least one model"),
    ("demo_server.py", "models=teacher.nemo", CONFIG, "models=teacher.nemo: must be a section with at least one model, such as '+models.student="),
    ("compare_students.py", "--config-name=pipeline", CONFIG, "corpus.monolingual has no value; give it."),
    ("compare_students.py", f"{PIPELINE} teacher=nowhere.nemo", CONFIG, "teacher names 'nowhere.nemo'"),
    ("compare_students.py", f"{PIPELINE} corpus.folder=folder", CONFIG, "corpus.folder=folder lacks folder/train.de"),
    ("compare_students.py", f"{COMPARE} +methods.baseline=[]", CONFIG, "another model of the comparison has this name"),
    ("compare_students.py", f"{COMPARE} seeds=[]", CONFIG, "seeds=[]: must be"),
    ("study/study.py", "corpus.folder=. '~experiments.triple'", CONFIG, "'experiments.triple.methods.wide_nll_init'"),
    ("study/study.py", "output_dir=new corpus.folder=. report_only=true", CONFIG, "output_dir=new holds no trained teacher."),
]  # fmt: skip
CASES = [
    *KEYS, *OBJECTIVES, *TEACHERS, *TEXT, *BASELINES, *PREPARING, *CACHES, *LABELLING, *MIXING, *USES,
]  # fmt: skip
