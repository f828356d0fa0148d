"""Codes in the pictures inside Office files."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.messages.qr import QrLimits, documents
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.qr_pictures import TEXT


def package(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return buffer.getvalue()


WORD = {
    "[Content_Types].xml": b"<Types/>",
    "word/document.xml": b"<w:document/>",
    "word/media/image1.png": pictures.file(np.full((50, 50), 255, np.uint8)),
    "word/media/image2.jpeg": pictures.file(pictures.picture(), ".jpg"),
}


def test_a_code_in_a_picture_of_a_word_file_is_found() -> None:
    scan = documents.find(package(WORD))
    assert [(name, code.text) for name, code in scan.codes] == [("word/media/image2.jpeg", TEXT)]
    assert scan.notes == ()


def test_a_code_in_a_picture_of_an_opendocument_file_is_found() -> None:
    parts = {"META-INF/manifest.xml": b"", "content.xml": b"", "Pictures/a.PNG": pictures.file(pictures.picture())}
    assert [code.text for _, code in documents.find(package(parts)).codes] == [TEXT]


@pytest.mark.parametrize("data", [b"", b"no package", b"PK\x03\x04broken", package({"a.png": b""})])
def test_what_is_no_document_gives_nothing(data: bytes) -> None:
    assert documents.find(data).codes == ()


def test_what_was_not_looked_at_is_said() -> None:
    parts = WORD | {"word/media/a.emf": b"x", "word/media/b.png": b"broken"}
    notes = documents.find(package(parts)).notes
    assert "pictures of formats that are not read (such as EMF) were not looked at" in notes
    assert "word/media/b.png: not a PNG, JPEG, GIF, WebP or BMP image" in notes
    assert documents.find(package(WORD), QrLimits(max_bytes=100)).notes == ("the document is larger than 100 bytes",)


def test_a_picture_that_unpacks_to_too_much_is_not_read() -> None:
    bomb = package({"[Content_Types].xml": b"", "word/media/a.bmp": b"BM" + b"\x00" * 3_000_000})
    scan = documents.find(bomb, QrLimits(max_bytes=100_000))
    assert scan.notes == ("pictures that are damaged or unpack to too much were not looked at",)


WHOLE = package(WORD)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=20), st.booleans())
def test_no_spoilt_document_raises(at: int, spoilt: bytes, cut: bool) -> None:
    documents.find(WHOLE[:at] + spoilt + (b"" if cut else WHOLE[at + len(spoilt) :]))
