"""Import this module to let NeMo 2.x restore translation models with a youtokentome tokenizer.

NeMo 1.x trained most of its published translation models with `library: yttm`. Example:

    import nemo_distill.nemo_files.youtokentome
    model = MTEncDecModel.restore_from("student_or_teacher.nemo")
"""

from functools import partial
from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.tokenizer_files import tokenizer_library
from nemo_distill.text.token_ids import MissingPackageError, import_youtokentome


def restore_youtokentome() -> None:
    """Enables `MTEncDecModel` and its subclasses to load youtokentome tokenizers.

    NeMo 2.x still has the tokenizer class, but `MTEncDecModel` does not accept the library. If the config names no
    library, as in NeMo 1.x files, NeMo passes the file to SentencePiece, which crashes. The method is replaced on
    NeMo's own class, because `MTEncDecModel.__init__` calls it through that class.
    """
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    nemo_setup = MTEncDecModel.setup_enc_dec_tokenizers
    if getattr(nemo_setup, "loads_youtokentome", False):
        return

    def setup(cls: type, **kwargs: Any) -> tuple[Any, Any]:
        return _load_tokenizers(nemo_setup, **kwargs)

    setup.__dict__["loads_youtokentome"] = True
    MTEncDecModel.setup_enc_dec_tokenizers = classmethod(setup)


def _load_tokenizers(nemo_setup: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Like NeMo's method, but recognizes sentencepiece and youtokentome by the content of the file."""
    loaders = {}
    for side in ("encoder", "decoder"):
        library, model_file = kwargs.get(f"{side}_tokenizer_library"), kwargs.get(f"{side}_tokenizer_model")
        if library in (None, "sentencepiece", "yttm") and model_file and tokenizer_library(model_file) == "yttm":
            dropout, r2l = kwargs.get(f"{side}_bpe_dropout") or 0.0, kwargs.get(f"{side}_r2l", False)
            loaders[side] = partial(_load_youtokentome, model_file, dropout, r2l)
    if len(loaders) == 2:
        return loaders["encoder"](), loaders["decoder"]()
    if not loaders:
        return nemo_setup(**kwargs)
    # NeMo's method loads both sides. Pass the loadable side's arguments for both, and keep only that side.
    (own_side,) = loaders
    other_side = "decoder" if own_side == "encoder" else "encoder"
    for key in ("tokenizer_library", "tokenizer_model", "bpe_dropout", "model_name", "r2l", "sentencepiece_legacy"):
        if f"{other_side}_{key}" in kwargs:
            kwargs[f"{own_side}_{key}"] = kwargs[f"{other_side}_{key}"]
    tokenizers = dict(zip(("encoder", "decoder"), nemo_setup(**kwargs)))
    tokenizers[own_side] = loaders[own_side]()
    return tokenizers["encoder"], tokenizers["decoder"]


def _load_youtokentome(model_file: Any, bpe_dropout: float, r2l: bool) -> Any:
    try:
        import_youtokentome(model_file)
    except MissingPackageError as error:
        raise ConfigurationError([f"{error}."]) from error
    # Here and not above, so that users of SentencePiece need no youtokentome.
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    return YouTokenToMeTokenizer(model_file, bpe_dropout=bpe_dropout, r2l=r2l)


restore_youtokentome()
