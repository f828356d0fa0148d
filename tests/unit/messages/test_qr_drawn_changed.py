"""Codes without a picture are made unreadable or replaced where the policy says so, and come back."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from app.messages import LinkAction, restore, restore_body, transform, transform_body
from app.messages.qr import blocks, html_blocks
from app.messages.qr.svg import scan_svg
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message, multipart, part
from tests.unit.messages.qr_pictures import TEXT
from tests.unit.messages.test_qr_drawn import DRAWINGS, PAGES, TABLES, TEXTS

LINK = '<p>Scan or <a href="http://other.example/">click</a></p>'
MODES = ["deface", "replace"]


def _codes(content: bytes) -> list[str]:
    body = content.partition(b"\r\n\r\n")[2].decode()
    return [code.text for code in html_blocks.find_in_html(body)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("page", [*PAGES, *TABLES])
def test_a_code_of_cells_or_characters_in_html_is_made_unreadable(page: str, mode: str) -> None:
    raw = message("<body>" + LINK + {**PAGES, **TABLES}[page] + "<p>Bye</p>")
    gateway = GatewayDouble()
    assert _codes(raw) == [TEXT]
    done = transform(raw, gateway.plan(qr=mode))
    assert _codes(done.content) == []
    assert b"Bye" in done.content
    assert b"http://other.example/" not in done.content
    assert [found.action for found in done.links if found.link.url == TEXT] == [LinkAction.REDACT]
    assert [warning.code for warning in done.warnings] == (["qr_defaced"] if mode == "replace" else [])
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan(qr=mode)).content == done.content


@pytest.mark.parametrize("drawing", TEXTS)
def test_a_code_of_characters_in_text_is_made_unreadable(drawing: str) -> None:
    raw = message(
        f"Scan this: █ now\r\nplease\r\n{TEXTS[drawing]}\r\nhttp://other.example/\r\n", "text/plain; charset=utf-8"
    )
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan(qr="deface"))
    body = done.content.partition(b"\r\n\r\n")[2].decode()
    assert blocks.find_in_text(body) == ()
    assert "Scan this: █ now" in body
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan(qr="deface")).content == done.content


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64"])
def test_a_code_of_characters_is_made_unreadable_in_any_encoding(encoding: str) -> None:
    body = f"x \ufffd\n{TEXTS['half blocks']}\n".encode()
    coded = (
        base64.encodebytes(body)
        if encoding == "base64"
        else "".join(f"={byte:02X}" if byte > 126 or byte in b"=" else chr(byte) for byte in body).encode()
    )
    raw = message(coded, "text/plain; charset=utf-8", encoding)
    gateway = GatewayDouble()
    plan = gateway.plan(qr="deface")
    done = transform(raw, plan)
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert [found.link.url for found in done.links] == [TEXT]


def test_a_body_with_a_drawn_code_comes_back() -> None:
    source = "<body>" + LINK + TABLES["style"]
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan(qr="deface"))
    assert html_blocks.find_in_html(done.content) == ()
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


def test_a_policy_that_leaves_the_link_leaves_the_drawing() -> None:
    source = "<body>" + TABLES["style"]
    plan = GatewayDouble().plan(qr="deface", decide=lambda _: LinkAction.LEAVE)
    assert transform_body(source, True, plan).content == source
    assert transform_body(source, True, GatewayDouble().plan()).content == source


def _drawing(content: bytes) -> bytes:
    body = content.partition(b"image/svg+xml")[2].partition(b"\r\n\r\n")[2].partition(b"\r\n--b1")[0]
    return base64.b64decode(body)


@pytest.mark.parametrize("attachments", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_code_in_an_svg_part_is_made_unreadable_or_replaced(drawing: str, mode: str, attachments: bool) -> None:
    coded = base64.encodebytes(DRAWINGS[drawing].encode()).replace(b"\n", b"\r\n")
    raw = multipart(part(LINK, "text/html"), part(coded, "image/svg+xml", "base64"), kind="related")
    gateway = GatewayDouble()
    plan = gateway.plan(qr=mode, rewrite_attachments=attachments)
    done = transform(raw, plan)
    said = [code.text for code in scan_svg(_drawing(done.content)).codes]
    if mode == "deface":
        assert said == []
    else:
        assert [gateway.target(text) for text in said] == [TEXT]
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, plan).content == done.content


@pytest.mark.parametrize("form", ["base64", "percent", "plain"])
def test_a_code_in_an_svg_address_is_replaced(form: str) -> None:
    text = next(iter(DRAWINGS.values()))
    address = {
        "base64": "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode(),
        "percent": "data:image/svg+xml," + quote(text),
        "plain": "data:image/svg+xml;utf8," + text.replace("&", "&amp;").replace('"', "&quot;").replace("#", "%23"),
    }[form]
    source = f'<p>x</p><img alt="a" src="{address}"><a href="http://a.example">y</a>'
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan(qr="replace"))
    coded = done.content.partition("svg+xml;base64,")[2].partition('"')[0]
    assert [gateway.target(code.text) for code in scan_svg(base64.b64decode(coded)).codes] == [TEXT]
    assert GATEWAY in done.content
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


def test_a_drawing_in_the_markup_is_reported_and_said_to_be_left() -> None:
    text = next(iter(DRAWINGS.values()))
    source = f"<p>x</p>{text}<p>y</p>"
    done = transform_body(source, True, GatewayDouble().plan(qr="deface"))
    assert done.content == source
    assert [(found.link.url, found.action) for found in done.links] == [(TEXT, LinkAction.LEAVE)]
    assert [warning.message for warning in done.warnings] == [
        "A QR code is drawn with SVG in the markup: it was reported and left readable."
    ]


def test_a_code_inside_a_link_that_is_taken_out_does_not_spoil_the_message() -> None:
    text = next(iter(DRAWINGS.values()))
    address = "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
    source = f'<a href="{address}">x</a>'
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan(qr="deface"))
    assert done.content == '<a href="#">x</a>'
    assert restore_body(done.content, True, gateway.open, done.undo).content == source
