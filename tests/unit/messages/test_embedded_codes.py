"""QR codes in a message are links: reported, made unreadable or replaced, and brought back."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
import zxingcpp

from app.messages import FoundLink, LinkAction, LinkKind, embedded, qr, restore, restore_body, transform, transform_body
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message, multipart, part

TARGET = "http://evil.example/login"


def picture(text: str = TARGET, pixels: int = 9) -> bytes:
    """A PNG with one code and its quiet zone, large enough for a longer one."""
    modules = np.array(zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode).to_image(add_quiet_zones=False))
    drawn = np.kron(modules, np.ones((pixels, pixels), np.uint8))
    canvas = np.pad(drawn, 40, constant_values=255)
    done, coded = cv2.imencode(".png", canvas)
    assert done
    return coded.tobytes()


def _mail(data: bytes, kind: str = "image/png", name: str = "a.png") -> bytes:
    extra = f'Content-Disposition: inline; filename="{name}"\nContent-ID: <a>\n'
    body = base64.encodebytes(data).replace(b"\n", b"\r\n")
    html = part('<p>Scan: <img src="cid:a"></p>', "text/html")
    return multipart(html, part(body, kind, "base64", extra), kind="related")


def _read(mail: bytes) -> list[str]:
    start = mail.index(b"\r\n\r\n", mail.index(b"Content-ID")) + 4
    return [code.text for code in qr.find(base64.b64decode(mail[start : mail.index(b"--b1--")]))]


@pytest.mark.parametrize(("kind", "name"), [("image/png", "a.png"), ("application/octet-stream", "a.bin")])
def test_a_code_is_reported_and_left_by_default(kind: str, name: str) -> None:
    raw = _mail(picture(), kind, name)
    done = transform(raw, GatewayDouble().plan())
    assert done.content == raw
    assert [(link.link.kind, link.link.url, link.action) for link in done.links] == [
        (LinkKind.QR, TARGET, LinkAction.LEAVE)
    ]


def test_a_code_is_made_unreadable_and_comes_back() -> None:
    raw = _mail(picture())
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan(qr="deface"))
    assert _read(done.content) == []
    assert restore(done.content, gateway.open, done.undo).content == raw


def test_a_code_is_replaced_by_one_for_the_gateway_link() -> None:
    raw = _mail(picture(pixels=14))
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan(qr="replace"))
    (text,) = _read(done.content)
    assert text.startswith(GATEWAY)
    assert gateway.target(text) == TARGET
    assert transform(done.content, gateway.plan(qr="replace")).content == done.content
    assert restore(done.content, gateway.open, done.undo).content == raw


def test_a_policy_that_leaves_the_link_leaves_the_code() -> None:
    def decide(link: FoundLink) -> LinkAction:
        return LinkAction.LEAVE if link.kind is LinkKind.QR else LinkAction.REWRITE

    raw = _mail(picture())
    assert transform(raw, GatewayDouble().plan(qr="replace", decide=decide)).content == raw


def test_a_code_in_a_data_address_is_found_and_replaced() -> None:
    html = f'<img alt="x" src="data:image/png;base64,{base64.b64encode(picture(pixels=14)).decode()}">'
    gateway = GatewayDouble()
    assert [link.link.url for link in transform_body(html, True, gateway.plan()).links] == [TARGET]
    done = transform_body(html, True, gateway.plan(qr="replace"))
    coded = done.content.partition("base64,")[2].partition('"')[0]
    assert [gateway.target(code.text) for code in qr.find(base64.b64decode(coded))] == [TARGET]
    assert restore_body(done.content, True, gateway.open, done.undo).content == html


def test_a_code_of_block_characters_is_reported() -> None:
    modules = (
        np.array(zxingcpp.create_barcode(TARGET, zxingcpp.BarcodeFormat.QRCode).to_image(add_quiet_zones=True)) < 128
    )
    text = "\r\n".join("".join("\u2588\u2588" if dark else "  " for dark in row) for row in modules)
    done = transform(message(text, "text/plain; charset=utf-8"), GatewayDouble().plan())
    assert [(link.link.kind, link.link.url) for link in done.links] == [(LinkKind.QR, TARGET)]
    shown = text.replace("\r\n", "<br>").replace(" ", "&nbsp;")
    done = transform(message(f"<pre>{shown}</pre>"), GatewayDouble().plan())
    assert TARGET in [link.link.url for link in done.links]


def test_a_code_cut_into_two_pictures_is_reported() -> None:
    whole = cv2.imdecode(np.frombuffer(picture(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert whole is not None
    half = whole.shape[1] // 2
    pieces = [cv2.imencode(".png", piece)[1].tobytes() for piece in (whole[:, :half], whole[:, half:])]
    parts = [part(base64.encodebytes(piece), "image/png", "base64") for piece in pieces]
    done = transform(multipart(*parts, kind="mixed"), GatewayDouble().plan())
    assert [link.link.url for link in done.links] == [TARGET]


def test_a_code_that_says_no_address_is_none_of_ours() -> None:
    raw = _mail(picture("WIFI:S:guest;T:WPA;P:secret;;"))
    done = transform(raw, GatewayDouble().plan(qr="deface"))
    assert done.content == raw
    assert done.links == ()


@pytest.mark.parametrize("data", [picture()[:200], b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a"])
def test_a_picture_that_cannot_be_read_is_left(data: bytes) -> None:
    raw = _mail(data)
    assert transform(raw, GatewayDouble().plan(qr="deface")).content == raw


def test_pictures_beyond_a_messages_pixels_are_left_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_MAX_PIXELS", qr.pixels(picture()) * 2)
    images = [part(base64.encodebytes(picture()).replace(b"\n", b"\r\n"), "image/png", "base64") for _ in range(3)]
    done = transform(multipart(part("<p>Scan</p>", "text/html"), *images), GatewayDouble().plan())
    assert [link.link.url for link in done.links] == [TARGET, TARGET]
    assert ["pixels" in warning.message for warning in done.warnings] == [True]
