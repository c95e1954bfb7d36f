"""Whatever JSON, or YAML, can hold where something else was meant."""

from hypothesis import strategies as st

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 10**400, "", "???", "nan", "~no_such_user/x", "a\0b", "x" * 300])
    | st.floats()
    | st.text(max_size=6)
)
KEYS = st.text(max_size=6) | st.integers() | st.booleans() | st.none()  # YAML's keys are not only words
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def sections(known, values=VALUES):
    """Sections with some known keys, some unknown ones, and values of every kind."""
    return st.dictionaries(st.sampled_from(sorted(known)) | KEYS, values, max_size=4)
