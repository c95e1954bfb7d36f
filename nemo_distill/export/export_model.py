"""Exports a `.nemo`: writes the converted model, the tokenizer files and a record."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from nemo_distill import __version__
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import broken_rules
from nemo_distill.export.browser_page import npm_versions, write_page
from nemo_distill.export.record import ExportRecord, SpecialIds, TextSide
from nemo_distill.export.settings import ExportSettings
from nemo_distill.export.supported import OF_HUGGING_FACE
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS, SIDES, learned_positions, number_of_positions
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary, tokenizer_library
from nemo_distill.storage.files import new_folder, versions

ARCHITECTURE = ("encoder", "decoder", "head", "shared_embeddings")
PACKAGES = {
    "ctranslate2": ("nemo_toolkit", "torch", "ctranslate2"),
    "hugging_face": ("nemo_toolkit", "torch", "transformers", "tokenizers"),
    "onnx": ("nemo_toolkit", "torch", "onnx"),
    "browser": ("nemo_toolkit", "torch", "transformers", "tokenizers", "onnx", "onnxruntime"),
}


def export_model(
    settings: ExportSettings, complete: Callable[[Path, ExportRecord], ExportRecord] | None = None
) -> ExportRecord:
    """Writes the folder `settings.output` atomically and returns its record.

    Args:
        complete: gets the folder before it has its name, and its record. It may add files, measures what the export
            costs, and returns the record to keep. If it raises an error, nothing is written.

    Raises:
        ConfigurationError: with all problems of the settings and of the model.
    """
    if problems := broken_rules(settings):
        raise ConfigurationError(problems)
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    from nemo_distill.nemo_files.restore import restore_for_inference

    archive = NemoArchive(settings.model)
    model = restore_for_inference(MTEncDecModel, archive.path)
    with new_folder(settings.output) as folder:
        record = export_record(archive, archive.config, settings, write_tokenizers(archive, folder), folder)
        _write_model(model, folder, record)
        if settings.node_modules is not None:
            write_page(folder, record.model, archive.config, settings.node_modules)
        record.write(folder)
        if complete is not None:
            record = complete(folder, record)
            record.write(folder)
    return record


def _write_model(model: Any, folder: Path, record: ExportRecord) -> None:
    if record.format == "ctranslate2":
        from nemo_distill.export.ctranslate2_model import write_model
    elif record.format == "hugging_face":
        from nemo_distill.export.hugging_face_model import write_model
    elif record.format == "browser":
        from nemo_distill.export.browser_model import write_model
    else:
        from nemo_distill.export.onnx_model import write_model
    write_model(model, folder, record)


def write_tokenizers(archive: NemoArchive, folder: Path) -> list[str]:
    """Writes the source and target tokenizers, or a single file if they are equal. Returns the file names."""
    source, target = (archive.artifact(archive.config[f"{side}_tokenizer"].tokenizer_model) for side in SIDES)
    if source == target:
        names = ["shared_tokenizer.model"] * 2
    else:
        names = ["source_tokenizer.model", "target_tokenizer.model"]
    for name, content in zip(names, (source, target)):
        (folder / name).write_bytes(content)
    return names


def export_record(
    archive: NemoArchive, model: DictConfig, settings: ExportSettings, tokenizers: Sequence[str], folder: Path
) -> ExportRecord:
    """Returns the record of an export that is being written.

    Args:
        archive: the `.nemo` that it is made from.
        model: the config of the model.
        settings: the format, the positions and npm's folder.
        tokenizers: what `write_tokenizers` has returned.
        folder: the folder of the export.
    """
    config: Any = OmegaConf.to_container(model)
    positions = _positions(config, settings)
    sides = [
        _text_side(folder / name, config.get(language), positions[side])
        for side, name, language in zip(SIDES, tokenizers, LANGUAGE_KEYS)
    ]
    return ExportRecord(
        model=archive.path.name,
        sha256=archive.sha256(),
        format=settings.format,
        quantization=settings.quantization,
        architecture={key: config[key] for key in ARCHITECTURE if key in config},
        source=sides[0],
        target=sides[1],
        versions={
            "nemo_distill": __version__,
            **versions(PACKAGES[settings.format]),
            **(npm_versions(settings.node_modules) if settings.node_modules else {}),
        },
        labels_selected_by=config.get("labels_selected_by", []),
    )


def _positions(config: dict[str, Any], settings: ExportSettings) -> dict[str, int]:
    """Returns the number of positions of each side. In Hugging Face's models, both have as many: those learned."""
    if settings.max_positions:
        return dict.fromkeys(SIDES, settings.max_positions)
    own = {side: number_of_positions(config, side) for side in SIDES}
    if settings.format not in OF_HUGGING_FACE:
        return own
    return dict.fromkeys(SIDES, min(learned_positions(config).values(), default=max(own.values())))


def _text_side(tokenizer: Path, language: str | None, positions: int) -> TextSide:
    vocabulary = read_vocabulary(tokenizer)
    return TextSide(
        tokenizer=tokenizer.name,
        library=tokenizer_library(tokenizer),
        language=language,
        pieces=len(vocabulary.pieces),
        special_ids=cast(SpecialIds, vocabulary.special_ids),
        positions=positions,
    )
