"""Kinds of models and tokenizers, and the jobs that take them: each works, or is refused before NeMo is imported."""

import shlex
import sys
from functools import partial

import pytest
import sentencepiece
from omegaconf import OmegaConf

from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.evaluate import evaluation_job
from nemo_distill.commands.export import ExportConfig
from nemo_distill.commands.generate_pseudo_labels import check_labelling
from nemo_distill.commands.training_check import check_distillation_job, check_training
from nemo_distill.commands.translate import TranslationConfig
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from tests.conftest import composed
from tests.examples.bad_files import MODEL, write_nemo

NLP = "nemo.collections.nlp.models.machine_translation"
LEGACY = {f"{side}_tokenizer": {"sentencepiece_legacy": True} for side in ("encoder", "decoder")}
BERT = {
    "library": "huggingface", "_target_": "transformers.BertConfig", "hidden_size": 16, "num_attention_heads": 2,
    "num_hidden_layers": 1, "num_layers": None, "inner_size": None,
}  # fmt: skip
BOTH = ("encoder", "decoder")
# What is different in the config of a tiny bilingual model.
KINDS = {
    "plain": {},
    "many_to_one": {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"},
    "one_to_many": {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"], **LEGACY},
    "many_to_many": {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": ["en", "fr"], **LEGACY},
    "twice_the_same": {"multilingual": True, "src_language": "de", "tgt_language": ["en", "en"], **LEGACY},
    "tags_without_legacy": {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"]},
    "tags_in_yttm": {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"],
                     **{f"{side}_tokenizer": {"library": "yttm"} for side in BOTH}},
    "list_of_a_bilingual": {"tgt_language": ["en", "fr"]},
    "perceiver": {"encoder": {"arch": "perceiver", "hidden_steps": 2}},
    "max_pool": {"encoder": {"arch": "max_pool", "hidden_steps": 2}},
    "bridge": {"encoder": {"arch": "bridge", "hidden_steps": 2}},
    "seq2seq": {"encoder": {"arch": "seq2seq", "return_mask": False}},
    "seq2seq_with_mask": {"encoder": {"arch": "seq2seq"}},
    "bottleneck": {"target": f"{NLP}.mt_enc_dec_bottleneck_model.MTBottleneckModel"},
    "before_1_0": {"encoder_embedding": {"hidden_size": 16}, "decoder_embedding": {"hidden_size": 16}},
    "beta": {"target": f"{NLP}.transformer_mt_model.TransformerMTModel"},
    "named_by_tokenizer_name": {f"{side}_tokenizer": {"library": None, "tokenizer_name": "sentencepiece"} for side in BOTH},
    "without_sizes": {"encoder": {"hidden_size": None}},
    "bert": {"encoder": BERT},
    "bert_of_the_hub": {"encoder": {"library": "huggingface", "model_name": "bert-base-cased", "pretrained": True}},
    "bert_of_nothing": {"encoder": {"library": "huggingface"}},
    "gpt_decoder": {"decoder": {"library": "huggingface", "model_name": "gpt2"}},
    "megatron": {"encoder": {"library": "megatron", "model_name": "megatron-bert-345m-cased"}},
    "byte_level": {f"{side}_tokenizer": {"library": "byte-level", "tokenizer_model": None} for side in BOTH},
    "auto_tokenizer": {"encoder_tokenizer": {"library": "huggingface", "tokenizer_model": None}},
}  # fmt: skip
TORN, DEFAULT_FLAGS, NO_START, NO_TOKENIZER = "torn", "default_flags", "no_start", "no_tokenizer"


@pytest.fixture(scope="module")
def folder(corpus, tokenizer, tmp_path_factory):
    """A `.nemo` of each kind, and of each faulty tokenizer; and these tokenizers."""
    path = tmp_path_factory.mktemp("kinds")
    good = tokenizer.read_bytes()
    for name, change in KINDS.items():
        write_nemo(path / f"{name}.nemo", OmegaConf.to_container(OmegaConf.merge(MODEL, change)), good)
    (path / f"{TORN}.model").write_bytes(good[: len(good) // 2])
    for name, flags in ((DEFAULT_FLAGS, {}), (NO_START, {"pad_id": 3, "bos_id": -1})):
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus / "both.txt"), model_prefix=str(path / name), vocab_size=60, model_type="bpe",
            hard_vocab_limit=False, minloglevel=2, **flags,
        )  # fmt: skip
    for name in (TORN, DEFAULT_FLAGS, NO_START):
        write_nemo(path / f"{name}.nemo", MODEL, (path / f"{name}.model").read_bytes())
    write_nemo(path / f"{DEFAULT_FLAGS}_legacy.nemo", OmegaConf.to_container(OmegaConf.merge(MODEL, LEGACY)),
               (path / f"{DEFAULT_FLAGS}.model").read_bytes())  # fmt: skip
    write_nemo(path / f"{NO_TOKENIZER}.nemo", MODEL)
    return path


FILES = [f"model.{section}.{side}_file_name=CORPUS/{name}.{end}" for section, name in (("train_ds", "train"), ("validation_ds", "val")) for side, end in (("src", "de"), ("tgt", "en"))]  # fmt: skip
TWO_FILES = " ".join(f"model.{section}.{side}_file_name=[CORPUS/{name}.{end},CORPUS/test.{end}]" for section, name in (("train_ds", "train"), ("validation_ds", "val")) for side, end in (("src", "de"), ("tgt", "en")))  # fmt: skip
TOKENIZERS = [f"model.{side}_tokenizer.tokenizer_model=TOKENIZER" for side in BOTH]
OWN_TOKENIZERS = [f"model.{side}_tokenizer.tokenizer_model=MODEL" for side in BOTH]
JOBS = {
    "distill": (check_distillation_job, "aayn_base_distill", [*FILES, "~model.test_ds", "model.distillation.model_path=MODEL"]),
    "train": (check_training, "aayn_base", [*FILES, "~model.test_ds", *TOKENIZERS]),
    "tokenize": (check_training, "aayn_base", [*FILES, "~model.test_ds", *OWN_TOKENIZERS]),
    "start": (check_training, "aayn_base", [*FILES, "~model.test_ds", *TOKENIZERS, "init_from_nemo_model=MODEL"]),
    "cache": (check_caching, "cache_teacher", [*FILES[:2], "model.distillation.model_path=MODEL", "model.distillation.teacher_cache=NEW", "cache.k=8"]),
    "translate": (partial(read_config, TranslationConfig), "translate", ["model=MODEL", "input=CORPUS/val.de"]),
    "label": (check_labelling, "generate_pseudo_labels", ["model=MODEL", "source=CORPUS/val.de", "output_dir=NEW"]),
    "evaluate": (evaluation_job, "evaluate", ["+models.a=MODEL", "output_dir=NEW", "+test_sets.t={source: CORPUS/val.de, reference: CORPUS/val.en}"]),
    "export": (partial(read_config, ExportConfig), "export", ["model=MODEL", "output=NEW"]),
}  # fmt: skip
# The first two open a model in the two ways that there are; the others do it as one of these.
TAKING_ANY = ("distill", "translate", "cache", "label", "evaluate")
BILINGUAL = "model.src_language=de model.tgt_language=fr"
GOOD = None
CASES = [
    # multilingual teachers and students
    ("many_to_one", "distill", "model.src_language=nl", GOOD),
    ("many_to_one", "distill", "model.src_language=ignore", GOOD),
    ("many_to_one", "distill", "", "model.src_language=None: must be one of de, nl"),
    ("many_to_one", "distill", "model.src_language=pl", "model.src_language=pl: must be one of de, nl"),
    ("many_to_one", "distill", f"model.multilingual=true {TWO_FILES}", GOOD),
    ("many_to_one", "distill", "model.multilingual=true", "model.train_ds.src_file_name has 1 files and model.src_language has 2"),
    ("many_to_one", "cache", "model.src_language=de", GOOD),
    ("plain", "cache", "'model.distillation.teacher_cache=\"~no_such_user/cache\"'", GOOD),
    ("many_to_one", "cache", "model.src_language=pl", "model.src_language=pl: must be one of de, nl"),
    ("many_to_one", "translate", "", "source_language has no value: the model is multilingual and knows de, nl."),
    ("many_to_one", "translate", "source_language=nl", GOOD),
    ("many_to_one", "translate", "source_language=nl target_language=en", GOOD),
    ("many_to_one", "translate", "source_language=nl target_language=fr", "target_language=fr: the model knows en."),
    ("one_to_many", "distill", BILINGUAL, GOOD),
    ("one_to_many", "distill", "", "model.tgt_language=None: must be one of en, fr"),
    ("one_to_many", "distill", "model.tgt_language=ignore", "model.tgt_language=ignore: must be one of en, fr"),
    ("one_to_many", "distill", f"{BILINGUAL} model.distillation.share_encoder=true", "model.distillation.share_encoder"),
    ("one_to_many", "distill", f"model.multilingual=true {TWO_FILES}", GOOD),
    ("one_to_many", "distill", f"model.multilingual=true {TWO_FILES} model.tgt_language=[fr,en]", "model.tgt_language=['fr', 'en']: must be the teacher's"),
    ("one_to_many", "distill", f"model.multilingual=true {TWO_FILES} '+model.distillation.mix.corpora.real={{share: 1}}'", "model.distillation.mix.corpora"),
    ("one_to_many", "cache", "model.tgt_language=en", GOOD),
    ("one_to_many", "cache", "", "model.tgt_language=None: must be one of en, fr"),
    ("one_to_many", "label", "target_language=fr", GOOD),
    ("one_to_many", "label", "", "target_language has no value: the model is multilingual and knows en, fr."),
    ("one_to_many", "label", "target_language=pl", "target_language=pl: the model knows en, fr."),
    ("one_to_many", "evaluate", "", "models.a.target_language has no value"),
    ("one_to_many", "evaluate", "'models.a={model: MODEL, target_language: fr}'", GOOD),
    ("one_to_many", "evaluate", "'models.a={model: MODEL, target_language: pl}'", "models.a.target_language=pl: the model knows en, fr."),
    ("one_to_many", "translate", "target_language=fr engine=nemo search.beam_size=4", GOOD),
    ("one_to_many", "translate", "target_language=fr engine=ctranslate2", "multilingual=true: CTranslate2 would not add"),
    ("one_to_many", "export", "", "multilingual=true: CTranslate2 would not add"),
    ("plain", "distill", "model.multilingual=true model.tgt_language=[en,fr]", "model.multilingual=true, but the teacher is bilingual"),
    ("plain", "distill", "model.tgt_language=[en,fr]", "model.tgt_language=['en', 'fr']: several languages need model.multilingual=true"),
    ("plain", "translate", "source_language=de", "source_language=de: this model has no languages to choose from"),
    ("plain", "label", "target_language=en", "target_language=en: this model has no languages to choose from"),
    ("plain", "evaluate", "'models.a={model: MODEL, source_language: de}'", "models.a.source_language=de: this model has no languages to choose from"),
    ("plain", "train", "model.multilingual=true", "model.multilingual=true: one of model.src_language and model.tgt_language must be a list"),
    ("plain", "train", f"model.multilingual=true model.src_language=[de,nl] {TWO_FILES}", GOOD),
    ("plain", "train", f"model.multilingual=true model.tgt_language=[en,fr] {TWO_FILES}", "model.encoder_tokenizer.sentencepiece_legacy=False"),
    ("plain", "train", "model.src_language=[de,nl]", "model.src_language=['de', 'nl']: several languages need"),
    *((kind, job, "", said) for kind, said in (
        ("many_to_many", "multilingual=true: one of src_language and tgt_language must be a list"),
        ("twice_the_same", "tgt_language=['en', 'en']: NeMo needs different languages"),
        ("tags_without_legacy", "encoder_tokenizer.sentencepiece_legacy=None"),
        ("tags_in_yttm", "encoder_tokenizer.library=yttm: cannot have language tags"),
        ("list_of_a_bilingual", "tgt_language=['en', 'fr']: several languages need multilingual=true"),
        # encoders of another kind, and old models
        ("perceiver", "encoder.arch=perceiver"), ("max_pool", "encoder.arch=max_pool"), ("bridge", "encoder.arch=bridge"),
        ("seq2seq_with_mask", "encoder.arch=seq2seq"),
        ("bottleneck", "holds a 'nemo.collections.nlp.models.machine_translation.mt_enc_dec_bottleneck_model.MTBottleneckModel'"),
        ("before_1_0", "encoder_embedding: NeMo before 1.0"), ("beta", "TransformerMTModel' instead of an MTEncDecModel"),
        ("without_sizes", "encoder has no hidden_size"),
        ("bert_of_the_hub", "encoder.model_name=bert-base-cased: NeMo would download it"),
        ("bert_of_nothing", "encoder.library=huggingface needs encoder._target_"),
        ("gpt_decoder", "decoder.library=huggingface: NeMo cannot search with such a decoder"),
        ("megatron", "encoder.library=megatron: NeMo has not supported"),
        ("byte_level", "encoder_tokenizer.library=byte-level"), ("auto_tokenizer", "encoder_tokenizer.library=huggingface"),
        # tokenizers in a .nemo
        (TORN, "torn.nemo' holds a damaged tokenizer"),
        (DEFAULT_FLAGS, "default_flags.nemo' holds encoder_tokenizer without pad_id=-1"),
        (NO_START, "no_start.nemo' holds encoder_tokenizer without bos_id=-1"),
        (NO_TOKENIZER, "has no member 'tokenizer.model'"),
    ) for job in (TAKING_ANY if kind in ("many_to_many", TORN) else TAKING_ANY[:2])),
    ("seq2seq", "distill", "", GOOD), ("seq2seq", "translate", "", GOOD),
    ("named_by_tokenizer_name", "distill", "", GOOD), ("named_by_tokenizer_name", "translate", "", GOOD),
    ("bert", "distill", "", GOOD), ("bert", "translate", "", GOOD), ("bert", "cache", "", GOOD),
    ("bert", "distill", "distillation=attention +model.distillation.loss.primary.attention_maps=encoder_self_attention", "does not register"),
    ("bert", "distill", "model.distillation.distilbert_initialization=true student=self", "library=huggingface"),
    (f"{DEFAULT_FLAGS}_legacy", "distill", "", GOOD), (f"{DEFAULT_FLAGS}_legacy", "translate", "", GOOD),
    # tokenizers and models of a training's own
    *((name, "tokenize", "", said) for name, said in (
        (TORN, "tokenizer_model: 'MODEL' is not a sentencepiece"), (DEFAULT_FLAGS, "'MODEL' has pad_id=-1"),
        (NO_START, "'MODEL' has bos_id=-1"),
    )),
    (DEFAULT_FLAGS, "tokenize", " ".join(f"model.{side}_tokenizer.sentencepiece_legacy=true" for side in BOTH), GOOD),
    ("plain", "train", "model.encoder_tokenizer.library=byte-level", "model.encoder_tokenizer.library=byte-level"),
    ("plain", "train", "model.encoder_tokenizer.library=huggingface", "model.encoder_tokenizer.library=huggingface"),
    ("plain", "train", "model.encoder.library=megatron", "model.encoder.library=megatron"),
    ("plain", "train", "+model.encoder.arch=perceiver", "model.encoder.arch=perceiver"),
    ("plain", "distill", "+model.encoder.arch=max_pool", "model.encoder.arch=max_pool"),
    ("plain", "train", "model.encoder.library=huggingface model.encoder.model_name=bert-base-cased", "model.encoder.model_name=bert-base-cased"),
    ("plain", "train", "model.encoder_tokenizer.bpe_dropout=0.1", "model.encoder_tokenizer.bpe_dropout=0.1: NeMo does this only with youtokentome"),
    ("plain", "train", "model.decoder_tokenizer.r2l=true", "model.decoder_tokenizer.r2l=true: only youtokentome tokenizers"),
    ("plain", "distill", "model.decoder_tokenizer.bpe_dropout=0.1", "model.decoder_tokenizer.bpe_dropout=0.1 has no effect"),
    ("plain", "distill", "model.encoder_tokenizer.sentencepiece_legacy=true", "model.encoder_tokenizer.sentencepiece_legacy=True has no effect"),
    ("one_to_many", "start", "", "has multilingual=True"),
    ("perceiver", "start", "", "encoder.arch=perceiver"),
    ("perceiver", "export", "", "encoder.arch=perceiver"),
]  # fmt: skip


@pytest.mark.parametrize("kind, name, overrides, said", CASES)
def test_each_kind_is_taken_or_refused_in_one_sentence(
    folder, corpus, tokenizer, tmp_path, kind, name, overrides, said
):
    check, config, needed = JOBS[name]
    model = folder / (f"{kind}.model" if name == "tokenize" else f"{kind}.nemo")
    names = {"MODEL": model, "CORPUS": corpus, "TOKENIZER": tokenizer, "NEW": tmp_path / "new"}

    def named(text):
        for key, path in names.items():
            text = text.replace(key, str(path))
        return text

    arguments = [*needed, *shlex.split(overrides)]
    cfg = composed(config, *map(named, arguments))
    imported = NLP in sys.modules  # by another test
    if said is GOOD:
        check(cfg)
        assert (NLP in sys.modules) == imported
        return
    with pytest.raises(ConfigurationError) as error:
        check(cfg)
    assert any(named(said) in problem for problem in error.value.problems), error.value
    assert not (tmp_path / "new").exists() and (NLP in sys.modules) == imported
