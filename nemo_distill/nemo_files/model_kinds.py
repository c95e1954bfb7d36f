"""Tells from a config, without NeMo, which models NeMo 2 can run and which languages a model translates.

NeMo finds most of these faults late, with a stack trace. It ignores others: a language list of a bilingual model, for
example. A multilingual model of NeMo is either of these:

- many-to-one: `src_language` is a list. Sources have no language tag.
- one-to-many: `tgt_language` is a list. A tag such as `<fr>` in front of the source names the language to write.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nemo_distill.text.files import as_list

MT_TARGET = "MTEncDecModel"
HUGGING_FACE = "transformers."  # begins the `target` of a teacher that is a folder of Hugging Face
SIDES = ("encoder", "decoder")
LANGUAGE_KEYS = ("src_language", "tgt_language")  # the value of each is a language or a list
# Of NeMo's tokenizer libraries, those that NeMo 2 loads from a file. None: found out by the file's content.
TOKENIZER_LIBRARIES = (None, "sentencepiece", "yttm")
STACK_SIZES = ("hidden_size", "num_layers", "inner_size", "num_attention_heads")
OLD_KEYS = ("encoder_embedding", "decoder_embedding", "machine_translation", "language_model")
BY_FILE = "its translations can still be used as pseudo-labels, with engine=file"


def kind_problems(config: Mapping[str, Any], where: str = "") -> list[str]:
    """Returns the reasons why NeMo 2 cannot build or run a translation model of this config, one sentence each.

    Args:
        config: the `model` section of a job, or the config of a `.nemo`.
    """
    if old := [key for key in OLD_KEYS if key in config]:
        return [
            f"{where}{old[0]}: NeMo before 1.0 arranged its models in this way, and NeMo 2 cannot restore them; "
            f"translate with the NeMo that made it, since {BY_FILE}."
        ]
    problems = []
    for side in SIDES:
        problems += _stack_problems(f"{where}{side}", side, config.get(side) or {})
        problems += library_problems(f"{where}{side}_tokenizer.library", config.get(f"{side}_tokenizer") or {})
    return problems + _language_list_problems(config, where)


def _stack_problems(where: str, side: str, stack: Mapping[str, Any]) -> list[str]:
    library, arch = stack.get("library") or "nemo", stack.get("arch") or "seq2seq"
    if library == "megatron":
        return [f"{where}.library=megatron: NeMo has not supported Megatron {side}s since 1.5; it must be nemo."]
    if library == "huggingface":
        return _hugging_face_problems(where, side, stack)
    if library != "nemo":
        return [f"{where}.library={library}: must be nemo, or for an encoder huggingface."]
    if arch != "seq2seq" or (stack.get("arch") and side == "encoder" and stack.get("return_mask", True)):
        return [
            f"{where}.arch={stack['arch']}: NeMo runs this only in an MTBottleneckModel, which cannot be distilled; "
            "remove the key."
        ]
    return []


def _hugging_face_problems(where: str, side: str, stack: Mapping[str, Any]) -> list[str]:
    if side == "decoder":
        return [f"{where}.library=huggingface: NeMo cannot search with such a decoder; it must be nemo."]
    if name := stack.get("model_name"):
        return [
            f"{where}.model_name={name}: NeMo would download it each time that it opens the model; give its "
            f"configuration instead, as {where}._target_=transformers.BertConfig with its keys."
        ]
    if not str(stack.get("_target_") or "").startswith("transformers."):
        return [f"{where}.library=huggingface needs {where}._target_, such as transformers.BertConfig."]
    return []


def library_problems(where: str, tokenizer: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if NeMo 2 cannot translate with a tokenizer of this library."""
    library = tokenizer.get("library")
    if library in TOKENIZER_LIBRARIES:
        return []
    if library == "byte-level":
        return [
            f"{where}=byte-level: NeMo 2's byte tokenizer has no start symbol (bos_id=None), which translation needs; "
            "train a sentencepiece tokenizer with byte_fallback=true, or model_type=char, instead."
        ]
    return [f"{where}={library}: must be sentencepiece or yttm."]


def _language_list_problems(config: Mapping[str, Any], where: str) -> list[str]:
    lists = [key for key in LANGUAGE_KEYS if is_several(config.get(key))]
    if not config.get("multilingual"):
        return [
            f"{where}{key}={list(config[key])}: several languages need {where}multilingual=true; give one."
            for key in lists
        ]
    if len(lists) != 1:
        found = {key: config.get(key) for key in LANGUAGE_KEYS}
        return [
            f"{where}multilingual=true: one of {where}src_language and {where}tgt_language must be a list, and the "
            f"other must not; they are {found['src_language']} and {found['tgt_language']}."
        ]
    (key,) = lists
    if len(set(config[key])) < len(config[key]):
        return [f"{where}{key}={list(config[key])}: NeMo needs different languages."]
    return [] if key == "src_language" else _tag_problems(config, where)


def _tag_problems(config: Mapping[str, Any], where: str) -> list[str]:
    """Returns a sentence for each tokenizer that cannot have the language tags of a one-to-many model."""
    problems = []
    for name in (f"{side}_tokenizer" for side in SIDES):
        tokenizer = config.get(name) or {}
        if tokenizer.get("library") == "yttm":
            problems.append(f"{where}{name}.library=yttm: cannot have language tags; use sentencepiece.")
        elif not tokenizer.get("sentencepiece_legacy"):
            problems.append(
                f"{where}{name}.sentencepiece_legacy={tokenizer.get('sentencepiece_legacy')}: a model of several "
                "target languages needs true, so that NeMo can add its language tags."
            )
    return problems


def size_problems(config: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each size that a NeMo stack in the config of a `.nemo` lacks."""
    return [
        f"{side} has no {key}, which NeMo 2 needs to restore the model."
        for side in SIDES
        for key in STACK_SIZES
        if (stack := config.get(side)) and (stack.get("library") or "nemo") == "nemo" and stack.get(key) is None
    ]


def is_several(languages: Any) -> bool:
    """True if the value of `src_language` or `tgt_language` is a list, also one of OmegaConf."""
    return isinstance(languages, Sequence) and not isinstance(languages, str)


def is_tagged(config: Mapping[str, Any]) -> bool:
    """True for a one-to-many model, whose sources begin with the tag of the target language."""
    return bool(config.get("multilingual")) and is_several(config.get("tgt_language"))


def reading_differences(config: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns the key and both values of each setting by which two models read or write the same text differently.

    Tokenizer files are not compared.
    """
    both = (config, other)
    values: dict[str, list[Any]] = {"multilingual": [bool(one.get("multilingual")) for one in both]}
    values |= {key: [_compared(key, one.get(key)) for one in both] for key in LANGUAGE_KEYS}
    for section in (f"{side}_tokenizer" for side in SIDES):
        for key in ("r2l", "sentencepiece_legacy"):
            values[f"{section}.{key}"] = [bool((one.get(section) or {}).get(key)) for one in both]
    return [(key, own, theirs) for key, (own, theirs) in values.items() if own != theirs]


def _compared(key: str, language: Any) -> Any:
    if is_several(language):  # only target languages have tags, with ids in this order
        return list(language) if key == "tgt_language" else sorted(language)
    return "ignore" if language is None else language  # both mean that text is not processed


def teaching_problems(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str]:
    """Returns the reasons why a teacher cannot teach the directions of a student, one sentence each.

    Languages of two bilingual models are not compared, because they only choose how text is processed.

    Args:
        student: its config, with the languages that it takes from its teacher.
    """
    if not teacher.get("multilingual"):
        if not student.get("multilingual"):
            return []
        return ["model.multilingual=true, but the teacher is bilingual; it must be false."]
    (key,) = (key for key in LANGUAGE_KEYS if is_several(teacher.get(key)))
    known = list(teacher[key])
    ours: Any = student.get(key)
    if not student.get("multilingual"):
        # Sources of a many-to-one teacher have no tag, so its language need not be known.
        if ours in known or (key == "src_language" and ours == "ignore"):
            return []
        return [
            f"model.{key}={list(ours) if is_several(ours) else ours}: must be one of {', '.join(known)}, which the "
            "multilingual teacher has; or set model.multilingual=true for a student of all of them."
        ]
    if not is_several(ours):
        return [f"model.{key}={ours}: must be a list of the teacher's languages, {', '.join(known)}."]
    if key == "tgt_language" and list(ours) != known:  # tags have their ids in this order
        return [f"model.{key}={list(ours)}: must be the teacher's {known}, in this order."]
    return [
        f"model.{key} has '{language}', but the teacher has {known}." for language in ours if language not in known
    ]


def tag_of(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str | None:
    """Returns the target language whose tag a teacher must read although its student reads none, or None.

    Args:
        student: its config, without `teaching_problems`.
    """
    return student.get("tgt_language") if is_tagged(teacher) and not student.get("multilingual") else None


def read_tags(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> str | list[str] | None:
    """Returns the languages whose tags a teacher reads: a list if its student reads them too; None if neither does."""
    return list(student["tgt_language"]) if is_tagged(student) else tag_of(student, teacher)


def language_file_problems(model: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each data section whose files are not as many as a multilingual model's languages.

    NeMo takes the files of one language after the other: the first is of the first language.
    """
    if not model.get("multilingual"):
        return []
    key = next((key for key in LANGUAGE_KEYS if is_several(model.get(key))), None)
    if key is None:  # `kind_problems` reports this
        return []
    problems = []
    for section in ("train_ds", "validation_ds", "test_ds"):
        data = model.get(section) or {}
        name = "metadata_file" if data.get("use_tarred_dataset") else "src_file_name"
        files = as_list(data.get(name))
        if files and len(files) != len(model[key]):
            problems.append(
                f"model.{section}.{name} has {len(files)} files and model.{key} has {len(model[key])} languages; give "
                "one for each language, in the same order."
            )
    return problems


def is_hugging_face_model(config: Mapping[str, Any]) -> bool:
    """True if the config describes a whole model of Hugging Face; see `HuggingFaceFolder`."""
    return str(config.get("target", "")).startswith(HUGGING_FACE)


def is_hugging_face_encoder(config: Mapping[str, Any]) -> bool:
    """True if the encoder is one of Hugging Face, whose layers are not those of NeMo."""
    return (config.get("encoder") or {}).get("library") == "huggingface"


def config_width(config: Mapping[str, Any]) -> int:
    """Returns the width of a model, which NeMo needs to be the same on both sides."""
    return config["decoder"]["hidden_size"]  # an encoder of Hugging Face may leave out its own, or name it otherwise


def number_of_positions(config: Mapping[str, Any], side: str) -> int:
    """Returns how many tokens a side of a model reads, with NeMo's default, or that of Hugging Face."""
    stack = config.get(side) or {}
    key = "max_position_embeddings" if stack.get("library") == "huggingface" else "max_sequence_length"
    return stack.get(key) or 512


def ends_with_norm(stack: Mapping[str, Any]) -> bool:
    """True if NeMo's stack of this config normalizes the output of its last layer."""
    # NeMo 2.4.1 takes a missing key of a translation model for false, although its stacks themselves have true.
    return bool(stack.get("pre_ln", False) and stack.get("pre_ln_final_layer_norm", False))


def learned_positions(config: Mapping[str, Any]) -> dict[str, int]:
    """Returns how many positions each stack of NeMo's that learns them has learned, by side."""
    learning = [side for side in SIDES if (config.get(side) or {}).get("learn_positional_encodings")]
    return {side: number_of_positions(config, side) for side in learning}


def has_learned_positions(config: Mapping[str, Any], side: str) -> bool:
    """True if a side of a model cannot read more tokens than it has positions."""
    stack = config.get(side) or {}
    return bool(stack.get("learn_positional_encodings")) or stack.get("library") == "huggingface"
