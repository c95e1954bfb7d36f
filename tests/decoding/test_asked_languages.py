"""Languages that are asked of multilingual models, each family with its own way to be told them."""

import json

import pytest
import sentencepiece
import torch

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.asked_languages import nemo_languages
from nemo_distill.decoding.engines import engine_problems, load_engine, written_language
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import WORDS
from tests.decoding.test_hugging_face_engine import write_model

GREEDY = SearchSettings(beam_size=1, length_penalty=0.0, max_delta=3)
SIZE = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32, "init_std": 0.7}  # fmt: skip
TASKS = {
    "translation_en_to_de": {"prefix": "translate English to German: "},
    "translation_en_to_fr": {"prefix": "translate English to French: "},
    "summarization": {"prefix": "summarize: "},
}


def words_file(folder, *others):
    """A tokenizer of words, with `others`, in a file from which the fast tokenizers are made."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *WORDS, *WORDS.values(), *others]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder.mkdir()
    tokenizer.save(str(folder / "words.json"))
    return str(folder / "words.json")


def save(folder, tokenizer, model_class, config):
    torch.manual_seed(0)
    tokenizer.save_pretrained(folder)
    model_class(config).save_pretrained(folder)
    return folder


def write_nllb(folder):
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizerFast

    tokenizer = NllbTokenizerFast(tokenizer_file=words_file(folder))
    config = M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, **SIZE)
    return save(folder, tokenizer, M2M100ForConditionalGeneration, config)


def write_mbart(folder):
    from transformers import MBart50TokenizerFast, MBartConfig, MBartForConditionalGeneration

    tokenizer = MBart50TokenizerFast(tokenizer_file=words_file(folder))
    config = MBartConfig(vocab_size=len(tokenizer), decoder_start_token_id=2, forced_eos_token_id=None, **SIZE)
    return save(folder, tokenizer, MBartForConditionalGeneration, config)


def write_t5(folder, *others, **options):
    from transformers import T5Config, T5ForConditionalGeneration, T5TokenizerFast

    tokenizer = T5TokenizerFast(tokenizer_file=words_file(folder, *others), extra_ids=0)
    size = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(
        vocab_size=len(tokenizer), pad_token_id=1, eos_token_id=2, decoder_start_token_id=1, **size, **options
    )
    return save(folder, tokenizer, T5ForConditionalGeneration, config)


def write_opus(folder, spm, *tags):
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(spm))
    known = ["</s>", "<unk>", *(pieces.id_to_piece(index) for index in range(4, pieces.vocab_size())), *tags, "<pad>"]
    folder.mkdir()
    vocabulary = {piece: index for index, piece in enumerate(known)}
    (folder / "own.json").write_text(json.dumps(vocabulary))
    tokenizer = MarianTokenizer(str(spm), str(spm), str(folder / "own.json"))
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(known),
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        **SIZE,
    )
    return save(folder, tokenizer, MarianMTModel, config)


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    return {
        "nllb": write_nllb(folder / "nllb"),
        "mbart": write_mbart(folder / "mbart"),
        "t5": write_t5(folder / "t5", task_specific_params=TASKS),
        "t5_without_tasks": write_t5(folder / "plain"),
        "madlad": write_t5(folder / "madlad", "<2de>", "<2fr>", "<2zh>", "<2pt_BR>"),
        "opus": write_opus(folder / "opus", tokenizer, ">>fra<<", ">>deu<<", ">>cmn_Hans<<", ">>cmn_Hant<<"),
        "opus_bilingual": write_opus(folder / "bilingual", tokenizer),
        "opus_with_one_tag": write_opus(folder / "one", tokenizer, ">>deu<<"),
        "marian_of_words": write_model(folder / "marian"),
    }


ALLOWED = [  # family, languages, what the source begins or ends with, what the translation begins with
    ("nllb", ("deu_Latn", "eng_Latn"), "deu_Latn", "eng_Latn"),
    ("nllb", ("de", "en"), "deu_Latn", "eng_Latn"),
    ("nllb", ("ger", "zh-TW"), "deu_Latn", "zho_Hant"),
    ("nllb", ("sr", "cmn"), "srp_Cyrl", "zho_Hans"),
    ("mbart", ("de_DE", "en_XX"), "de_DE", "en_XX"),
    ("mbart", ("deu", "zh-CN"), "de_DE", "zh_CN"),
    ("t5", ("en", "de"), "translate English to German: ", None),
    ("t5", ("eng_Latn", "fra"), "translate English to French: ", None),
    ("t5", ("ignore", "ignore"), "", None),
    ("t5", (None, "ignore"), "", None),
    ("t5_without_tasks", (None, None), "", None),
    ("t5_without_tasks", ("ignore", "ignore"), "", None),
    ("madlad", (None, "deu"), "<2de> ", None),
    ("madlad", (None, "pt"), "<2pt_BR> ", None),
    ("opus", (None, "fra"), ">>fra<< ", None),
    ("opus", (None, "fr"), ">>fra<< ", None),
    ("opus", (None, "zh"), ">>cmn_Hans<< ", None),
    ("opus", (None, "zho_Hant"), ">>cmn_Hant<< ", None),
    ("opus", (None, "ignore"), "", None),
    ("opus_bilingual", (None, None), "", None),
    ("opus_with_one_tag", (None, None), "", None),
    ("opus_with_one_tag", (None, "de"), ">>deu<< ", None),
    ("marian_of_words", (None, None), "", None),
]
REFUSED = [  # family, languages, what the sentences begin with
    ("nllb", (None, None), ["source_language has no value: the model knows ace_Arab,", "target_language has no value"]),
    ("nllb", ("deu_Latin", "xx"), ["source_language=deu_Latin: is not among the model's 202 codes; the closest is deu_Latn.", "target_language=xx: is not"]),
    ("nllb", ("de", "ignore"), ["target_language=ignore: is not among"]),
    ("mbart", ("de", None), ["target_language has no value: the model knows af_ZA,"]),
    ("mbart", ("de", "bo"), ["target_language=bo: is not among the model's 52 codes"]),
    ("t5", (None, None), ["source_language has no value: the model knows en.", "target_language has no value: the model knows de, fr."]),
    ("t5", ("de", "en"), ["source_language=de: the model knows en.", "target_language=en: the model knows de, fr."]),
    ("t5", ("ignore", "de"), ["source_language=ignore: "]),
    ("t5", ("ignore", "xx"), ["source_language=ignore: ", "target_language=xx: "]),
    ("t5", ("en", "ignore"), ["source_language=en: this model's source has no languages"]),
    ("t5_without_tasks", ("en", "de"), ["source_language=en: this model has no languages", "target_language=de: this model"]),
    ("madlad", (None, None), ["target_language has no value: the model knows de, fr, pt_BR, zh. Set it to ignore"]),
    ("madlad", (None, "pt_PT"), ["target_language=pt_PT: the model knows de, fr, pt_BR, zh."]),
    ("opus", (None, None), ["target_language has no value: the model knows cmn_Hans, cmn_Hant, deu, fra. Set it to ignore"]),
    ("opus", ("en", "fra"), ["source_language=en: this model's source has no languages"]),
    ("opus", (None, "es"), ["target_language=es: the model knows cmn_Hans, cmn_Hant, deu, fra."]),
    ("opus_bilingual", ("en", "de"), ["source_language=en: this model has no languages", "target_language=de: this model"]),
    ("opus_with_one_tag", (None, "fr"), ["target_language=fr: the model knows deu."]),
    ("marian_of_words", (None, "en"), ["target_language=en: this model has no languages to choose from; remove it."]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "languages", "told", "first"), ALLOWED)
def test_a_model_is_told_the_languages_in_its_own_way(folders, family, languages, told, first):
    assert engine_problems("hugging_face", [folders[family]], None, *languages) == []
    engine = load_engine("hugging_face", [folders[family]], "cpu", None, None, *languages)
    ids, _ = engine.read("der Hund")
    if first is None:
        assert engine._before == told
        assert ids == engine.tokenizer(f"{told}der Hund")["input_ids"]
    else:
        assert told in engine.tokenizer.convert_ids_to_tokens(ids)
        assert engine.tokenizer.convert_ids_to_tokens(engine.prompt[1:]) == [first]
    (translation,) = engine.translate(["der Hund"], GREEDY)
    assert translation.hypotheses[0].score < 0 and str(first) not in translation.text.split()


@pytest.mark.parametrize(("family", "languages", "sentences"), REFUSED)
def test_a_language_that_a_model_cannot_use_is_refused_before_it_is_loaded(folders, family, languages, sentences):
    problems = engine_problems("hugging_face", [folders[family]], None, *languages)
    assert [problem.startswith(start) for problem, start in zip(problems, sentences, strict=True)] == [True] * len(
        problems
    )
    with pytest.raises(ConfigurationError) as raised:
        load_engine("hugging_face", [folders[family]], "cpu", None, None, *languages)
    assert raised.value.problems == problems


def test_each_target_language_is_another_translation(folders):
    texts = {
        target: load_engine("hugging_face", [folders["opus"]], target_language=target).translate(["der Hund"], GREEDY)
        for target in ("fra", "deu", "ignore")
    }
    assert len({found[0].hypotheses[0].score for found in texts.values()}) == 3


MANY_TO_ONE = {"multilingual": True, "src_language": ["de", "es", "zh"], "tgt_language": "en"}
ONE_TO_MANY = {"multilingual": True, "src_language": "en", "tgt_language": ["pt_BR", "pt_PT", "fr"]}


@pytest.mark.parametrize(
    ("config", "languages", "chosen"),
    [
        (MANY_TO_ONE, ("de", None), ("de", "en")),
        (MANY_TO_ONE, ("zho_Hans", "eng_Latn"), ("zh", "en")),
        (ONE_TO_MANY, ("en", "fra"), ("en", "fr")),
        (ONE_TO_MANY, (None, "pt_BR"), ("en", "pt_BR")),
    ],
)
def test_a_nemo_model_knows_its_languages_by_any_code(config, languages, chosen):
    assert nemo_languages(config, languages) == (chosen, [])


@pytest.mark.parametrize(
    ("config", "languages", "sentences"),
    [
        ({"src_language": "de"}, ("de", None), ["source_language=de: this model has no languages to choose from; remove it."]),
        (MANY_TO_ONE, (None, None), ["source_language has no value: the model is multilingual and knows de, es, zh."]),
        (MANY_TO_ONE, ("fr", "de"), ["source_language=fr: the model knows de, es, zh.", "target_language=de: the model knows en."]),
        (ONE_TO_MANY, (None, "pt"), ["target_language=pt: the model has several of this language: pt_BR, pt_PT."]),
    ],
)  # fmt: skip
def test_a_nemo_model_refuses_what_it_does_not_know(config, languages, sentences):
    assert nemo_languages(config, languages)[1] == sentences


@pytest.mark.parametrize("name", ["nemo_distill", "nemo", "ctranslate2"])
def test_languages_are_refused_by_every_engine_of_a_model_without_any(teacher_path, name):
    assert engine_problems(name, [teacher_path], None, "de", "en") == [
        "source_language=de: this model has no languages to choose from; remove it.",
        "target_language=en: this model has no languages to choose from; remove it.",
    ]
    assert written_language(teacher_path) is None
