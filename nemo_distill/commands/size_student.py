"""Lists students that can be trained, given a teacher and a target size or speed."""

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.section import read_config, rule, section
from nemo_distill.console import console, print_table
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters
from nemo_distill.evaluation.student_sizes import WIDTHS, Candidate, SizeTarget, candidates, meets
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.translation_archive import (
    SIDES,
    TeacherPath,
    archived_vocabulary,
    teacher_archive,
)

COLUMNS = ("layers", "width", "parameters", "without embeddings", "bytes", "compression")


@section
class SizingConfig:
    """The configuration of `size`."""

    teacher: TeacherPath
    """The `.nemo`, or the folder of a Hugging Face model, whose vocabulary the student has."""
    shared_embeddings: bool | None = None
    """The student's encoder and decoder share one matrix; null: as the teacher's do."""
    shown: int = Field(default=10, ge=1)
    """Students that are listed."""
    target: SizeTarget = Field(default_factory=SizeTarget)
    """What a student must keep to; at least one of the first three."""

    @rule
    def teacher_problems(self) -> list[str]:
        """Returns a sentence if the teacher's parameters cannot be counted."""
        try:
            _teacher_parameters(teacher_archive(self.teacher))
        except ValueError as error:
            return [f"teacher={self.teacher}: {error}."]
        return []


def _teacher_parameters(archive: NemoArchive) -> ParameterCount:
    if (count := archive_parameters(archive)) is None:
        raise ValueError("its config does not tell its parameters")
    return count


def check_sizing(cfg: DictConfig) -> None:
    """Checks the configuration and the teacher.

    Raises:
        ConfigurationError: with every problem found.
    """
    read_config(SizingConfig, cfg)


def run_sizing(config: SizingConfig) -> list[Candidate]:
    """Prints and returns the largest students that meet the target."""
    archive = teacher_archive(config.teacher)
    teacher, target = _teacher_parameters(archive), config.target
    vocabularies = (archived_vocabulary(archive, side) for side in SIDES)
    source, target_pieces = (len(vocabulary.pieces) for vocabulary in vocabularies if vocabulary)
    shared = config.shared_embeddings
    if shared is None:
        shared = bool(archive.config.get("shared_embeddings", False))
    smaller = candidates(teacher, (source, target_pieces), shared, target)
    found = [candidate for candidate in smaller if meets(candidate, target)][: config.shown]
    console.info(f"The teacher has {teacher.total:,} parameters, {teacher.without_embeddings:,} without embeddings.")
    if found:
        _print(found, teacher, target, shared)
    else:
        _print_nothing(smaller)
    return found


def _print(found: list[Candidate], teacher: ParameterCount, target: SizeTarget, shared: bool) -> None:
    estimated = target.teacher_tokens_per_second is not None
    columns = (*COLUMNS, "tokens/s, at most") if estimated else COLUMNS
    print_table(columns, [_row(candidate, teacher) for candidate in found], "Students that meet the target")
    console.info(f"Bytes are those of the weights in {target.dtype}; a .nemo holds tokenizers and positions as well.")
    if estimated:
        console.info("Tokens a second are the teacher's times its multiplications over the student's; measure them.")
    overrides = [*found[0].shape.overrides(), f"model.shared_embeddings={str(shared).lower()}"]
    console.info(f"The first is trained by\n  nemo-distill distill {' '.join(overrides)}")


def _row(candidate: Candidate, teacher: ParameterCount) -> list[str]:
    shape, count = candidate.shape, candidate.count
    speed = [] if candidate.tokens_per_second is None else [f"{candidate.tokens_per_second:,.0f}"]
    return [
        f"{shape.encoder_layers}x{shape.decoder_layers}",
        str(shape.width),
        f"{count.total:,}",
        f"{count.without_embeddings:,}",
        f"{candidate.bytes:,}",
        f"{teacher.total / count.total:.1f}x",
        *speed,
    ]


def _print_nothing(smaller: list[Candidate]) -> None:
    if not smaller:
        console.info(f"No student of the grid is smaller than this teacher; its least width is {WIDTHS[0]}.")
        return
    least = smaller[-1]
    console.info(
        f"No student of the grid meets the target. The smallest has {least.count.total:,} parameters, "
        f"{least.count.embeddings:,} of them in embeddings: a smaller vocabulary makes smaller students."
    )


def main(cfg: DictConfig) -> None:
    check(cfg, check_sizing)
    with plain_errors():
        run_sizing(read_config(SizingConfig, cfg))
