"""Import this module to let NeMo 2.x restore translation models with a youtokentome tokenizer.

NeMo 1.x trained most of its published translation models with `library: yttm`. Example:

    import nemo_distill.nemo_files.youtokentome
    model = MTEncDecModel.restore_from("student_or_teacher.nemo")
"""

from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.model_kinds import SIDES, TOKENIZER_LIBRARIES
from nemo_distill.nemo_files.tokenizer_files import tokenizer_library
from nemo_distill.text.token_ids import MissingPackageError, import_youtokentome

# Of `MTEncDecModel.setup_enc_dec_tokenizers`, for each side.
NEMO_ARGUMENTS = ("tokenizer_library", "tokenizer_model", "bpe_dropout", "model_name", "r2l", "sentencepiece_legacy")


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
    own = {}
    for side in SIDES:
        library, model_file = kwargs.get(f"{side}_tokenizer_library"), kwargs.get(f"{side}_tokenizer_model")
        if library in TOKENIZER_LIBRARIES and model_file and tokenizer_library(model_file) == "yttm":
            dropout, r2l = kwargs.get(f"{side}_bpe_dropout") or 0.0, kwargs.get(f"{side}_r2l", False)
            own[side] = _load_youtokentome(model_file, dropout, r2l)
    if len(own) == 2:
        return own["encoder"], own["decoder"]
    for side in own:  # NeMo's method loads both sides, so it loads the other one twice
        other = "decoder" if side == "encoder" else "encoder"
        for key in NEMO_ARGUMENTS:
            if f"{other}_{key}" in kwargs:
                kwargs[f"{side}_{key}"] = kwargs[f"{other}_{key}"]
    encoder, decoder = nemo_setup(**kwargs)
    return own.get("encoder", encoder), own.get("decoder", decoder)


def _load_youtokentome(model_file: Any, bpe_dropout: float, r2l: bool) -> Any:
    try:
        import_youtokentome(model_file)
    except MissingPackageError as error:
        raise ConfigurationError([f"{error}."]) from error
    # Here and not above, so that users of SentencePiece need no youtokentome.
    from nemo.collections.common.tokenizers.youtokentome_tokenizer import YouTokenToMeTokenizer

    return YouTokenToMeTokenizer(model_file, bpe_dropout=bpe_dropout, r2l=r2l)


restore_youtokentome()
