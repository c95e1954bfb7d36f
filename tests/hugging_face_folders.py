"""Folders of tiny Hugging Face models with random weights, and with real tokenizer files of a corpus."""

import json
import logging

import sentencepiece
import torch

# By the name of a kind: the languages to ask for.
FAMILIES = {
    "marian": (None, None),
    "marian_of_two_vocabularies": (None, None),
    "marian_with_tags": (None, "fra"),
    "nllb": ("de", "en"),
    "m2m_100": ("de", "en"),
    "mbart": ("de", "en"),
    "mbart_50": ("de", "en"),
}
SIZE = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 32, "init_std": 0.7,
}  # fmt: skip


def train_pieces(path, *texts, **special):
    """Trains a SentencePiece model with sentencepiece's own special tokens, as the files of these models have."""
    with path.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(map(str, texts)),
            model_writer=stream,
            vocab_size=50,
            hard_vocab_limit=False,
            minloglevel=2,
            **special,
        )
    return [piece for piece in pieces(path) if piece not in ("<unk>", "<s>", "</s>")]


def pieces(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(index) for index in range(model.get_piece_size())]


def write_folder(family, folder, corpus, seed=0):
    """Writes a model of one of `FAMILIES` and its tokenizer to `folder`, and returns it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    folder.mkdir()
    write_tokenizer = _write_marian if family.startswith("marian") else _write_multilingual
    tokenizer = write_tokenizer(family, folder, corpus)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = _model(family, tokenizer)
    if (bias := getattr(model, "final_logits_bias", None)) is not None:
        bias.normal_()
    model.save_pretrained(folder)
    return folder


def _write_marian(family, folder, corpus):
    from transformers import MarianTokenizer

    source = train_pieces(folder / "source.spm", corpus / "train.de")
    target = train_pieces(folder / "target.spm", corpus / "train.en")
    tags = [">>fra<<", ">>spa<<"] if "tags" in family else []
    separate = "two" in family
    # A real one lacks some pieces too.
    names = {
        "vocab.json": [*tags, *source[:-1], *([] if separate else target[:-2])],
        "target_vocab.json": target[:-2],
    }
    for name, words in names.items():
        words = dict.fromkeys(["</s>", "<unk>", *sorted(words), "<pad>"])
        (folder / name).write_text(json.dumps({word: index for index, word in enumerate(words)}))
    if not separate:
        (folder / "target_vocab.json").unlink()
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    return MarianTokenizer(
        *files, target_vocab_file=str(folder / "target_vocab.json") if separate else None, separate_vocabs=separate
    )


def _write_multilingual(family, folder, corpus):
    import transformers

    path = folder / "sentencepiece.bpe.model"
    words = train_pieces(path, corpus / "train.de", corpus / "train.en")
    if family == "m2m_100":
        vocab = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words[:-1]])}
        (folder / "vocab.json").write_text(json.dumps(vocab))
        return transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(path))
    names = {"nllb": "NllbTokenizer", "mbart": "MBartTokenizer", "mbart_50": "MBart50Tokenizer"}
    return getattr(transformers, names[family])(str(path))


def _model(family, tokenizer):
    import transformers

    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if family.startswith("marian"):
        own = {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": 0, **special}
        if tokenizer.separate_vocabs:
            own |= {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
            own["decoder_vocab_size"] = len(tokenizer.target_encoder)
            own["pad_token_id"] = own["decoder_start_token_id"] = tokenizer.target_encoder["<pad>"]
        config = transformers.MarianConfig(vocab_size=len(tokenizer.encoder), **own, **SIZE)
        model = transformers.MarianMTModel(config)
        model.generation_config.bad_words_ids = [[config.pad_token_id]]
        return model
    kind = "MBart" if family.startswith("mbart") else "M2M100"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=max(tokenizer.lang_code_to_id.values()) + 8 if family == "m2m_100" else len(tokenizer) + 3,
        decoder_start_token_id=tokenizer.eos_token_id,
        **special,
        **SIZE,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config)
