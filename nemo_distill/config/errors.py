"""The errors that end a job with a message for the user and without a stack trace."""

from collections.abc import Collection


class ConfigurationError(ValueError):
    """All problems of a configuration.

    Args:
        problems: one sentence each. It names the key or file, the value and the allowed values.
    """

    def __init__(self, problems: Collection[str]):
        self.problems = list(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(
            "\n".join([f"{count} in the configuration:", *(f"  - {problem}" for problem in self.problems)])
        )


class NotFiniteError(ArithmeticError):
    """NaN or infinity in weights, a loss, gradients or scores. The message says where."""


class DataError(ValueError):
    """Text, or data made from it, that cannot be used. The message names the file."""
