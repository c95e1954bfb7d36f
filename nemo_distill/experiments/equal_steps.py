"""Gives all students of a comparison the same number of optimizer steps, whatever the data that they learn from.

With equal epochs, a student on a mix of corpora would be trained several times as long as its baseline.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_distill.config.overrides import CONF, parsed
from nemo_distill.demo_corpus import BYTES_PER_PAIR
from nemo_distill.experiments.comparison_section import ComparedCorpus, ComparisonConfig

STEPS, EPOCHS = "trainer.max_steps", "trainer.max_epochs"
INTERVAL, EVERY_EPOCHS = "trainer.val_check_interval", "trainer.check_val_every_n_epoch"
ACCUMULATED, TOKENS = "trainer.accumulate_grad_batches", "model.train_ds.tokens_in_batch"
WARMUP = "model.optim.sched.warmup_steps"
LENGTH = (STEPS, EPOCHS, INTERVAL, EVERY_EPOCHS)
COMPARED = (STEPS, EPOCHS, ACCUMULATED, TOKENS)  # students that differ in these have not been trained alike
DEVICES, NODES = "trainer.devices", "trainer.num_nodes"
KEYS = (*LENGTH, ACCUMULATED, TOKENS, WARMUP, DEVICES, NODES)
BYTES_PER_TOKEN = 4  # of text; roughly, for vocabularies of some thousand words
VALIDATIONS, LONGEST_INTERVAL = 10, 2000  # an interrupted training repeats what came after its last validation


def length_problems(config: ComparisonConfig) -> Iterator[str]:
    """Yields a sentence for each override that is no length of a training, or that contradicts `steps`."""
    given = {"overrides": config.overrides, "students": config.students}
    given |= {f"baselines.{name}": own for name, own in config.baselines.items()}
    given |= {f"methods.{name}": own for name, own in config.methods.items()}
    are_numbers = True
    for key, overrides in given.items():
        for name, value in _values(overrides).items():
            if name in COMPARED and (isinstance(value, bool) or not isinstance(value, int)):
                yield f"{key}: {name}={value}: must be a whole number."
                are_numbers = False
        if config.steps and isinstance(share := _explicit(overrides).get(INTERVAL), float):
            yield f"{key}: {INTERVAL}={share}: with steps={config.steps}, it must be a whole number of batches."
    if not are_numbers:
        return
    for name, value in _explicit(config.students).items():
        if config.steps and name in (STEPS, EPOCHS) and value != -1:
            yield f"steps={config.steps} and {name}={value} in students both say how many; give one."
    shared = _shared(config)
    if config.steps or shared[STEPS] > 0:
        return
    if shared[EPOCHS] == -1:
        yield "steps has no value, and students have neither trainer.max_steps nor trainer.max_epochs; give steps."
    if not isinstance(shared[DEVICES], int) or shared[DEVICES] < 1:
        yield f"trainer.devices={shared[DEVICES]}: not known in number, so epochs are no length; give steps."


def common_steps(config: ComparisonConfig) -> int:
    """Returns the optimizer steps of every student that has no length of its own.

    Without `steps`, they are what `students` and `overrides` say. Epochs are then passes over the training text, whose
    tokens are estimated.
    """
    shared = _shared(config)
    if steps := config.steps or max(0, shared[STEPS]):
        return steps
    tokens = shared[EPOCHS] * _text_bytes(config.corpus) / BYTES_PER_TOKEN
    of_step = shared[TOKENS] * shared[ACCUMULATED] * shared[DEVICES] * shared[NODES]
    return max(1, round(tokens / of_step))


def other_lengths(config: ComparisonConfig) -> dict[str, dict[str, Any]]:
    """Returns the baselines and methods that are trained for another length, and the values that set it."""
    common = _shared(config) | {STEPS: common_steps(config), EPOCHS: -1}
    found = {
        group: {key: value for key, value in _values(own).items() if key in COMPARED and value != common[key]}
        for group, own in {**config.baselines, **config.methods}.items()
    }
    return {group: values for group, values in found.items() if values}


def with_length(config: ComparisonConfig, shared: Sequence[str], own: Sequence[str]) -> list[str]:
    """Returns the overrides of a student's training: the shared ones, the length of the training, and its own.

    Args:
        config: the comparison.
        shared: the overrides of all students.
        own: the overrides of this one. Steps or epochs in them replace the common steps.
    """
    length = [f"++{key}={'null' if value is None else value}" for key, value in _length(config, own).items()]
    kept = [[one for one in overrides if parsed(one)[0] not in LENGTH] for overrides in (shared, own)]
    return [*kept[0], *length, *kept[1]]


def _length(config: ComparisonConfig, own: Sequence[str]) -> dict[str, Any]:
    """Returns `LENGTH` for a student, and the warm-up if its schedule has one for another number of steps."""
    shared, mine = _shared(config), _values(own)
    own_steps, own_epochs = mine.get(STEPS, -1), mine.get(EPOCHS, -1)
    steps = own_steps if own_steps > 0 or own_epochs > 0 else common_steps(config)
    length = {STEPS: steps, EPOCHS: own_epochs, EVERY_EPOCHS: mine.get(EVERY_EPOCHS)}
    if steps < 0:
        length[EVERY_EPOCHS] = length[EVERY_EPOCHS] or shared[EVERY_EPOCHS] or 1
    in_epochs = length[EVERY_EPOCHS] is not None
    length[INTERVAL] = mine.get(
        INTERVAL, 1.0 if in_epochs else _interval(config, steps * (shared | mine)[ACCUMULATED])
    )
    scheduled = _scheduled([*config.overrides, *config.students, *own])
    if steps > 0 and WARMUP in scheduled and WARMUP not in _explicit([*config.overrides, *config.students, *own]):
        length[WARMUP] = max(1, round(scheduled[WARMUP] * steps / scheduled[STEPS]))
    return length


def _interval(config: ComparisonConfig, batches: int) -> int:
    """Returns the batches between validations: as many as asked for, or as asked for in epochs, or a tenth."""
    shared = _shared(config)
    given = shared.get(INTERVAL, 1.0)
    if isinstance(given, int):
        return min(given, batches)
    if config.steps or shared[STEPS] > 0:
        return max(1, min(batches // VALIDATIONS, LONGEST_INTERVAL))
    return max(1, round(batches * (shared[EVERY_EPOCHS] or 1) * given / shared[EPOCHS]))


def _text_bytes(corpus: ComparedCorpus) -> int:
    """Returns the size of the training text, both sides together."""
    if corpus.generate:  # it need not be there yet
        return corpus.generate.train * BYTES_PER_PAIR
    return sum((Path(corpus.folder) / f"train.{side}").stat().st_size for side in (corpus.source, corpus.target))


def _shared(config: ComparisonConfig) -> dict[str, Any]:
    """Returns the values that all students share: the defaults of `train`, and what replaces them."""
    defaults = _selected(CONF / "aayn_base.yaml")
    return {
        STEPS: -1,
        ACCUMULATED: 1,
        DEVICES: 1,
        NODES: 1,
        **defaults,
        **_values([*config.overrides, *config.students]),
    }


def _values(overrides: Sequence[str]) -> dict[str, Any]:
    return {**_scheduled(overrides), **_explicit(overrides)}


def _scheduled(overrides: Sequence[str]) -> dict[str, Any]:
    """Returns what `schedule=...` among the overrides sets."""
    name = dict(map(parsed, overrides)).get("schedule")
    file = CONF / "schedule" / f"{name}.yaml"
    return _selected(file) if file.is_file() else {}


def _explicit(overrides: Sequence[str]) -> dict[str, Any]:
    found = {key: value for key, value in map(parsed, overrides) if key in KEYS}
    return {key: -1 if value is None and key in (STEPS, EPOCHS) else value for key, value in found.items()}


@cache
def _selected(file: Path) -> dict[str, Any]:
    config = OmegaConf.load(file)
    found = {key: OmegaConf.select(config, key) for key in KEYS}
    return {key: value for key, value in found.items() if value is not None}
