"""Numbers that change over a training: weights of losses and the temperature."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("constant", "linear", "cosine")
KEYS = {"schedule", "start", "end", "steps"}


@dataclass(frozen=True)
class Schedule:
    """A number for each optimizer step: `start` at step 0, `end` from step `steps` on.

    In between, `linear` goes in a straight line and `cosine` along half a cosine, slow at both ends (Loshchilov &
    Hutter 2017, eq. 5). `constant` stays at `start`.
    """

    start: float
    end: float
    steps: int = 0
    kind: str = "constant"

    def at(self, step: int) -> float:
        """Returns the number for an optimizer step, counted from 0."""
        progress = min(1.0, step / self.steps) if self.steps else 1.0
        if self.kind == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return (1 - progress) * self.start + progress * self.end  # which is exact at both ends

    @property
    def is_zero(self) -> bool:
        """True if the number is 0 at every step."""
        return self.start == 0 and self.end == 0


def parse_schedule(value: Any, key: str, minimum: float, above: bool = False) -> Schedule:
    """Reads a number, or a mapping such as `{schedule: linear, start: 1.0, end: 0.0, steps: 10000}`.

    Args:
        value: what the config holds.
        key: its name, for the message.
        minimum: the least that the number may be.
        above: it must even be greater.

    Raises:
        ValueError: in one sentence, if it is neither.
    """
    if not isinstance(value, Mapping):
        number = check_number(value, key, minimum, above)
        return Schedule(number, number)
    kind = value.get("schedule")
    if kind not in KINDS:
        raise ValueError(f"has {key}.schedule={kind!r}; allowed are {', '.join(KINDS)}")
    if unknown := set(value) - KEYS:
        first = min(map(str, unknown))
        raise ValueError(f"has {key} with the unknown key '{first}'; known are {', '.join(sorted(KEYS))}")
    start = check_number(value.get("start"), f"{key}.start", minimum, above)
    if kind == "constant":
        return Schedule(start, start)
    end = check_number(value.get("end"), f"{key}.end", minimum, above)
    steps = value.get("steps")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"has {key}.steps={steps!r}; a whole number of at least 1 is needed")
    return Schedule(start, end, steps, kind)


def check_number(value: Any, key: str, minimum: float, above: bool = False) -> float:
    """Returns `value` as a float.

    Raises:
        ValueError: if it is no finite number of at least `minimum` (with `above`: greater than it).
    """
    bound = f"{'above' if above else 'of at least'} {minimum}"
    number = _as_float(value)
    if not math.isfinite(number) or number < minimum or (above and number == minimum):
        raise ValueError(f"has {key}={value!r}; a number {bound} is needed")
    return number


def _as_float(value: Any) -> float:
    """NaN where it is no number; a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
