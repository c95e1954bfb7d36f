"""Whether a benchmark's ratios are what we aimed at."""

import operator
from collections.abc import Mapping

COMPARISONS = {"at most": operator.le, "at least": operator.ge}


def print_aims(ratios: Mapping[str, float], aims: Mapping[str, tuple[str, float]]) -> None:
    """Prints a line an aim: what was found, the limit, and whether it was met.

    Args:
        ratios: what was found, by name.
        aims: by the same names, "at most" or "at least" and the limit.
    """
    print()
    for name, (comparison, limit) in aims.items():
        met = "met" if COMPARISONS[comparison](ratios[name], limit) else "**not met**"
        print(f"- {name.replace('_', ' ')}: {ratios[name]:.2g} (aim: {comparison} {limit:g}): {met}")


def print_verdict(ratios: Mapping[str, float], aims: Mapping[str, tuple[str, float]], quick: bool) -> None:
    """Prints whether the aims were met, or after a quick run that it cannot tell.

    Args:
        ratios: what was found, by name.
        aims: as for `print_aims`.
        quick: the run was smaller than the one that the aims are for.
    """
    if quick:
        print("\nNo verdict: the aims are for the full run, whose ratios a quick run does not have.")
    else:
        print_aims(ratios, aims)
