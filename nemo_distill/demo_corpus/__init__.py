"""The grammar that the demo's German-English corpus is generated from."""

from nemo_distill.demo_corpus.corpus import write_demo_corpus

__all__ = ["write_demo_corpus"]
