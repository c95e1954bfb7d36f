"""Lets NeMo 2.x restore translation models whose tokenizer is youtokentome's.

NeMo 1.x trained most of its published translation models with `library: yttm`. NeMo 2.x kept `YouTokenToMeTokenizer`
but no way to it: the library is not on the list that `MTEncDecModel` accepts, and a config that names no library, as
1.x wrote it, sends the file to SentencePiece, which dies on it. Importing this module mends both, for `MTEncDecModel`
and all that inherit from it:

    import nemo_distill.nemo_files.youtokentome
    model = MTEncDecModel.restore_from("student_or_teacher.nemo")

This is the one place where the project changes a class of NeMo's: `MTEncDecModel.__init__` calls the method by
the class's name, so that no subclass can override it.
"""

from functools import partial
from typing import Any

from nemo.collections.common.tokenizers.tokenizer_spec import TokenizerSpec
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

from nemo_distill.nemo_files.tokenizer_files import tokenizer_library

_nemo_setup = MTEncDecModel.setup_enc_dec_tokenizers


def _is_yttm(library: str | None, model_file: str | None) -> bool:
    if library in (None, "sentencepiece", "yttm") and model_file:
        return tokenizer_library(model_file) == "yttm"
    return False


def _load_yttm(model_file: str, bpe_dropout: float, r2l: bool) -> TokenizerSpec:
    # Here and not above, so that users of SentencePiece need no youtokentome.
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    return YouTokenToMeTokenizer(model_file, bpe_dropout=bpe_dropout, r2l=r2l)


def _setup_enc_dec_tokenizers(cls: type, **kwargs: Any) -> tuple[TokenizerSpec, TokenizerSpec]:
    """NeMo's method, for which the file's content decides between sentencepiece and yttm."""
    loaders = {}
    for side in ("encoder", "decoder"):
        library, model_file = kwargs.get(f"{side}_tokenizer_library"), kwargs.get(f"{side}_tokenizer_model")
        if _is_yttm(library, model_file):
            dropout, r2l = kwargs.get(f"{side}_bpe_dropout") or 0.0, kwargs.get(f"{side}_r2l", False)
            loaders[side] = partial(_load_yttm, model_file, dropout, r2l)
    if len(loaders) == 2:
        return loaders["encoder"](), loaders["decoder"]()
    if not loaders:
        return _nemo_setup(**kwargs)
    # NeMo's method loads both sides: let it load the one that it can in both places, and keep that one.
    (yttm_side,) = loaders
    other_side = "decoder" if yttm_side == "encoder" else "encoder"
    for key in ("tokenizer_library", "tokenizer_model", "bpe_dropout", "model_name", "r2l", "sentencepiece_legacy"):
        if f"{other_side}_{key}" in kwargs:
            kwargs[f"{yttm_side}_{key}"] = kwargs[f"{other_side}_{key}"]
    tokenizers = dict(zip(("encoder", "decoder"), _nemo_setup(**kwargs)))
    tokenizers[yttm_side] = loaders[yttm_side]()
    return tokenizers["encoder"], tokenizers["decoder"]


MTEncDecModel.setup_enc_dec_tokenizers = classmethod(_setup_enc_dec_tokenizers)
