"""Writes docs/reference.md from the docstrings of the public names, by reading the sources and importing nothing.

make reference
"""

import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference.md"
# What a program of a user's own may build on: names by module. Whatever is not here may change without notice.
PUBLIC = {
    "Models": {
        "core.distillation_model": ["DistillationModelPT"],
        "core.distillation_mixin": ["DistillationMixin"],
        "models.mt_enc_dec_model": ["DistillableMTEncDecModel"],
    },
    "Registry": {"core.registry": ["Role", "DistillationRegistry", "consumed_tensors"]},
    "Configuration": {
        "core.config": ["ConfigurationError", "check_distillation", "build_loss_terms", "check_missing"],
        "core.schedule": ["Schedule", "parse_schedule"],
    },
    "Losses": {
        "losses.word_level": ["WordLevelLoss"],
        "losses.kl_divergence": ["KLDivergenceLoss"],
        "losses.cross_entropy": ["CrossEntropyLoss"],
        "losses.reverse_kl_divergence": ["ReverseKLDivergenceLoss"],
        "losses.jensen_shannon": ["JensenShannonLoss"],
        "losses.selective": ["SelectiveDistillationLoss"],
        "losses.top_one_ranking": ["TopOneRankingLoss"],
        "losses.hidden_states": ["HiddenStatesLoss"],
        "losses.cosine_embedding": ["CosineEmbeddingLoss"],
        "losses.mean_squared_error": ["MeanSquaredErrorLoss"],
        "losses.attention_maps": ["AttentionMapsLoss"],
        "losses.layer_map": ["layer_pairs"],
        "losses.reduction": ["masked_mean"],
        "losses.projection": ["Projection"],
        "losses.fused": ["fused_losses"],
        "losses.top_k": ["TopK"],
    },
    "Engines that translate": {
        "decoding.engine": ["Engine", "Translation", "Hypothesis", "translate_stream"],
        "decoding.settings": ["SearchSettings"],
        "decoding.engines": ["load_engine"],
        "decoding.nemo_engines": ["CachedEngine", "NeMoEngine"],
        "decoding.ctranslate2_engine": ["CTranslate2Engine"],
        "decoding.hugging_face_engine": ["HuggingFaceEngine"],
    },
    "Pseudo-labels and mixes": {
        "data.text_lines": ["DataError", "LinePolicy"],
        "pseudo_labels.generate": ["generate", "Generation", "Translator", "Scorer", "searching"],
        "pseudo_labels.folder": ["LabelFolder"],
        "pseudo_labels.assemble": ["assemble", "Assembly"],
        "pseudo_labels.judge": ["Criteria"],
        "pseudo_labels.filters": ["FilterSettings"],
        "pseudo_labels.shards": ["read_rows", "Row"],
        "data.mixing": ["write_mix", "Mix", "Corpus"],
    },
    "Teacher cache": {
        "teacher_cache.cache": ["TeacherCache", "MissingPairError", "read_manifest"],
        "teacher_cache.keys": ["pair_keys"],
        "teacher_cache.records": ["token_type", "kept_words"],
        "teacher_cache.build": ["build", "CacheJob", "TeacherOfPairs"],
        "teacher_cache.folder": ["CacheFolder"],
    },
    "Evaluation": {
        "evaluation.scores": ["corpus_score", "bleu", "Score"],
        "evaluation.significance": ["compare", "Comparison", "SignificanceSettings", "group_p_value"],
        "evaluation.parameters": ["count_parameters", "archive_parameters", "ParameterCount"],
        "evaluation.speed": ["measure", "Speed", "SpeedSettings"],
    },
    "Export": {"export.export_model": ["export_model"], "export.settings": ["ExportSettings"]},
}
HEAD = """# Reference

Of what a program of your own may import. The scripts' settings are explained in their `conf/`. B, T, S, V, D and H in
shapes are sentences, target and source tokens, vocabulary, width and heads. Written by `make reference` from the
docstrings; edit those.
"""


def page() -> str:
    """Returns the page as it should be."""
    package = griffe.load("nemo_distill", search_paths=[ROOT], allow_inspection=False, docstring_parser="google")
    parts = [HEAD, " · ".join(f"[{title}](#{title.lower().replace(' ', '-')})" for title in PUBLIC) + "\n"]
    for title, modules in PUBLIC.items():
        parts.append(f"## {title}\n")
        parts += [entry(package[f"{module}.{name}"]) for module, names in modules.items() for name in names]
    return "\n".join(parts)


def entry(thing: griffe.Object) -> str:
    """Returns what is said of a class or a function, and of a class's public methods."""
    lines = [f"### `{thing.path}`\n", *described(thing)]
    for member in thing.members.values() if thing.is_class else ():
        if not member.is_alias and member.is_public and member.docstring and is_called(member):
            lines += [f"#### `{thing.name}.{member.name}`\n", *described(member)]
    return "\n".join(lines)


def heading(thing: griffe.Object) -> str:
    """Returns a thing's first lines in Python: a class with its arguments, a function with its types."""
    if is_property(thing):
        return f"{thing.name}: {thing.annotation}"
    if thing.is_class:
        bases = f"({', '.join(map(str, thing.bases))})" if thing.bases else ""
        return f"class {thing.name}{bases}" + (f"\n\n{signature(thing)}" if thing.parameters else "")
    return signature(thing)


def is_called(thing: griffe.Object) -> bool:
    """True for a function or a property."""
    return thing.is_function or is_property(thing)


def is_property(thing: griffe.Object) -> bool:
    return thing.is_attribute and "property" in thing.labels


def signature(thing: griffe.Object) -> str:
    """Returns a call with its types and defaults, an argument a line where one line would be too long."""
    arguments, stars = [], {"variadic positional": "*", "variadic keyword": "**"}
    for parameter in thing.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not any(name.startswith("*") for name in arguments):
            arguments.append("*")
        argument = stars.get(parameter.kind.value, "") + parameter.name
        argument += f": {parameter.annotation}" if parameter.annotation else ""
        if parameter.default is not None and not stars.get(parameter.kind.value):
            argument += f" = {parameter.default}" if parameter.annotation else f"={parameter.default}"
        arguments.append(argument)
    result = f" -> {thing.returns}" if thing.is_function and thing.returns else ""
    call = f"{thing.name}({', '.join(arguments)}){result}"
    if len(call) <= 100:
        return call
    return f"{thing.name}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){result}"


def described(thing: griffe.Object) -> list[str]:
    """Returns a thing's first lines and its docstring: paragraphs and lists of arguments, results and errors."""
    lines = [f"```python\n{heading(thing)}\n```\n"]
    for section in thing.docstring.parsed if thing.docstring else ():
        kind = section.kind.value
        if kind == "text":
            lines.append(f"{section.value}\n")
        elif kind in ("parameters", "attributes"):
            lines += [f"- `{item.name}`: {one_line(item.description)}" for item in section.value] + [""]
        elif kind == "raises":
            lines += [f"Raises `{item.annotation}`: {one_line(item.description)}\n" for item in section.value]
        elif kind == "returns":
            lines += [f"Returns: {one_line(item.description)}\n" for item in section.value]
        else:
            raise ValueError(f"{thing.path}: its docstring has a section of the kind '{kind}', which has no form here")
    return lines


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")
