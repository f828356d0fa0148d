"""Places in quoted-printable bodies: they are walked to, or looked up in a table where that is dear; both agree."""

from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.transfer import QuotedPrintableBody, Splice

_PIECES = st.sampled_from(
    [
        b"a",
        b"word ",
        b"=3D",
        b"=3d",
        b"=C3=A9",
        b"=\r\n",
        b"=\n",
        b"\r\n",
        b"\n",
        b"==",
        b"=",
        b"=\r",
        b"=4",
        b"=zz",
        b"\t",
    ]
)
_WELL_FORMED = st.lists(
    st.sampled_from([b"a", b"word ", b"=3D", b"=3d", b"=C3=A9", b"=\r\n", b"\r\n", b"\t"]), max_size=40
).map(b"".join)
_BODIES = st.lists(_PIECES, max_size=40).map(b"".join)
_LEAD = b"text of a large message, line by line\r\n" * 800


@pytest.mark.parametrize("lead", [_LEAD, b"x" * 30_000], ids=["lines", "one long line"])
@given(tail=_BODIES, wanted=st.lists(st.integers(0, 120), max_size=8))
def test_places_do_not_depend_on_what_stands_before(lead: bytes, tail: bytes, wanted: list[int]) -> None:
    small = QuotedPrintableBody(tail, b"\r\n")
    large = QuotedPrintableBody(lead + tail, b"\r\n")
    for at in wanted:
        place = min(at, len(small.data))
        assert large.raw_start(len(lead) + place) == len(lead) + small.raw_start(place)
        if place:
            assert large.raw_end(len(lead) + place) == len(lead) + small.raw_end(place)


@given(_BODIES)
def test_places_stay_the_same_when_many_are_asked_for(line: bytes) -> None:
    raw = (line + b"\r\n") * 400 + _LEAD
    several, each_alone = QuotedPrintableBody(raw, b"\r\n"), QuotedPrintableBody(raw, b"\r\n")
    places = range(0, min(len(several.data), 3_000), 7)
    seen = [several.raw_start(at) for at in places]
    assert seen[-30:] == [each_alone.raw_start(at) for at in places[-30:]]


@given(_WELL_FORMED, st.integers(0, 60), st.integers(0, 60))
def test_what_stands_behind_a_range_decodes_to_it(raw: bytes, first: int, second: int) -> None:
    body = QuotedPrintableBody(raw, b"\r\n")
    start, end = sorted((min(first, len(body.data)), min(second, len(body.data))))
    assert binascii.a2b_qp(body.source(start, end)) == body.data[start:end]


def test_links_on_one_endless_line_keep_what_stands_between_them() -> None:
    one = b'<a href=3D"http://a.example/x">x</a>'
    body = QuotedPrintableBody(one * 2_000, b"\r\n")
    step = len(body.data) // 2_000
    at = body.data.index(b"http")
    made = body.write([Splice(at + i * step, at + i * step + 18, b"https://gw.example/l/T") for i in range(2_000)])
    assert [raw.start for raw in made] == [one.index(b"http") + i * len(one) for i in range(2_000)]
    assert {raw.end - raw.start for raw in made} == {18}
    assert {raw.new.replace(b"=\r\n", b"") for raw in made} == {b"https://gw.example/l/T"}
