"""How to search: the same settings for every engine."""

from typing import Literal

from pydantic import Field

from nemo_distill.config.section import section


@section
class SearchSettings:
    """What to search for, and how hard.

    A hypothesis y of |y| tokens, its end included, is ranked by log p(y|x) / lp(|y|), where lp is, with alpha the
    `length_penalty`,

    - `wu`: ((6 + |y|) / 6) ** alpha, NeMo's: eq. 14 of Wu et al. 2016 (arXiv 1609.08144), which has 5 for 6, with the
      symbol that starts a sentence counted as well;
    - `power`: |y| ** alpha, fairseq's, Hugging Face's and CTranslate2's; with alpha 1, the mean of a token.
    """

    method: Literal["beam", "sample"] = "beam"
    """`beam`, or `sample`, which draws `n_best` hypotheses independently of each other."""
    beam_size: int = Field(default=4, ge=1)
    """Hypotheses that are followed; 1 is greedy search. Of no effect on samples."""
    n_best: int = Field(default=1, ge=1)
    """Hypotheses that are returned, at most `beam_size` of a beam."""
    length_penalty: float = Field(default=0.6, ge=0)
    """Alpha, at least 0; 0 ranks by the sum of log-probabilities."""
    length_penalty_form: Literal["wu", "power"] = "wu"
    """`wu` or `power`."""
    max_delta: int | None = Field(default=50, ge=0)
    """|y| is at most the source's tokens, two special symbols included (however many its tokenizer adds), and this
    many more; null: no limit but the model's own length. NeMo's `max_generation_delta`."""
    top_k: int = Field(default=0, ge=0)
    """Samples come from this many of the most probable tokens; 0 for all of them (Fan et al. 2018)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Samples come from the most probable tokens that together have this probability (Holtzman et al. 2020)."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits that samples are drawn from."""
    seed: int = 0
    """Of the samples; the same line gets the same samples again, whatever lines are beside it."""

    def problems(self) -> list[str]:
        """Returns a sentence if a beam is to return more than it follows."""
        if self.method != "beam" or self.n_best <= self.beam_size:
            return []
        return [f"n_best={self.n_best}: must be from 1 to beam_size, {self.beam_size}."]

    @property
    def follows_a_beam(self) -> bool:
        """True if the length penalty has a say in which hypotheses are found."""
        return self.method == "beam" and self.beam_size > 1

    def beyond_power(self, engine: str) -> list[str]:
        """Returns a sentence if an engine of this name, which ranks a beam by `power` alone, cannot follow."""
        if not self.follows_a_beam or self.length_penalty_form == "power" or not self.length_penalty:
            return []
        return [
            f"length_penalty_form={self.length_penalty_form}: {engine} ranks a beam by power alone; set it to "
            f"power, or length_penalty={self.length_penalty} to 0."
        ]

    def penalty(self, lengths):
        """Returns lp of `lengths`, a number or a tensor of numbers of tokens with the end included."""
        if self.length_penalty_form == "wu":
            return ((6 + lengths) / 6) ** self.length_penalty
        return lengths**self.length_penalty
