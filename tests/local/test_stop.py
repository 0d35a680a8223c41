"""Stop strings, cut anywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from relay.local.stop import StopText


def run(stops: list[str], pieces: list[str]) -> tuple[str, bool]:
    stop = StopText(stops)
    sent = "".join(stop.push(piece) for piece in pieces)
    return sent + stop.rest(), stop.found


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", max_size=4), max_size=3),
    st.lists(st.integers(0, 30), max_size=5),
)
def test_however_the_text_is_cut_it_ends_before_the_first_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    sent, found = run(stops, pieces)
    real = [stop for stop in stops if stop]
    ends = [text.find(stop) for stop in real if stop in text]
    assert found == bool(ends)
    if not ends:
        assert sent == text
    else:
        # The string that is complete first ends the text, and nothing of it was sent.
        assert text.startswith(sent)
        assert not any(stop in sent for stop in real)
        assert any(text[len(sent) :].startswith(stop) for stop in real)


def test_text_is_held_back_only_as_long_as_it_may_be_a_stop_string():
    stop = StopText(["END"])
    assert stop.push("one EN") == "one "
    assert stop.push("D") == ""
    assert stop.found
    assert stop.push("more") == ""
    other = StopText(["END"])
    assert other.push("one EN") == "one "
    assert other.push("TER") == "ENTER"
    assert other.rest() == ""


def test_an_empty_stop_string_stops_nothing():
    assert run([""], ["a", "b"]) == ("ab", False)
