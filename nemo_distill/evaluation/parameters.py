"""Computes the number of parameters of a NeMo translation model from its config, without building it.

The counts are those of `MTEncDecModel` with NeMo's own Transformers. Its output matrix is the decoder's embedding
matrix (Press & Wolf 2017, arXiv 1608.05859), and with `shared_embeddings` also the encoder's. Each matrix counts once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.export.random_model import weight_shapes
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import LOCAL_ONLY, HuggingFaceFolder, unsafe_reasons
from nemo_distill.nemo_files.model_kinds import is_hugging_face_model
from nemo_distill.nemo_files.translation_archive import SIDES, archived_vocabulary


@dataclass(frozen=True)
class ParameterCount:
    """The parameters of a model.

    Args:
        total: all parameters.
        embeddings: those of token, position and token type embeddings.
        per_token: the weights that each token is multiplied by: those of all layers, and the output matrix.
    """

    total: int
    embeddings: int
    per_token: int

    @property
    def without_embeddings(self) -> int:
        """Parameters outside embeddings. They do not depend on the vocabulary, except the output bias."""
        return self.total - self.embeddings


def count_parameters(config: Mapping[str, Any], source_pieces: int, target_pieces: int) -> ParameterCount | None:
    """Computes the number of parameters of a model.

    Args:
        config: the model's config, with `encoder` and `decoder` in NeMo's keys, and `shared_embeddings`. Missing keys
            have NeMo's defaults.
        source_pieces: vocabulary size of the encoder's tokenizer.
        target_pieces: vocabulary size of the decoder's tokenizer.

    Returns:
        None for networks other than NeMo's plain Transformers, and for multilingual models, whose vocabulary is
        larger.
    """
    encoder, decoder = (config[side] for side in SIDES)
    if config.get("multilingual") or any(
        stack.get("library", "nemo") != "nemo" or stack.get("arch") for stack in (encoder, decoder)
    ):
        return None
    shapes = weight_shapes(config, dict(zip(SIDES, (source_pieces, target_pieces))))
    sizes = {name: prod(shape) for name, shape in shapes.items()}
    tokens = sizes["decoder/embeddings/weight"]
    embeddings = tokens + _extra_embeddings(encoder) + _extra_embeddings(decoder)
    if not config.get("shared_embeddings", False):
        embeddings += sizes["encoder/embeddings/0/weight"]
    layers = sum(size for name, size in sizes.items() if name.split("/")[1] in ("layer", "layer_norm"))
    embedding_norms = sum(size for name, size in sizes.items() if "/layernorm_embedding/" in name)
    output_bias = sizes["decoder/projection/bias"]
    return ParameterCount(embeddings + embedding_norms + layers + output_bias, embeddings, layers + tokens)


def archive_parameters(archive: NemoArchive) -> ParameterCount | None:
    """Returns the number of parameters of a model; None if its config is not sufficient."""
    if isinstance(archive, HuggingFaceFolder):
        return folder_parameters(archive.path)
    if is_hugging_face_model(archive.config):  # the copy in a teacher cache, which lacks most of the config
        return None
    source, target = (archived_vocabulary(archive, side) for side in SIDES)
    if source is None or target is None:
        return None
    return count_parameters(archive.config, len(source.pieces), len(target.pieces))


def folder_parameters(folder: Path) -> ParameterCount:
    """Returns the number of parameters of a Hugging Face model.

    Builds the model without allocating its weights, so that tied weights are counted once.

    Raises:
        ConfigurationError: if the folder is not safe to open.
    """
    if reasons := unsafe_reasons(folder):
        raise ConfigurationError(reasons)
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder, **LOCAL_ONLY))
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    total, embeddings = (sum(weight.numel() for weight in group) for group in (model.parameters(), tables))
    return ParameterCount(total, embeddings, total - embeddings + model.get_output_embeddings().weight.numel())


def _extra_embeddings(stack: Mapping[str, Any]) -> int:
    positions = stack.get("max_sequence_length", 512) if stack.get("learn_positional_encodings") else 0
    return (positions + stack.get("num_token_types", 2)) * stack["hidden_size"]
