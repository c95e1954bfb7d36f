"""Checks from the config whether a translation model can be exported to a format."""

from collections.abc import Iterator, Mapping
from typing import Any

from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX
from nemo_distill.nemo_files.translation_archive import MT_TARGET, SIDES

ACTIVATIONS = ("relu", "gelu")
TOKENIZERS = (None, "sentencepiece", "yttm")


def unsupported(config: Mapping[str, Any], format: str) -> list[str]:
    """Returns the reasons why a model of this config cannot be exported to `format`, one sentence each.

    Args:
        config: the config of a `.nemo`, resolved.
        format: `ctranslate2` or `onnx`. For ONNX, the user runs the search, so fewer restrictions apply.
    """
    target = str(config.get("target", ""))
    problems = []
    if target.rpartition(".")[2] != MT_TARGET:
        problems.append(f"target={target}: only {MT_TARGET} can be exported.")
    for side in SIDES:
        problems += _stack_problems(side, config.get(side) or {})
        problems += _tokenizer_problems(side, config.get(f"{side}_tokenizer") or {})
    if format == "ctranslate2":
        problems += _ctranslate2_problems(config)
    return problems


def _stack_problems(side: str, stack: Mapping[str, Any]) -> Iterator[str]:
    library, arch = stack.get("library") or "nemo", stack.get("arch")
    if library != "nemo":
        yield f"{side}.library={library}: only NeMo's own transformers can be exported, library=nemo."
    if arch:
        yield f"{side}.arch={arch}: only the plain transformer can be exported, which has no arch."


def _tokenizer_problems(side: str, tokenizer: Mapping[str, Any]) -> Iterator[str]:
    where = f"{side}_tokenizer"
    library = tokenizer.get("library")
    if library not in TOKENIZERS:
        yield f"{where}.library={library}: only sentencepiece and yttm can be exported."
    elif not str(tokenizer.get("tokenizer_model") or "").startswith(ARTIFACT_PREFIX):
        yield f"{where}.tokenizer_model={tokenizer.get('tokenizer_model')}: the .nemo must contain the tokenizer file."
    for key, what in (("r2l", "reversed text"), ("sentencepiece_legacy", "tokens outside the tokenizer file")):
        if tokenizer.get(key):
            yield f"{where}.{key}=true: {what} cannot be exported; it must be false."


def _ctranslate2_problems(config: Mapping[str, Any]) -> Iterator[str]:
    encoder, head = config.get("encoder") or {}, config.get("head") or {}
    if encoder.get("mask_future", True):  # NeMo's default
        value = encoder.get("mask_future", "missing, so NeMo uses true")
        yield f"encoder.mask_future={value}: CTranslate2's encoder is bidirectional; it must be false."
    for side in SIDES:
        activation = (config.get(side) or {}).get("hidden_act", "relu")
        if activation not in ACTIVATIONS:
            yield f"{side}.hidden_act={activation}: must be one of {', '.join(ACTIVATIONS)}."
    if config.get("multilingual"):
        yield "multilingual=true: CTranslate2 would not add the language token to the source; it must be false."
    if head.get("num_layers", 1) != 1:
        yield f"head.num_layers={head['num_layers']}: CTranslate2 supports only 1 layer."
    if not head.get("log_softmax", True):
        yield "head.log_softmax=false: CTranslate2 needs log-probabilities; it must be true."
