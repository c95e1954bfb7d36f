"""Generates the German-English demo corpus from a grammar."""

from nemo_distill.demo_corpus.corpus import BYTES_PER_PAIR, write_demo_corpus

__all__ = ["BYTES_PER_PAIR", "write_demo_corpus"]
