"""A teacher's translations as training text, in two steps.

First `generate` writes shards of hypotheses (`shards`), which come from an engine of `decoding`, from files
(`text_teacher`) or from a server (`api_teacher`, `api_journal`). Then `assemble` writes text: for each line, `judge`
selects labels (`selection`, by `similarity` or `quality`) and applies `filters`; `corpus_filters` compare all pairs.
"""
