from hypothesis import given
from hypothesis import strategies as st

from relay.header_lines import lines_of, pairs_of

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)
NAMES = VISIBLE.filter(lambda text: ":" not in text).map(str.encode)
VALUES = st.one_of(st.just(b""), VISIBLE.map(str.encode), st.just(b"a: b"), st.just(b"5m 3s"))


def test_pairs_are_joined_as_they_stand_on_the_wire() -> None:
    assert lines_of([(b"a", b"1"), (b"b", b"2")]) == b"a: 1\r\nb: 2"


def test_no_pairs_are_no_lines() -> None:
    assert lines_of([]) == b""
    assert pairs_of(b"") == []


@given(st.lists(st.tuples(NAMES, VALUES)))
def test_lines_are_the_pairs_they_were_made_of(pairs: list[tuple[bytes, bytes]]) -> None:
    assert pairs_of(lines_of(pairs)) == pairs
