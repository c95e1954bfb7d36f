"""The settings of a teacher cache."""

from typing import Literal

from pydantic import Field

from nemo_distill.config.section import section

Dtype = Literal["float16", "float32"]  # of log-probabilities


@section
class CacheSettings:
    """The settings of the stored records."""

    k: int | None = Field(default=64, ge=1)
    """Number of most probable words to store per token; null stores all."""
    dtype: Dtype = "float16"
    """The type of the stored log-probabilities."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """The precision in which the teacher computes. `auto`: as with `trainer.precision=auto`; a cache that was begun
    keeps what was chosen for it."""
    tokens_in_batch: int = Field(default=8192, ge=1)
    """Maximum number of source and target tokens per teacher batch, including padding."""
    shard_pairs: int = Field(default=50000, ge=1)
    """A shard ends after the batch with which it reaches this number of pairs."""
