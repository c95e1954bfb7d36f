"""Translates text with a restored model, with progress and without holding more than a batch on the device."""

from collections.abc import Sequence

from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from rich.progress import track


def translate_lines(
    model: MTEncDecModel, lines: Sequence[str], beam_size: int = 4, batch_size: int = 64, label: str = "translating"
) -> list[str]:
    """Returns the best translation of each line, in order.

    Args:
        model: in eval mode.
        lines: raw text; the model does its own pre- and post-processing.
        beam_size: 1 is greedy search.
        batch_size: sentences decoded together. Ignored above beam 1: NeMo's beam search mixes up the first position of
            the sentences of a batch, and is right only one sentence at a time.
        label: what the progress bar says.
    """
    model.beam_search.beam_size = beam_size
    step = batch_size if beam_size == 1 else 1
    by_length = sorted(range(len(lines)), key=lambda index: len(lines[index]))
    translations = [""] * len(lines)
    for start in track(range(0, len(lines), step), description=label, transient=True):
        batch = by_length[start : start + step]
        for index, translation in zip(batch, model.translate([lines[i] for i in batch])):
            translations[index] = translation
    return translations
