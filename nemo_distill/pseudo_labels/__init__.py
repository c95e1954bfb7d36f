"""A teacher's translations as training text, in two steps.

First `generate` writes shards of hypotheses (`shards`). They come from what `teacher_section` names: an engine of
`decoding`, files (`text_teacher`) or a server (`api_teacher`, `api_settings`, `api_journal`). Then
`assemble` writes text: for each line, `judge` selects labels (`selection`, by `similarity` or `quality`) and applies
`filters`. `corpus_filters` compare all pairs.
"""
