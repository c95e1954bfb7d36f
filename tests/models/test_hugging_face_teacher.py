"""Models of Hugging Face as teachers, beside `transformers` itself."""

import pytest
import torch

from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher
from tests.models.hugging_face_folders import FAMILIES, pieces, write_folder

CODES = {"nllb": ("deu_Latn", "eng_Latn"), "m2m_100": ("de", "en"), "mbart": ("de_DE", "en_XX")}
CODES["mbart_50"] = CODES["mbart"]
LINES = 6


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, corpus, tmp_path_factory):
    return write_folder(family, tmp_path_factory.mktemp("folders") / family, corpus)


@pytest.fixture(scope="module")
def teacher(folder, family):
    return HuggingFaceTeacher(folder, FAMILIES[family])


def lines(corpus):
    """Some pairs, one of them with characters that no tokenizer knows."""
    source, target = ((corpus / f"train.{side}").read_text().splitlines()[:LINES] for side in ("de", "en"))
    return [*source, "Hund ☃ rot"], [*target, "dog ☃ red"]


def student_batch(teacher, corpus):
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    tokenizers = {"encoder_tokenizer": teacher.encoder_tokenizer, "decoder_tokenizer": teacher.decoder_tokenizer}
    (src, src_mask), (tgt, tgt_mask) = (
        MTEncDecModel.prepare_inference_batch(text, target=target, **tokenizers)
        for text, target in zip(lines(corpus), (False, True))
    )
    return src, src_mask, tgt[:, :-1], tgt_mask[:, :-1], tgt[:, 1:]


@torch.no_grad()
def expected_log_probs(folder, family, source, target):
    """What `transformers` gives for one pair, encoded by its own tokenizer as for a training (T, V)."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder, use_fast=False),
        AutoModelForSeq2SeqLM.from_pretrained(folder),
    )
    if family in CODES:
        tokenizer.src_lang, tokenizer.tgt_lang = CODES[family]
    source = f">>fra<< {source}" if "tags" in family else source
    encoded = tokenizer(source, text_target=target, return_tensors="pt")
    if family in ("nllb", "m2m_100"):
        start = shift_tokens_right(encoded["labels"], tokenizer.pad_token_id, model.config.decoder_start_token_id)
    else:
        start = model.prepare_decoder_input_ids_from_labels(encoded["labels"])
    logits = model(encoded["input_ids"], decoder_input_ids=start).logits[0]
    of_text = {"mbart": slice(None, -1), "mbart_50": slice(1, None)}  # without the position that gives a language
    kept = slice(1, None) if family in ("nllb", "m2m_100") else of_text.get(family, slice(None))
    known = tokenizer.target_encoder if "two" in family else tokenizer.get_vocab()
    logits[:, known["<pad>"]] = -torch.inf  # never generated
    return logits.log_softmax(-1)[kept], known


def test_log_probs_are_those_of_transformers(teacher, folder, family, corpus):
    *batch, labels = student_batch(teacher, corpus)
    found = teacher(*batch)
    assert found.shape == (LINES + 1, labels.shape[1], teacher.decoder_tokenizer.vocab_size)
    for row, pair in enumerate(zip(*lines(corpus))):
        expected, known = expected_log_probs(folder, family, *pair)
        length = int((labels[row] != teacher.decoder_tokenizer.pad_id).sum())
        assert length == len(expected)
        ids, columns = zip(*(
            (index, known[piece])
            for index, piece in enumerate(teacher.vocabularies()["decoder"].pieces)
            if piece in known and piece != "<pad>"
        ))  # fmt: skip
        own = found[row, :length]
        others = sorted(set(range(found.shape[-1])) - set(ids))
        if others:
            torch.testing.assert_close(own[:, ids], expected[:, columns], rtol=0, atol=2e-5)
            rest = 1 - expected[:, columns].exp().sum(-1, keepdim=True)
            torch.testing.assert_close(own[:, others].exp(), (rest / len(others)).expand(-1, len(others)))
        else:  # no word is left for the tail
            torch.testing.assert_close(own, expected[:, columns].log_softmax(-1), rtol=0, atol=2e-5)
