"""How to search: the same settings for every engine."""

from dataclasses import dataclass

LENGTH_PENALTIES = ("wu", "power")
METHODS = ("beam", "sample")


@dataclass(frozen=True)
class SearchSettings:
    """What to search for, and how hard.

    A hypothesis y of |y| tokens, its end included, is ranked by log p(y|x) / lp(|y|), where lp is, with alpha the
    `length_penalty`,

    - `wu`: ((6 + |y|) / 6) ** alpha, NeMo's: eq. 14 of Wu et al. 2016 (arXiv 1609.08144), which has 5 for 6, with the
      symbol that starts a sentence counted as well;
    - `power`: |y| ** alpha, fairseq's, Hugging Face's and CTranslate2's; with alpha 1, the mean of a token.

    Args:
        method: `beam`, or `sample`, which draws `n_best` hypotheses independently of each other.
        beam_size: hypotheses that are followed; 1 is greedy search. Of no effect on samples.
        n_best: hypotheses that are returned, at most `beam_size` of a beam.
        length_penalty: alpha, at least 0; 0 ranks by the sum of log-probabilities.
        length_penalty_form: `wu` or `power`.
        max_delta: |y| is at most the source's tokens, two special symbols included (however many its tokenizer adds),
            and this many more; None for no limit but the model's own length. NeMo's `max_generation_delta`.
        top_k: samples come from this many of the most probable tokens; 0 for all of them (Fan et al. 2018).
        top_p: samples come from the most probable tokens that together have this probability (Holtzman et al. 2020).
        temperature: divides the logits that samples are drawn from.
        seed: of the samples; the same line gets the same samples again, whatever lines are beside it.
    """

    method: str = "beam"
    beam_size: int = 4
    n_best: int = 1
    length_penalty: float = 0.6
    length_penalty_form: str = "wu"
    max_delta: int | None = 50
    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0
    seed: int = 0

    def problems(self) -> list[str]:
        """Returns a sentence for each setting that no engine could follow."""
        found = []

        def demand(holds: bool, key: str, allowed: str) -> None:
            if not holds:
                found.append(f"{key}={getattr(self, key)}: must be {allowed}.")

        demand(self.method in METHODS, "method", "one of " + ", ".join(METHODS))
        demand(
            self.length_penalty_form in LENGTH_PENALTIES,
            "length_penalty_form",
            f"one of {', '.join(LENGTH_PENALTIES)}",
        )
        demand(self.beam_size >= 1, "beam_size", "at least 1")
        most = f"from 1 to beam_size, {self.beam_size}" if self.method == "beam" else "at least 1"
        demand(self.n_best >= 1 and (self.method != "beam" or self.n_best <= self.beam_size), "n_best", most)
        demand(self.length_penalty >= 0, "length_penalty", "at least 0")
        demand(self.max_delta is None or self.max_delta >= 0, "max_delta", "null or at least 0")
        demand(self.top_k >= 0, "top_k", "at least 0")
        demand(0 < self.top_p <= 1, "top_p", "above 0 and at most 1")
        demand(self.temperature > 0, "temperature", "above 0")
        return found

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
