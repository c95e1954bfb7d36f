"""Generates a student's model card from the records of its training and evaluation."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from nemo_distill.console import markdown_table
from nemo_distill.evaluation.differences import difference_table
from nemo_distill.evaluation.evaluation_record import EvaluationRecord
from nemo_distill.evaluation.evaluation_tables import group_table, table
from nemo_distill.evaluation.findings import findings, notes
from nemo_distill.evaluation.parameters import archive_parameters
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS, SIDES
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, translation_archive
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import read_json
from nemo_distill.storage.run_record import RUN_NAME, read_run
from nemo_distill.text.files import as_list
from nemo_distill.text.languages import NO_LANGUAGE

ENDS = r"=,:|'\"\[\]{}"  # of paths, in sentences and overrides
FOLDERS = re.compile(rf"[^\s{ENDS}]*/(?=[^/\s])")  # before a file's name, in sentences
FOLDERS_OF_VALUES = re.compile(rf"(?:[^\s{ENDS}][^{ENDS}]*)?/(?=[^/])")  # may have spaces
YOUTOKENTOME = "import nemo_distill.nemo_files.youtokentome  # lets NeMo load the tokenizer\n"
USE = """\
```python
{imports}from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

model = MTEncDecModel.restore_from("{name}").eval()
print(model.translate(["..."]{languages}))
```"""


def model_card(model: Path, run: Path | None = None, evaluation: Path | None = None) -> str:
    """Returns a student's model card in Markdown. Paths are reduced to file names.

    Args:
        model: the `.nemo`. Its config contains `distilled_with`, unless it was trained without a teacher.
        run: the training folder, whose `run.json` provides overrides, revision, versions, seed and device; None omits
            this section.
        evaluation: an `evaluation.json`. The card shows the results of this model, identified by its SHA-256. None
            omits this section.

    Raises:
        ValueError: if a file is missing, or the evaluation does not include the model.
    """
    archive = translation_archive(model)
    config = OmegaConf.to_container(archive.config)
    sections = [f"# {model.stem}", _summary(config), _sizes(archive, config), _use(archive, config)]
    if made := config.get("distilled_with"):
        sections += ["## How it was distilled", *_distillation(made)]
    if run is not None:
        record = read_run(run)
        if record is None:
            raise ValueError(f"run={run}: there is no {RUN_NAME} in '{run}'")
        shown: dict[str, Any] = {key: value for key, value in record.items() if key != "settings"}
        if inputs := record.get("inputs"):
            shown["inputs"] = [{"name": Path(path).name, "sha256": sha256} for path, sha256 in inputs.items()]
        sections += ["## The run", _as_yaml(shown)]
    if evaluation is not None:
        sections += ["## Evaluation", *_evaluation(evaluation, fingerprint(model)["sha256"])]
    return "\n\n".join(sections) + "\n"


def _summary(config: Mapping[str, Any]) -> str:
    languages = [", ".join(one) for one in _languages(config)]
    named = f" from {languages[0]} to {languages[1]}" if languages else ""
    kind = (
        "distilled from a teacher with nemo_distill" if config.get("distilled_with") else "trained without a teacher"
    )
    return f"A neural translation model{named}, {kind}. It is a plain NeMo `MTEncDecModel`."


def _languages(config: Mapping[str, Any]) -> list[list[str]]:
    """Returns the languages of source and target; none if one of them is not known."""
    languages = [as_list(config.get(key)) for key in LANGUAGE_KEYS]
    return languages if all(one and NO_LANGUAGE not in one for one in languages) else []


def _use(archive: NemoArchive, config: Mapping[str, Any]) -> str:
    """Returns the code that translates: in a multilingual model from and to the first of its languages."""
    vocabularies = (archived_vocabulary(archive, side) for side in SIDES)
    needs_import = any(vocabulary is not None and vocabulary.library == "yttm" for vocabulary in vocabularies)
    languages = ""
    if config.get("multilingual"):
        source, target = (as_list(config[key])[0] for key in LANGUAGE_KEYS)
        languages = f', source_lang="{source}", target_lang="{target}"'
    return USE.format(imports=YOUTOKENTOME if needs_import else "", name=archive.path.name, languages=languages)


def _sizes(archive: NemoArchive, config: Mapping[str, Any]) -> str:
    rows = []
    for key in ("num_layers", "hidden_size", "inner_size", "num_attention_heads"):
        rows.append([key.replace("_", " "), *(str(config[side].get(key, "")) for side in SIDES)])
    lines = [markdown_table(("", *SIDES), rows)]
    if count := archive_parameters(archive):
        lines.append(f"Parameters: {count.total:,}, of them {count.without_embeddings:,} outside embeddings.")
    lines.append(f"Size: {archive.path.stat().st_size:,} bytes. SHA-256: `{fingerprint(archive.path)['sha256']}`.")
    return "\n\n".join(lines)


def _distillation(made: Mapping[str, Any]) -> Iterator[str]:
    teachers = made.get("teachers") or []
    rows = [[str(teacher.get("name")), f"`{teacher.get('sha256')}`"] for teacher in teachers]
    if rows:
        yield markdown_table(("teacher", "SHA-256"), rows)
    yield _as_yaml({key: value for key, value in made.items() if key != "teachers"})


def _evaluation(path: Path, sha256: str) -> Iterator[str]:
    record = read_json(path, EvaluationRecord)
    if record is None:
        raise ValueError(f"evaluation={path}: there is no file '{path}'")
    # Signatures hold commands, and notes values of configs. Elsewhere a slash is no path's, as in `sentences/s`.
    shown = {**record, "test_sets": _without_folders(record["test_sets"])}
    shown["notes"] = _without_folders(record["notes"])
    systems = record["systems"]
    mine = [name for name, system in systems.items() if system["sha256"] == sha256]
    if not mine:
        raise ValueError(f"evaluation={path}: '{path}' does not include this model, whose SHA-256 is {sha256}")
    first = next(iter(systems))
    exports = [name for name, system in systems.items() if system["same_model_as"] in (first, *mine)]
    about = {one for name in mine for one in (name, systems[name]["group"])}
    of_seeds = {group for one in shown["test_sets"].values() for group in one["groups"]}
    seeded = of_seeds & {systems[name]["group"] for name in (*mine, *exports)}
    tables = ((table(shown), {first, *mine, *exports}), (group_table(shown), seeded), (difference_table(shown), about))
    for (columns, rows), names in tables:
        if kept := [row for row in rows if row[0] in names]:
            yield markdown_table(columns, kept)
    said = [line for line in findings(shown) if any(f": {one} " in line for one in about)]
    yield "\n".join(f"- {' '.join(line.split())}" for line in [*said, *notes(shown)])


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(
        _without_folders(value, FOLDERS_OF_VALUES), sort_keys=False, allow_unicode=True, width=math.inf
    )
    return f"```yaml\n{text}```"


def _without_folders(value: Any, folders: re.Pattern[str] = FOLDERS) -> Any:
    """Removes folder names from all strings, because cards are published and paths may be private."""
    if isinstance(value, Mapping):
        return {key: _without_folders(inner, folders) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner, folders) for inner in value]
    return folders.sub("", value) if isinstance(value, str) else value
