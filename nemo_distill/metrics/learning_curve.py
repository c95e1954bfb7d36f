"""Predicts what more text or more steps would bring, by a power law through the measured scores.

The curve is y = a - b x^-c, with b >= 0. The distance to the limit a is a power of the amount x of text or steps
(Hestness et al. 2017, arXiv 1712.00409; for translation, Gordon et al. 2021). It is fitted by least squares.

The interval is a parametric bootstrap with normal noise. Few residuals leave the scale of the noise uncertain, so it
is drawn too, as in Student's t. The interval accounts for noise in the points. It does not account for curves that
follow no power law beyond them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nemo_distill.metrics.significance import SEED, TAILS

FITTED = 3  # numbers: a, b and c
LEAST_POINTS, LEAST_SPAN = 5, 4.0  # fewer or closer ones do not tell one curve from another
RESAMPLES = 1_000
MORE_STEPS, MORE_TEXT = 4, 10  # what is predicted: four times the steps, ten times the text
RECENT = 5  # a training curve is fitted from a fifth of its steps on, because the first steps follow no power law
# With at least TESTED_POINTS points, the law is refused if the variance of its errors is more than MOST_LACK times
# that of the noise, which is estimated from second differences (von Neumann 1941). Of curves that follow the law, a
# few percent are refused.
TESTED_POINTS, MOST_LACK = 8, 3.0
EXACTNESS = 3e-3  # of the range of the scores; the fit is no more exact than its grid
EXPONENTS = np.geomspace(0.02, 4, 200)  # c; the first is nearly a logarithm


@dataclass(frozen=True)
class Growth:
    """The predicted gain of a multiple of the largest amount.

    Args:
        amount: the largest amount that was measured.
        now: the curve's score there.
        gain: what the multiple brings.
        low: the lower limit of the gain, with 95 % confidence.
        high: the upper limit.
    """

    amount: float
    now: float
    gain: float
    low: float
    high: float


def growth_problem(points: Sequence[tuple[float, float]]) -> str | None:
    """Returns the reason why no gain can be predicted; None if it can.

    Args:
        points: amounts and scores.
    """
    if not all(math.isfinite(score) for _, score in points):
        return "some scores are not finite numbers"
    amounts = sorted({amount for amount, _ in points if amount > 0})
    if len(amounts) < LEAST_POINTS:
        return f"{len(amounts)} amounts were measured; a curve needs {LEAST_POINTS}"
    if (span := amounts[-1] / amounts[0]) < LEAST_SPAN:
        return f"the largest amount is only {span:.1f} times the smallest; a curve needs {LEAST_SPAN:g} times"
    if len(points) >= TESTED_POINTS and _lack_of_fit(points) > MOST_LACK:
        return "the scores do not follow a power law; those of more steps may"
    return None


def _lack_of_fit(points: Sequence[tuple[float, float]]) -> float:
    """Returns the variance of a curve's errors, divided by that of the noise."""
    amounts, scores = _sides(points)
    (fitted,), _, _ = _fit(amounts / amounts.max(), scores[None], 1)
    errors = scores - fitted
    noise = max((np.diff(errors, 2) ** 2).mean() / 6, (EXACTNESS * np.ptp(scores)) ** 2)
    return float((errors**2).sum() / (len(errors) - FITTED) / noise) if noise else 0.0


def _sides(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    amounts, scores = zip(*sorted(point for point in points if point[0] > 0))
    return np.array(amounts, dtype=float), np.array(scores, dtype=float)


def steps_points(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points of a training curve that are fitted: steps and scores."""
    last = max((step for step, _ in curve), default=0)
    return [(step, value) for step, value in curve if step * RECENT >= last]


def growth(points: Sequence[tuple[float, float]], factor: float) -> Growth:
    """Returns what `factor` times the largest amount would bring.

    Args:
        points: amounts and scores, where more is better; several scores of one amount are those of seeds.
        factor: how many times the largest amount.

    Raises:
        ValueError: if no gain can be predicted; see `growth_problem`.
    """
    if problem := growth_problem(points):
        raise ValueError(problem)
    amounts, scores = _sides(points)
    relative = amounts / amounts.max()
    (fitted,), (now,), (gain,) = _fit(relative, scores[None], factor)
    generator = np.random.default_rng(SEED)
    scale = np.sqrt(((scores - fitted) ** 2).sum() / generator.chisquare(len(scores) - FITTED, (RESAMPLES, 1)))
    _, _, gains = _fit(relative, fitted + scale * generator.standard_normal((RESAMPLES, len(scores))), factor)
    low, high = np.percentile(gains, TAILS)
    return Growth(float(amounts.max()), float(now), float(gain), float(low), float(high))


def _fit(relative: np.ndarray, scores: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits each row of scores (B, N) at the amounts (N,), of which the largest is 1.

    Returns:
        The curves' scores at the amounts (B, N), at 1 (B,), and what `factor` would add to the latter (B,).
    """
    best = np.full(len(scores), np.inf)
    fitted, now, gain = np.zeros_like(scores), np.zeros(len(scores)), np.zeros(len(scores))
    for exponent in EXPONENTS:
        powers = relative**-exponent
        centred = powers - powers.mean()
        slopes = np.maximum(-(scores @ centred) / (centred @ centred), 0)  # b, by least squares
        limits = scores.mean(axis=1) + slopes * powers.mean()  # a
        curves = limits[:, None] - slopes[:, None] * powers
        errors = ((scores - curves) ** 2).sum(axis=1)
        better = errors < best
        best[better], fitted[better] = errors[better], curves[better]
        now[better], gain[better] = (limits - slopes)[better], (slopes * (1 - factor**-exponent))[better]
    return fitted, now, gain
