"""The settings of a profile of failures."""

from typing import Literal, get_args

from pydantic import Field

from nemo_distill.config.section import rule, section
from nemo_distill.failures.robustness import Noise
from nemo_distill.text.files import unreadable_files
from nemo_distill.text.languages import code_problems

KindName = Literal[
    "numbers", "dates", "addresses", "tags", "garbled", "made_up_words", "loops", "empty", "cut", "too_short",
    "too_long", "copied", "untranslated", "wrong_language", "negation", "memorised", "copied_span",
    "full_stop", "lower_case", "typing_error",
]  # fmt: skip
KIND_NAMES: tuple[KindName, ...] = get_args(KindName)


@section
class FailureSettings:
    """Which failures are counted, and from when on something is one."""

    kinds: list[KindName] | None = Field(default=None, min_length=1)
    """The kinds that are counted; null: all."""
    source_language: str | None = None
    """Such as `de`; null: found in the sources of each test set."""
    target_language: str | None = None
    """Such as `en`; null: found in the references of each test set."""
    training_source: list[str] = Field(default_factory=list)
    """Files of the training text, plain or packed, `*` allowed, for `made_up_words` and `untranslated`."""
    training_target: list[str] = Field(default_factory=list)
    """The same of the target side, also for `memorised` and `copied_span`."""
    word_lists: list[str] = Field(default_factory=list)
    """Files of further words that are not made up, such as a dictionary, if the training text is small."""
    repeats: int = Field(default=2, ge=1)
    """`loops`: a word may be said this often in a row, a group of words once less, unless the source repeats more."""
    shortest: float = Field(default=0.6, gt=0, lt=1)
    """`too_short`: least share of the expected length. `cut`: half as far from 1, and no punctuation at the end."""
    longest: float = Field(default=1.6, gt=1)
    """`too_long`: largest share of the expected length."""
    language_probability: float = Field(default=0.9, ge=0.5, le=1)
    """`wrong_language`: least probability that the language is another one."""
    memorised_words: int = Field(default=8, ge=1)
    """`memorised`: fewest words of a sentence that equals one of the training text."""
    span_words: int = Field(default=12, ge=2)
    """`copied_span`: words in a row that stand in a sentence of the training text."""
    noise: list[Noise] = Field(default_factory=list)
    """Noised copies of each test set that every system translates too; each costs as much as the test set."""
    noise_seed: int = 0
    """The noised copies are made from this seed."""
    noise_drop: float = Field(default=30, gt=0, le=100)
    """A noised sentence fails if its translation loses this many points of chrF."""

    @rule
    def files(self) -> list[str]:
        """Returns a sentence for each file that is not there, or is no text. A list of words may be a table."""
        named = {key: getattr(self, key) for key in ("training_source", "training_target", "word_lists")}
        return [
            f"{key} {problem}."
            for key, names in named.items()
            for problem in unreadable_files(names, is_text=key != "word_lists")
        ]

    @rule
    def unknown_languages(self) -> list[str]:
        """Returns a sentence for each language whose code is not one."""
        return [
            problem
            for key in ("source_language", "target_language")
            for problem in code_problems(key, getattr(self, key))
        ]

    @rule
    def noise_without_effect(self) -> list[str]:
        """Returns a sentence for each kind of noise whose failures are not counted."""
        return [
            f"noise names {kind}, but kinds does not; leave it out, or add it to kinds."
            for kind in self.noise
            if kind not in (self.kinds or KIND_NAMES)
        ]

    @rule
    def words_without_effect(self) -> list[str]:
        """Returns a sentence for each key that has no effect without the training text."""
        return [
            f"{key}={getattr(self, key)}: has no effect without training_target; give it too."
            for key in ("training_source", "word_lists")
            if getattr(self, key) and not self.training_target
        ]
