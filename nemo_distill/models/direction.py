"""Detects swapped source and target files by the teacher's scores on a few pairs."""

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

SAMPLED_PAIRS, SAMPLED_FROM = 32, 3200
# In nats per token. A teacher that knows neither language scores both directions about the same.
MIN_DIFFERENCE = 0.5


def warn_of_reversed_pairs(model: Any, trainer: Any, say: Callable[[str], None] = console.warning) -> None:
    """Prints a warning for each data section whose source and target files seem to be swapped.

    Args:
        model: a `DistillationModelPT`. Nothing is checked if it runs no teacher.
        trainer: its trainer. Only the first process checks.
        say: prints the warning.
    """
    if not isinstance(model.teacher, MTEncDecModel) or not trainer.is_global_zero:
        return
    config = OmegaConf.to_container(model.student.cfg, resolve=True)
    for name in ("train_ds", "validation_ds", "test_ds"):
        warn_of_reversed_section(f"model.{name}", model.teacher, config.get(name) or {}, say)


def warn_of_reversed_section(
    where: str, teacher: Any, section: Mapping[str, Any], say: Callable[[str], None] = console.warning
) -> None:
    """Prints a warning if the source and target files of a data section seem to be swapped.

    Args:
        where: the key of the section, for the message.
        teacher: an `MTEncDecModel`. Multilingual teachers are not checked.
        section: names the files in `src_file_name` and `tgt_file_name`.
        say: prints the warning.
    """
    if teacher.multilingual:
        return
    if pairs := sampled_pairs(section):
        for warning in reversed_pairs(where, teacher, pairs):
            say(f"Warning: {warning}")


def sampled_pairs(section: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns some pairs from the start of a data section's first files; none if the data is tarred."""
    names = [as_list(section.get(f"{side}_file_name"))[:1] for side in ("src", "tgt")]
    if section.get("use_tarred_dataset") or not all(names):
        return []
    files = [TextFiles([Path(name).expanduser()]) for (name,) in names]
    lines = [pair for pair in islice(zip(*files), SAMPLED_FROM) if all(side.strip() for side in pair)]
    step = max(1, len(lines) // SAMPLED_PAIRS)
    chosen = lines[::step][:SAMPLED_PAIRS]
    return [(source.decode("utf-8", "replace"), target.decode("utf-8", "replace")) for source, target in chosen]


def reversed_pairs(where: str, teacher: Any, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Returns a sentence if the teacher finds the pairs more likely with source and target swapped.

    Args:
        where: the key of the data section, for the message.
        teacher: an `MTEncDecModel`.
        pairs: pairs of source and target sentence.
    """
    scorer = PairScorer(teacher)
    sources, targets = zip(*pairs)
    forward, backward = (-statistics.mean(scorer.score(*sides)) for sides in ((sources, targets), (targets, sources)))
    if forward < backward + MIN_DIFFERENCE:
        return []
    return [
        f"{where} seems to have source and target swapped: on {len(pairs)} pairs, the teacher's mean negative "
        f"log-likelihood per token is {forward:.2f} for the targets, but {backward:.2f} in the other direction."
    ]
