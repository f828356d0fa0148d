"""What is not looked at for QR codes is bounded for a message as a whole, and said wherever a code can stand."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
import zxingcpp

from app.messages import qr, transform
from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.qr import crowds, documents, paint, pdf, svg
from app.messages.qr.finder import CROWDED
from tests.unit.messages import qr_pictures as pictures
from tests.unit.messages.gateway_double import GatewayDouble, multipart, part
from tests.unit.messages.qr_pictures import TEXT
from tests.unit.messages.test_qr_documents import package
from tests.unit.messages.test_qr_drawn import DRAWINGS, TABLES
from tests.unit.messages.test_qr_pdf import document, drawn


def crowd(height: int, width: int) -> pictures.Picture:
    """Nothing but finder patterns."""
    ring = np.pad(np.pad(np.pad(np.zeros((3, 3), np.uint8), 1, constant_values=1), 1), 1, constant_values=1)
    return np.tile(ring * 255, (height // 9 + 1, width // 9 + 1))[:height, :width].astype(np.uint8)


def crowded_page() -> bytes:
    """A PDF page on which finder patterns are drawn, a pixel of the rendered page for each of their parts."""
    unit = 72 / 200 * 2
    ring = [(0, 0, 7, 7, 0), (1, 1, 5, 5, 1), (2, 2, 3, 3, 0)]
    pieces = []
    for x in range(0, 640, 9):
        for y in range(0, 900, 9):
            pieces += [
                f"{c} g {(x + a) * unit:.2f} {(y + b) * unit:.2f} {w * unit:.2f} {h * unit:.2f} re f"
                for a, b, w, h, c in ring
            ]
    return document((" ".join(pieces).encode(), b""))


def crowded_drawing() -> bytes:
    """The same as an SVG drawing."""
    ring = "M0 0h7v7h-7zM1 1v5h5v-5z M2 2h3v3h-3z"
    shapes = "".join(
        f'<path transform="translate({x} {y})" d="{ring}"/>' for x in range(0, 693, 9) for y in range(0, 693, 9)
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 693 693">{shapes}</svg>'.encode()


def test_a_crowded_page_of_a_document_is_said() -> None:
    assert [CROWDED in note for note in pdf.find(crowded_page()).notes] == [True]


def test_a_crowded_drawing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "_LEAST_LIMIT", 500)  # a drawing of more patterns has too many shapes to be drawn
    assert svg.scan_svg(crowded_drawing()).notes == (CROWDED,)


def test_pictures_that_are_crowded_together_are_said() -> None:
    halves = [pictures.file(crowd(1000, 500)) for _ in range(2)]
    codes, notes = qr.join_scan(halves)
    assert codes == ()
    assert notes == (CROWDED,)


def test_a_page_beyond_the_budget_is_not_rendered_and_said() -> None:
    page = document((drawn(), b""))
    assert pdf.find(page, budget=PixelBudget(1_000)).notes == (SPENT,)
    budget = PixelBudget(10_000_000)
    assert [code.text for _, code in pdf.find(page, budget=budget).codes] == [TEXT]
    assert 0 < budget.left < 10_000_000


def test_pictures_of_an_office_file_beyond_the_budget_are_not_decoded_and_said() -> None:
    picture = pictures.file(pictures.picture())
    file = package({"[Content_Types].xml": b"<x/>", "word/media/a.png": picture, "word/media/b.png": picture})
    scan = documents.find(file, budget=PixelBudget(qr.pixels(picture)))
    assert [code.text for _, code in scan.codes] == [TEXT]
    assert scan.notes == (SPENT,)


def test_a_drawing_beyond_the_budget_is_not_drawn_and_said() -> None:
    picture = base64.b64encode(pictures.file(pictures.picture())).decode()
    image = f'<image href="data:image/png;base64,{picture}"/>'
    source = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">{image}<rect width="9" height="9"/></svg>'
    assert svg.scan_svg(source.encode(), budget=PixelBudget(10)).notes == (SPENT,)


def test_joined_pictures_beyond_the_budget_are_not_read_and_said() -> None:
    whole = pictures.picture()
    halves = [pictures.file(half) for half in np.hsplit(whole[:, : whole.shape[1] // 2 * 2], 2)]
    assert qr.join_scan(halves, budget=PixelBudget(10)) == ((), (SPENT,))
    assert [code.text for code in qr.join_scan(halves)[0]] == [TEXT]


def test_a_crowded_picture_is_not_given_to_a_decoder_when_a_drawn_code_is_read_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = crowd(1500, 1500)
    code = pictures.picture(scale=14)
    image[200 : 200 + code.shape[0], 200 : 200 + code.shape[1]] = code
    data = pictures.file(image)
    codes = qr.find(data)
    given: list[int] = []
    read = zxingcpp.read_barcodes

    def reading(plane: pictures.Picture, **options: object) -> object:
        given.append(plane.size)
        return read(plane, **options)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(zxingcpp, "read_barcodes", reading)
    made = qr.repaint(data, [(code, "https://links.example/p/a.example/Ab9") for code in codes])
    assert made.outcomes == ("defaced",)
    assert max(given) <= 1_000_000


def test_a_library_that_refuses_leaves_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pictures.file(pictures.picture())

    def refuse(*_: object, **__: object) -> None:
        raise cv2.error("no")

    codes = qr.find(data)
    monkeypatch.setattr(paint, "_paint_cross", refuse)
    with pytest.raises(qr.CannotPaint):
        qr.deface(data, codes)


@pytest.mark.parametrize("mode", ["report", "deface", "replace"])
def test_a_library_that_refuses_never_stops_a_message(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise cv2.error("no")

    monkeypatch.setattr(cv2, "resize", refuse)
    monkeypatch.setattr(cv2, "dilate", refuse)
    monkeypatch.setattr(zxingcpp, "read_barcodes", refuse)
    generator = np.random.default_rng(7)
    picture = pictures.file(generator.integers(0, 255, (500, 500, 3), np.uint8))
    coded = base64.encodebytes(picture).replace(b"\n", b"\r\n")
    source = '<a href="http://evil.example/">x</a>' + TABLES["style"] + DRAWINGS["one path"]
    raw = multipart(
        part(source, "text/html"), part(coded, "image/png", "base64"), part(DRAWINGS["one path"], "image/svg+xml")
    )
    done = transform(raw, GatewayDouble().plan(qr=mode))
    assert b"http://evil.example/" not in done.content
    assert {warning.part for warning in done.warnings if warning.code == "qr_not_covered"} == {"1", "2", "3"}
