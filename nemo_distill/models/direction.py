"""Tells source and target that were swapped, by what a teacher makes of a few pairs."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf

from nemo_distill.console import console
from nemo_distill.models.scoring import PairScorer
from nemo_distill.text.files import as_list
from nemo_distill.text.lines import TextFiles

SAMPLED_PAIRS, OF_LINES = 32, 3200
# Nats a token by which the other direction must be likelier: a teacher that knows neither finds both alike.
LEAST_DIFFERENCE = 0.5


def warn_of_reversed_pairs(model: Any, trainer: Any, say: Callable[[str], None] = console.warning) -> None:
    """Prints a warning for each data section whose sources are the teacher's target language.

    Args:
        model: a `DistillationModelPT`; without a teacher that runs, nothing is told.
        trainer: of its processes, one does it.
        say: prints.
    """
    if not isinstance(model.teacher, MTEncDecModel) or not trainer.is_global_zero:
        return
    config = OmegaConf.to_container(model.student.cfg, resolve=True)
    for name in ("train_ds", "validation_ds", "test_ds"):
        warn_of_reversed_section(f"model.{name}", model.teacher, config.get(name) or {}, say)


def warn_of_reversed_section(
    where: str, teacher: Any, section: Mapping[str, Any], say: Callable[[str], None] = console.warning
) -> None:
    """Prints a warning if a data section's sources are the teacher's target language.

    Args:
        where: the section, for the sentence.
        teacher: an `MTEncDecModel`; with a multilingual one nothing is told.
        section: names the files by `src_file_name` and `tgt_file_name`.
        say: prints.
    """
    if teacher.multilingual:
        return
    if pairs := sampled_pairs(section):
        for warning in reversed_pairs(where, teacher, pairs):
            say(f"Warning: {warning}")


def sampled_pairs(section: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns some pairs from the beginning of a data section's first files; none of tarred data."""
    names = [as_list(section.get(f"{side}_file_name"))[:1] for side in ("src", "tgt")]
    if section.get("use_tarred_dataset") or not all(names):
        return []
    files = [TextFiles([Path(name).expanduser()]) for (name,) in names]
    lines = [pair for pair in islice(zip(*files), OF_LINES) if all(side.strip() for side in pair)]
    step = max(1, len(lines) // SAMPLED_PAIRS)
    chosen = lines[::step][:SAMPLED_PAIRS]
    return [(source.decode("utf-8", "replace"), target.decode("utf-8", "replace")) for source, target in chosen]


def reversed_pairs(where: str, teacher: Any, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns a sentence if a teacher finds the sources likelier as translations than the targets.

    Args:
        where: the data section, for the sentence.
        teacher: an `MTEncDecModel`.
        pairs: sources and targets.
    """
    scorer = PairScorer(teacher)
    sources, targets = zip(*pairs)
    forward, backward = (-statistics.mean(scorer.score(*sides)) for sides in ((sources, targets), (targets, sources)))
    if forward < backward + LEAST_DIFFERENCE:
        return []
    return [
        f"{where} seems to have source and target swapped: of {len(pairs)} pairs, the teacher's negative "
        f"log-likelihood of a target token is {forward:.2f}, and {backward:.2f} of a source token the other way round."
    ]
