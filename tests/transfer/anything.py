"""What an application may log: whatever there is in Python."""

from __future__ import annotations

from hypothesis import strategies as st


class Unspeakable:
    """Neither `repr` nor `str` says what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableError(Exception):
    """An exception that is as bad."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(Unspeakable)
    | st.builds(UnspeakableError),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)
