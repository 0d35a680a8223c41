"""Tokens become text without a character in halves."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from relay.local.detokenizer import Detokenizer


def of_bytes(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode("utf-8", "replace")


@given(st.text())
def test_all_of_a_text_comes_out_and_no_half_of_a_character(text: str) -> None:
    detokenizer = Detokenizer(of_bytes)
    pieces = [detokenizer.push(token) for token in text.encode("utf-8", "replace")]
    assert not any(piece.endswith("\ufffd") for piece in pieces)
    assert "".join(pieces) + detokenizer.rest() == text.encode("utf-8", "replace").decode()


def test_what_is_broken_at_the_end_is_told_at_the_end() -> None:
    detokenizer = Detokenizer(of_bytes)
    assert [detokenizer.push(token) for token in b"a\xc3"] == ["a", ""]
    assert detokenizer.rest() == "\ufffd"
    assert detokenizer.rest() == ""


def test_a_word_has_its_space_when_it_does_not_begin_the_text() -> None:
    """As tokenizers of the sentencepiece kind do: only the first word loses its space."""
    words = ["one", "two", "three"]
    detokenizer = Detokenizer(lambda tokens: " ".join(words[token] for token in tokens))
    assert [detokenizer.push(token) for token in range(3)] == ["one", " two", " three"]
