"""Generates the German-English demo corpus from a grammar."""

from nemo_distill.demo_corpus.corpus import write_demo_corpus

__all__ = ["write_demo_corpus"]
