"""The bill before the work: students of a teacher with their sizes, speeds and costs, in a table."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from omegaconf import DictConfig

from nemo_distill.commands.recipe import RecipeConfigs, check_recipe
from nemo_distill.commands.recipe_bill import Cost
from nemo_distill.commands.sizing import Sizing, SizingConfig, Student
from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.console import console, markdown_table, print_table
from nemo_distill.evaluation.shape_speed import MeasuredShape
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.evaluation.student_sizes import NAMES, WIDTHS
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.storage.files import write_json, write_text
from nemo_distill.storage.made_with import made_with


def check_sizing(cfg: DictConfig) -> SizingConfig:
    """Returns the configuration, after checking it, the teacher and the configurations of the recipe's jobs.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(SizingConfig, cfg)
    if config.recipe.source is None:
        return config
    configs = RecipeConfigs(config.recipe, config.teacher, config.shared())
    if problems := check_recipe(configs, next(iter(NAMES)), config.output_dir / "none"):
        raise ConfigurationError(problems)
    return config


def run_sizing(config: SizingConfig) -> list[Student]:
    """Prints and returns the students that meet the target. Writes them to `sizes.json` and `sizes.md`."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    sizing = Sizing(config)
    count = sizing.teacher
    console.info(f"The teacher has {count.total:,} parameters, {count.without_embeddings:,} without embeddings.")
    for reason in sizing.untimed:
        console.info(f"Speeds are not measured: {reason}")
    students = sizing.students()
    if not students:
        console.info(told := _nothing(sizing))
        _write(sizing, students, told)
        return []
    tables = _tables(sizing, students)
    for title, columns, rows in tables:
        print_table(columns, rows, title)
    _print_notes(sizing, students[0])
    _write(sizing, students, *(f"## {title}\n\n{markdown_table(columns, rows)}" for title, columns, rows in tables))
    return students


Table = tuple[str, list[str], list[list[str]]]


def _tables(sizing: Sizing, students: Sequence[Student]) -> list[Table]:
    """Returns the title, the columns and the rows of each table."""
    rows = [_row(sizing, student) for student in students]
    first = {
        "student": "teacher",
        "layers": "x".join(str(sizing.archive.config[side].num_layers) for side in SIDES),
        "width": str(sizing.archive.config.encoder.hidden_size),
        "parameters": f"{sizing.teacher.total:,}",
        "without embeddings": f"{sizing.teacher.without_embeddings:,}",
        **_speed_cells(sizing, sizing.teacher_speed),
    }
    columns = [column for column in rows[0] if any(row.get(column) for row in rows)]
    cells = [[row.get(column, "") for column in columns] for row in (first, *rows)]
    tables = [("Students that meet the target", columns, cells)]
    costs = zip(("labels", "teacher cache"), sizing.shared_costs.values())
    if shared := [[name, _hours(cost), _size(cost.bytes)] for name, cost in costs if cost.hours]:
        tables.append(("Once for all students", ["what", "hours", "on disk"], shared))
    return tables


def _row(sizing: Sizing, student: Student) -> dict[str, str]:
    candidate, training = student.candidate, student.training
    shape, count = candidate.shape, candidate.count
    speed, hours = candidate.tokens_per_second, sizing.hours(student)
    return {
        "student": student.name,
        "layers": f"{shape.encoder_layers}x{shape.decoder_layers}",
        "width": str(shape.width),
        "parameters": f"{count.total:,}",
        "without embeddings": f"{count.without_embeddings:,}",
        "bytes": f"{candidate.bytes:,}",
        "compression": f"{sizing.teacher.total / count.total:.1f}x",
        "tokens/s, at most": "" if speed is None else f"{speed:,.0f}",
        "MB in int8": f"{candidate.megabytes:.1f}",
        **_speed_cells(sizing, student.measured),
        "training, hours": _hours(training) if training and training.hours else "",
        "on disk": _size(training.bytes) if training and training.bytes else "",
        "all hours": "" if hours is None else f"{hours:.3g}",
    }


def _speed_cells(sizing: Sizing, measured: MeasuredShape | None) -> dict[str, str]:
    if measured is None:
        return {}
    least, most = (edge(measured.rates) for edge in (min, max))
    return {
        "MB in int8": f"{measured.megabytes:.1f}",
        "sentences/s": f"{measured.sentences_per_second:.3g} ({least:.3g}-{most:.3g})",
        "ms alone": f"{measured.milliseconds:.3g}",
        "faster": f"{sizing.faster(measured):.1f}x",
    }


def _hours(cost: Cost) -> str:
    return f"{cost.hours:.3g} ({cost.least:.3g}-{cost.most:.3g})"


def _size(number: float) -> str:
    return f"{number / MEGABYTE:,.0f} MB" if number < 1e10 else f"{number / 1e9:,.0f} GB"


def _print_notes(sizing: Sizing, largest: Student) -> None:
    target = sizing.target
    console.info(f"Bytes are those of the weights in {target.dtype}; a .nemo holds tokenizers and positions as well.")
    if target.teacher_tokens_per_second is not None:
        console.info("Tokens a second are the teacher's times its multiplications over the student's; measure them.")
    if not sizing.untimed:
        console.info(
            "Speeds are those of random weights in CTranslate2 int8 on this machine, in brackets the slowest and the "
            "fastest round; 'faster' compares them with a model of the teacher's shape."
        )
    if sizing.bill:
        console.info(
            "Hours are those of one process on this machine, in brackets by the fastest and the slowest repeat of a "
            "probe; validation comes on top."
        )
    overrides = [*largest.candidate.shape.overrides(), f"model.shared_embeddings={str(sizing.shared).lower()}"]
    console.info(f"The first is trained by\n  nemo-distill distill {' '.join(overrides)}")


def _nothing(sizing: Sizing) -> str:
    """Why there is no student."""
    if not sizing.smaller:
        return f"No student of the grid is smaller than this teacher; its least width is {WIDTHS[0]}."
    least = sizing.smaller[-1]
    return (
        f"No student of the grid meets the target. The smallest has {least.count.total:,} parameters, "
        f"{least.count.embeddings:,} of them in embeddings: a smaller vocabulary makes smaller students."
    )


def _write(sizing: Sizing, students: Sequence[Student], *parts: str) -> None:
    """Writes the result, as JSON and as Markdown of these parts."""
    config, made = sizing.config, made_with(sizing.config.device, torch.get_num_threads())
    found = [
        asdict(student)
        | {"name": student.name, "faster": sizing.faster(student.measured), "hours": sizing.hours(student)}
        for student in students
    ]
    record: dict[str, Any] = {
        "made_with": made,
        "teacher": {"name": config.teacher.name, "parameters": sizing.teacher.total},
        "teacher_speed": sizing.teacher_speed and asdict(sizing.teacher_speed),
        "target": asdict(config.target),
        **{"labelling": None, "caching": None},
        **{name: asdict(cost) for name, cost in sizing.shared_costs.items()},
        "students": found,
    }
    write_json(config.output_dir / "sizes.json", record)
    made_on = f"{made['date'][:10]}, {made['device']}, {made['threads']} threads."
    write_text(config.output_dir / "sizes.md", "\n\n".join((*parts, made_on)) + "\n")


def main(cfg: DictConfig) -> None:
    config = checked(cfg, check_sizing)
    with plain_errors(goes_on=True):
        run_sizing(config)
