"""Checks from the config whether a translation model can be exported to a format."""

from collections.abc import Iterator, Mapping
from typing import Any

from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX
from nemo_distill.nemo_files.model_kinds import (
    MT_TARGET,
    SIDES,
    TOKENIZER_LIBRARIES,
    ends_with_norm,
    learned_positions,
)

ACTIVATIONS = ("relu", "gelu")
OF_HUGGING_FACE = ("hugging_face", "browser")  # formats with a model and a tokenizer of Hugging Face's
SEARCHED = {
    "ctranslate2": "CTranslate2",
    "hugging_face": "Hugging Face",
    "browser": "transformers.js",
}  # formats with a search, by their names


def unsupported(config: Mapping[str, Any], format: str) -> list[str]:
    """Returns the reasons why a model of this config cannot be exported to `format`, one sentence each.

    Args:
        format: `ctranslate2`, `hugging_face`, `browser` or `onnx`. For ONNX, the user runs the search, so fewer
            restrictions apply.
    """
    target = str(config.get("target", ""))
    problems = []
    if target.rpartition(".")[2] != MT_TARGET:
        problems.append(f"target={target}: only {MT_TARGET} can be exported.")
    for side in SIDES:
        problems += _stack_problems(side, config.get(side) or {})
        problems += _tokenizer_problems(side, config.get(f"{side}_tokenizer") or {})
    if format in SEARCHED:
        problems += _searched_problems(config, SEARCHED[format])
    if format in OF_HUGGING_FACE:
        problems += _hugging_face_problems(config, format)
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
    if library not in TOKENIZER_LIBRARIES:
        yield f"{where}.library={library}: only sentencepiece and yttm can be exported."
    elif not str(tokenizer.get("tokenizer_model") or "").startswith(ARTIFACT_PREFIX):
        yield f"{where}.tokenizer_model={tokenizer.get('tokenizer_model')}: the .nemo must contain the tokenizer file."
    for key, what in (("r2l", "reversed text"), ("sentencepiece_legacy", "tokens outside the tokenizer file")):
        if tokenizer.get(key):
            yield f"{where}.{key}=true: {what} cannot be exported; it must be false."


def _searched_problems(config: Mapping[str, Any], name: str) -> Iterator[str]:
    encoder, head = config.get("encoder") or {}, config.get("head") or {}
    if encoder.get("mask_future", True):  # NeMo's default
        value = encoder.get("mask_future", "missing, so NeMo uses true")
        yield f"encoder.mask_future={value}: {name}'s encoder is bidirectional; it must be false."
    for side in SIDES:
        activation = (config.get(side) or {}).get("hidden_act", "relu")
        if activation not in ACTIVATIONS:
            yield f"{side}.hidden_act={activation}: must be one of {', '.join(ACTIVATIONS)}."
    if config.get("multilingual"):
        yield f"multilingual=true: {name} would not add the language token to the source; it must be false."
    if head.get("num_layers", 1) != 1:
        yield f"head.num_layers={head['num_layers']}: {name} supports only 1 layer."
    if not head.get("log_softmax", True):
        yield f"head.log_softmax=false: {name} needs log-probabilities; it must be true."


def _hugging_face_problems(config: Mapping[str, Any], format: str) -> Iterator[str]:
    """Yields what neither mBART, which is pre-LN, nor BART, which is post-LN, can express."""
    stacks = {side: config.get(side) or {} for side in SIDES}
    pre_ln = [stack.get("pre_ln", False) for stack in stacks.values()]
    activations = [stack.get("hidden_act", "relu") for stack in stacks.values()]
    if pre_ln[0] != pre_ln[1]:
        yield (
            f"encoder.pre_ln={pre_ln[0]} and decoder.pre_ln={pre_ln[1]}: mBART needs both true, BART both false; "
            f"format={format} has nothing else."
        )
    for side, stack in stacks.items():
        if stack.get("pre_ln") and not ends_with_norm(stack):
            value = "false" if "pre_ln_final_layer_norm" in stack else "missing, so NeMo uses false"
            yield f"{side}.pre_ln_final_layer_norm={value}: mBART normalizes at the end; it must be true."
    if activations[0] != activations[1]:
        yield (
            f"encoder.hidden_act={activations[0]} and decoder.hidden_act={activations[1]}: Hugging Face's models have "
            "one activation; they must be equal."
        )
    learned = learned_positions(config)
    if len(set(learned.values())) > 1:
        yield (
            f"max_sequence_length={learned}: Hugging Face's models have as many positions in both stacks; learned "
            "ones must be equally many."
        )
