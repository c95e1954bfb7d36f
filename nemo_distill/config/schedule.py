"""Numbers that change during a training: loss weights and temperature."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nemo_distill.config.section import section


@section
class Schedule:
    """A number for each optimizer step: `start` at step 0, `end` from step `steps` on.

    `linear` changes it in a straight line, `cosine` along half a cosine wave, slowly at both ends (Loshchilov & Hutter
    2017, eq. 5). `constant` keeps it at `start`.
    """

    in_words: ClassVar[str] = "a schedule such as {schedule: linear, start: 1.0, end: 0.0, steps: 10000}"

    schedule: Literal["constant", "linear", "cosine"]
    """The form of the schedule from `start` to `end`."""
    start: float = Field(ge=0)
    """The number at step 0."""
    end: float | None = Field(default=None, ge=0)
    """The number at the end; null for a constant schedule."""
    steps: int | None = Field(default=None, ge=1)
    """The optimizer step at which `end` is reached; null for a constant schedule."""

    def problems(self) -> list[str]:
        """Returns a sentence for each key that is missing or not allowed for this form."""
        given = {"end": self.end, "steps": self.steps}
        if self.schedule == "constant":
            return [
                f"{key}={value}: a constant schedule has none; leave it out."
                for key, value in given.items()
                if value is not None
            ]
        return [
            f"{key} has no value; a {self.schedule} schedule needs it."
            for key, value in given.items()
            if value is None
        ]

    def at(self, step: int) -> float:
        """Returns the number at an optimizer step, counted from 0."""
        progress = min(1.0, step / self.steps) if self.steps else 1.0
        if self.schedule == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return (1 - progress) * self.start + progress * self.last  # this form is exact at both ends

    @property
    def last(self) -> float:
        """The final number."""
        return self.start if self.end is None else self.end

    @property
    def is_zero(self) -> bool:
        """True if the number is 0 at every step."""
        return self.start == 0 and self.last == 0


Weight = Annotated[float, Field(ge=0)] | Schedule


def as_schedule(value: float | Schedule) -> Schedule:
    """Returns a schedule unchanged, and a number as a constant schedule."""
    return value if isinstance(value, Schedule) else Schedule("constant", value)
