"""Lists students that can be trained, given a teacher and a target size or speed."""

from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters
from nemo_distill.evaluation.student_sizes import WIDTHS, Candidate, SizeTarget, candidates, meets
from nemo_distill.evaluation.tables import print_table
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.translation_archive import SIDES, archived_vocabulary, translation_archive

COLUMNS = ("layers", "width", "parameters", "without embeddings", "bytes", "compression")


def check_sizing(cfg: DictConfig) -> None:
    """Checks the configuration and the teacher.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = check_missing(cfg)
    _, target_problems = read_section(SizeTarget, OmegaConf.to_container(cfg).get("target"), "target")
    problems += target_problems
    if not isinstance(cfg.shown, int) or cfg.shown < 1:
        problems.append(f"shown={cfg.shown}: must be a whole number of at least 1.")
    if cfg.shared_embeddings not in (None, True, False):
        problems.append(f"shared_embeddings={cfg.shared_embeddings}: must be null, true or false.")
    if not OmegaConf.is_missing(cfg, "teacher"):
        try:
            if archive_parameters(translation_archive(cfg.teacher)) is None:
                problems.append(f"teacher: the config of '{cfg.teacher}' does not tell its parameters.")
        except ValueError as error:
            problems.append(f"teacher: {error}.")
    if problems:
        raise ConfigurationError(problems)


def run_sizing(cfg: DictConfig) -> list[Candidate]:
    """Prints and returns the largest students that meet the target."""
    archive = NemoArchive(cfg.teacher)
    teacher = archive_parameters(archive)
    target = SizeTarget(**OmegaConf.to_container(cfg.target))
    source, target_pieces = (len(archived_vocabulary(archive, side).pieces) for side in SIDES)
    shared = cfg.shared_embeddings
    if shared is None:
        shared = bool(archive.config.get("shared_embeddings", False))
    smaller = candidates(teacher, (source, target_pieces), shared, target)
    found = [candidate for candidate in smaller if meets(candidate, target)][: cfg.shown]
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
        run_sizing(cfg)
