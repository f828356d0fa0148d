"""Attachments in the undo record come out as they went in, and a damaged record is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.undo import UndoMismatch
from app.messages.undo_attached import KeptFile, pack, unpack

FILES = st.lists(
    st.builds(
        KeptFile,
        name=st.text(st.characters(), max_size=20),
        content_type=st.text(max_size=20),
        content_id=st.none() | st.text(max_size=20),
        is_inline=st.booleans(),
        content=st.binary(max_size=200),
        became=st.binary(min_size=32, max_size=32),
        links=st.integers(0, 9),
        part=st.text(max_size=20),
    ),
    max_size=4,
)
ONE = KeptFile("qr.png", "image/png", "qr@x", True, b"\x89PNG" * 9, b"\x01" * 32, 1, "attachment 1")


@given(st.none() | st.binary(max_size=100), FILES)
def test_what_is_packed_comes_out(record: bytes | None, files: list[KeptFile]) -> None:
    assert unpack(pack(record, files)) == (record, tuple(files))


def test_without_attachments_the_record_is_the_bodys_own() -> None:
    assert pack(b"postern-undo-1\nbody", []) == b"postern-undo-1\nbody"
    assert pack(None, []) is None


@pytest.mark.parametrize("cut", [24, 28, 60, -1])
def test_a_record_that_was_cut_off_is_refused(cut: int) -> None:
    packed = pack(b"body", [ONE])
    assert packed is not None
    with pytest.raises(UndoMismatch):
        unpack(packed[:cut])


def test_a_record_with_something_behind_it_is_refused() -> None:
    with pytest.raises(UndoMismatch):
        unpack((pack(b"body", [ONE]) or b"") + b"x")


def test_no_content_of_the_mail_is_shown_by_a_record() -> None:
    assert "PNG" not in repr(ONE)
