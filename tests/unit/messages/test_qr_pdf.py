"""Codes and links in PDF pages."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.messages.qr import QrLimits, pdf
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.qr_pictures import TEXT


def document(*pages: tuple[bytes, bytes], extra: bytes = b"") -> bytes:
    """Return a PDF file; each page has content and annotations, and ``/I`` is a picture of a code."""
    image = pictures.picture(scale=1)
    side = len(image)
    packed = zlib.compress(image.tobytes())
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(pages)),
        b"<</Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8/Filter/FlateDecode"
        b"/Length %d>>stream\n%s\nendstream" % (side, side, len(packed), packed),
    ]
    for number, (content, links) in enumerate(pages):
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Annots[%s]"
            b"/Resources<</XObject<</I 3 0 R>>/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>"
            % (5 + 2 * number, links)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(content), content))
    made = b"%PDF-1.7\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(made)
    made += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    made += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return made + b"trailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, extra, start)


CODE = b"q 90 0 0 90 60 600 cm /I Do Q"
LINK = b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/URI/URI(https://link.example/a)>>>>"
TEXT_PAGE = b"BT /F 12 Tf 20 200 Td (go to https://text.example/b now) Tj ET"


def drawn() -> bytes:
    """Return page content that draws the code with rectangles."""
    dark = np.argwhere(pictures.modules())
    return b"".join(b"%d %d 3 3 re f\n" % (100 + 3 * x, 500 - 3 * y) for y, x in dark)


def test_codes_are_found_as_pictures_and_as_drawings_with_their_pages() -> None:
    scan = pdf.find(document((TEXT_PAGE, b""), (CODE, b""), (drawn(), b"")))
    assert [(page, code.text) for page, code in scan.codes] == [(1, TEXT), (2, TEXT)]
    assert (scan.pages, scan.notes, scan.encrypted) == (3, (), False)


def test_links_are_found_in_annotations_and_text() -> None:
    scan = pdf.find(document((TEXT_PAGE, LINK), (b"", LINK + LINK)), codes=False)
    assert [(link.url, link.page, link.source) for link in scan.links] == [
        ("https://link.example/a", 0, "annotation"),
        ("https://text.example/b", 0, "text"),
        ("https://link.example/a", 1, "annotation"),
    ]
    assert pdf.find(document((TEXT_PAGE, LINK)), links=False).links == ()


def test_annotations_without_an_address_are_passed_over() -> None:
    other = b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/GoTo/D[4 0 R/Fit]>>>>"
    other += b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]>>"
    odd = b"<</Type/Annot/Subtype/Link/Rect[0 0 9 9]/A<</S/URI/URI(https://\xfc.example/)>>>>"
    scan = pdf.find(document((b"", other + odd)))
    assert [link.url for link in scan.links] == ["https://\xfc.example/"]


def test_pages_beyond_the_limit_are_said() -> None:
    scan = pdf.find(document((b"", b""), (b"", b""), (CODE, b"")), QrLimits(max_pages=2))
    assert scan.codes == ()
    assert scan.notes == ("only the first 2 of 3 pages were looked at",)


def test_a_huge_page_is_rendered_to_no_more_than_the_limit() -> None:
    data = document((CODE, b"")).replace(b"/MediaBox[0 0 595 842]", b"/MediaBox[0 0 9999999 9]")
    assert pdf.find(data, QrLimits(max_page_pixels=100_000)).pages == 1


def test_an_encrypted_document_is_named() -> None:
    locked = b"/Encrypt<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -4>>/ID[<00><00>]" % (b"11" * 32, b"22" * 32)
    scan = pdf.find(document((CODE, b""), extra=locked))
    assert scan.encrypted
    assert scan.notes == ("the document is encrypted",)


def test_what_is_no_document_and_what_is_too_large_is_said() -> None:
    assert pdf.find(b"%PDF-1.7 nothing").notes == ("the document is damaged or no PDF",)
    assert "larger" in pdf.find(document((CODE, b"")), QrLimits(max_bytes=100)).notes[0]


def test_documents_can_be_read_from_several_threads() -> None:
    data = document((CODE, LINK))
    with ThreadPoolExecutor(4) as pool:
        scans = list(pool.map(pdf.find, [data] * 8))
    assert all(scan == scans[0] for scan in scans)
    assert scans[0].codes


WHOLE = document((CODE, LINK), (TEXT_PAGE, LINK))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE)), st.binary(max_size=20), st.booleans())
def test_no_spoilt_document_raises(at: int, spoilt: bytes, cut: bool) -> None:
    pdf.find(WHOLE[:at] + spoilt + (b"" if cut else WHOLE[at + len(spoilt) :]), QrLimits(max_page_pixels=50_000))
