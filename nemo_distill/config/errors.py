"""The errors that end a job with sentences for its user, and no stack trace."""

from collections.abc import Collection


class ConfigurationError(ValueError):
    """All that is wrong with a configuration.

    Args:
        problems: one sentence each; every one names the key or file, what it holds and what is allowed.
    """

    def __init__(self, problems: Collection[str]):
        self.problems = list(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            "\n".join([f"{count} in the configuration:", *(f"  - {problem}" for problem in self.problems)])
        )


class NotFiniteError(ArithmeticError):
    """NaN or infinity in weights, a loss or gradients; the sentence says where."""


class DataError(ValueError):
    """Text, or what was made of it, that cannot be used as it is; the sentence names the file."""
