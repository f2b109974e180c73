from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_local_llm import LocalModel
from tokenomics_local_llm.text import Detokenizer, StopSequences

UNTIMED = settings(deadline=None)  # a busy machine is no failure
PIECES = st.lists(st.text("abc", max_size=4))
STOPS = st.lists(st.text("abc", min_size=1, max_size=3), max_size=3)


@UNTIMED
@given(text=st.text(), run=st.integers(1, 5))
def test_text_comes_out_whole_however_its_tokens_come(tiny: LocalModel, text: str, run: int) -> None:
    detokenizer = Detokenizer(tiny.decode)
    tokens = tiny.encode(text)

    pieces = [detokenizer.push(tokens[start : start + run]) for start in range(0, len(tokens), run)]

    assert "".join(pieces) + detokenizer.flush() == text


@UNTIMED
@given(text=st.text(st.characters(exclude_characters="\ufffd", exclude_categories=["Cs"])), run=st.integers(1, 5))
def test_no_piece_ends_inside_a_character(tiny: LocalModel, text: str, run: int) -> None:
    detokenizer = Detokenizer(tiny.decode)
    tokens = tiny.encode(text)

    pieces = [detokenizer.push(tokens[start : start + run]) for start in range(0, len(tokens), run)]

    assert not any("\ufffd" in piece for piece in pieces)


def test_characters_come_as_soon_as_they_are_whole() -> None:
    detokenizer = Detokenizer(lambda tokens: bytes(tokens).decode(errors="replace"))

    pieces = [detokenizer.push([byte]) for byte in "aé😀".encode()]

    assert pieces == ["a", "", "é", "", "", "", "😀"]


@UNTIMED
@given(tokens=st.lists(st.integers(2, 300)))
def test_bytes_that_are_no_character_lose_nothing_else(tiny: LocalModel, tokens: list[int]) -> None:
    detokenizer = Detokenizer(tiny.decode)

    text = "".join(detokenizer.push([token]) for token in tokens) + detokenizer.flush()

    # How many U+FFFD stand for a run of broken bytes depends on where it is cut.
    assert re.sub("\ufffd+", "", text) == re.sub("\ufffd+", "", tiny.decode(tokens))


def test_broken_bytes_are_not_waited_on_for_ever(tiny: LocalModel) -> None:
    detokenizer = Detokenizer(tiny.decode)
    first_of_two_bytes = tiny.encode("é")[:1]

    assert any(detokenizer.push(first_of_two_bytes) for _ in range(4))


@UNTIMED
@given(pieces=PIECES, stop=STOPS)
def test_text_ends_before_the_stop_sequence_that_is_complete_first(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    ends = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    stops = StopSequences(stop)

    out = "".join(stops.push(piece) for piece in pieces) + stops.flush()

    assert out == (text[: min(ends)[1]] if ends else text)
    assert stops.reached == bool(ends)


@pytest.mark.parametrize(
    ("pieces", "out"),
    [(["one ST", "OP two"], "one "), (["one S", "T two"], "one ST two"), (["STOP"], ""), (["one ST"], "one ST")],
    ids=["across-pieces", "false-start", "at-once", "unfinished"],
)
def test_stop_sequence_is_seen_wherever_pieces_meet(pieces: list[str], out: str) -> None:
    stops = StopSequences(["STOP"])

    assert "".join(stops.push(piece) for piece in pieces) + stops.flush() == out


@UNTIMED
@given(pieces=PIECES)
def test_without_stop_sequences_nothing_is_held_back(pieces: list[str]) -> None:
    stops = StopSequences([])

    assert [stops.push(piece) for piece in pieces] == pieces
