"""The search settings, which are the same for all engines."""

from dataclasses import asdict
from typing import Literal

from pydantic import Field

from nemo_distill.config.section import changed, rule, section


@section
class SearchSettings:
    """Search settings.

    A hypothesis y of |y| tokens, including its end, is ranked by log p(y|x) / lp(|y|). With alpha = `length_penalty`,
    lp is one of these:

    - `wu`: ((6 + |y|) / 6) ** alpha, as in NeMo. This is eq. 14 of Wu et al. 2016 (arXiv 1609.08144) with 6 instead
      of 5, because NeMo also counts the start symbol.
    - `power`: |y| ** alpha, as in fairseq, Hugging Face and CTranslate2. With alpha 1, it is the mean per token.
    """

    method: Literal["beam", "sample"] = "beam"
    """`beam`, or `sample`, which draws `n_best` independent hypotheses."""
    beam_size: int = Field(default=4, ge=1)
    """Number of hypotheses in the beam; 1 is greedy search. Ignored for samples."""
    n_best: int = Field(default=1, ge=1)
    """Number of hypotheses to return; for a beam at most `beam_size`."""
    length_penalty: float = Field(default=0.6, ge=0)
    """Alpha. With 0, hypotheses are ranked by the sum of log-probabilities."""
    length_penalty_form: Literal["wu", "power"] = "wu"
    """The form of the length penalty: `wu` or `power`."""
    max_delta: int | None = Field(default=50, ge=0)
    """Maximum of |y| minus the source length, which always includes two special symbols; null: only the model's own
    length limit. The same as NeMo's `max_generation_delta`."""
    allow_unknown: bool = False
    """Let the search generate the unknown word, which most tokenizers write as `⁇`, and ids without a piece."""
    top_k: int = Field(default=0, ge=0)
    """Samples are drawn from this many most probable tokens; 0: from all (Fan et al. 2018)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Samples are drawn from the most probable tokens with this total probability (Holtzman et al. 2020)."""
    epsilon: float = Field(default=0.0, ge=0, lt=1)
    """Samples are drawn from the tokens with at least this probability, and always from the most probable one: epsilon
    sampling (Hewitt et al. 2022); for minimum Bayes risk, 0.02 is usual (Freitag et al. 2023)."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits before samples are drawn."""
    seed: int = 0
    """Random seed of samples. The samples of a line do not depend on other lines."""

    def problems(self) -> list[str]:
        """Returns a sentence if `n_best` is greater than the beam."""
        if self.method != "beam" or self.n_best <= self.beam_size:
            return []
        return [f"n_best={self.n_best}: must be from 1 to beam_size={self.beam_size}."]

    @rule
    def sample_problems(self) -> list[str]:
        """Returns a sentence for each setting of samples that is given to a beam."""
        if self.method != "beam":
            return []
        return [
            f"{key}={value}: only samples are drawn by it; set method=sample."
            for key, value in changed(self, "top_k", "top_p", "epsilon", "temperature").items()
        ]

    @property
    def is_truncated(self) -> bool:
        """True if samples are drawn from a part of the tokens."""
        return bool(self.top_k or self.epsilon or self.top_p < 1)

    @property
    def is_beam_search(self) -> bool:
        """True if the length penalty affects which hypotheses are found."""
        return self.method == "beam" and self.beam_size > 1

    def power_form_problems(self, engine: str) -> list[str]:
        """Returns a sentence if an engine that supports only the `power` form cannot use these settings."""
        if not self.is_beam_search or self.length_penalty_form != "wu" or not self.length_penalty:
            return []
        return [
            f"length_penalty_form={self.length_penalty_form}: {engine} supports only power for a beam; set "
            f"length_penalty_form=power or length_penalty=0 instead of {self.length_penalty}."
        ]

    def penalty(self, lengths):
        """Returns lp of `lengths`, a number or a tensor. Lengths include the end of sentence."""
        if self.length_penalty_form == "wu":
            return ((6 + lengths) / 6) ** self.length_penalty
        return lengths**self.length_penalty


OF_POWER_FORM = ("ctranslate2", "hugging_face")  # the engines whose beam search knows no other form


@section
class AskedSearch(SearchSettings):
    """Search settings of a job that translates with one model."""

    length_penalty_form: Literal["wu", "power"] | None = None  # type: ignore[assignment]  # of what is asked for
    """The form of the length penalty: `wu`, NeMo's, or `power`; null: `wu`, but `power` for a beam of CTranslate2 and
    Hugging Face, which know no other."""

    def of(self, engine: str) -> SearchSettings:
        """Returns the settings that an engine is given."""
        has_penalty = self.is_beam_search and self.length_penalty
        form = "power" if has_penalty and engine in OF_POWER_FORM else "wu"
        return SearchSettings(**{**asdict(self), "length_penalty_form": self.length_penalty_form or form})
