from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from connectors.emulators.common.viewer import (
    ViewAttachment,
    ViewMessage,
    ViewMessageDetail,
    body_document,
    linkify,
)
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.testing import Emulators, running_emulators

MICROSOFT, GOOGLE = "ada@nordwind.example", "emi@kasuga.example"
RAW = (
    b"From: Cleo <cleo@sender.example>\r\nTo: you\r\nSubject: <b>Bold</b>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n\r\n"
    b'<!DOCTYPE html><p>Hi <a href="http://a.example/x">x</a><script>document.title = 1</script></p>'
)


@pytest.fixture(scope="module")
def emulators() -> Iterator[Emulators]:
    with running_emulators() as running:
        running.microsoft_tenant("ada")
        running.world.google.create_domain("kasuga.example", "C1", [NewUser(GOOGLE, "Emi Tanaka")])
        yield running


@pytest.fixture
def client(emulators: Emulators) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulators.base_url, trust_env=False) as made:
        yield made


@pytest.mark.parametrize(("provider", "address"), [("microsoft", MICROSOFT), ("google", GOOGLE)])
def test_a_delivered_message_is_listed_read_and_shown_with_its_source(
    emulators: Emulators, client: httpx.Client, provider: str, address: str
) -> None:
    given = emulators.world.deliver(provider, address, RAW)
    base = f"/viewer/{provider}"
    assert address in client.get(f"{base}/").text
    listed = client.get(f"{base}/{address}/").text
    assert f'class="unread" data-testid="message" data-message-id="{given}"' in listed
    assert "&lt;b&gt;Bold&lt;/b&gt;" in listed
    page = client.get(f"{base}/{address}/{given}")
    assert page.status_code == 200
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    body = client.get(f"{base}/{address}/{given}/body")
    assert '<a href="http://a.example/x">x</a>' in body.text
    assert "default-src 'none'" in body.headers["content-security-policy"]
    assert "script-src" not in body.headers["content-security-policy"]
    assert client.get(f"{base}/{address}/{given}/source").content.endswith(b"</p>")
    assert 'class="read"' in client.get(f"{base}/{address}/?fragment=1").text


@pytest.mark.parametrize("provider", ["microsoft", "google"])
@pytest.mark.parametrize("path", ["nobody@x.example/", "nobody@x.example/1", "{address}/1", "{address}/1/body"])
def test_what_is_not_there_says_so(client: httpx.Client, provider: str, path: str) -> None:
    address = MICROSOFT if provider == "microsoft" else GOOGLE
    answer = client.get(f"/viewer/{provider}/{path.format(address=address)}")
    assert answer.status_code == 404
    assert answer.text


def test_pages_have_no_inline_script_or_style(client: httpx.Client) -> None:
    for path in ("/", "/viewer/microsoft/", f"/viewer/google/{GOOGLE}/"):
        page = client.get(path).text
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)


def test_a_folder_can_be_chosen(emulators: Emulators, client: httpx.Client) -> None:
    given = emulators.world.deliver("microsoft", MICROSOFT, RAW, place="junkemail")
    assert given in client.get(f"/viewer/microsoft/{MICROSOFT}/?place=Junk Email").text
    assert given not in client.get(f"/viewer/microsoft/{MICROSOFT}/?place=Inbox").text


def detail(html: str | None, text: str | None = None, *attachments: ViewAttachment) -> ViewMessageDetail:
    line = ViewMessage("1", "s", "a", datetime.now(UTC), True, "Inbox", "")
    return ViewMessageDetail(line, (), html, text, attachments)


def test_links_open_in_a_new_tab_and_inline_images_come_from_the_message() -> None:
    picture = ViewAttachment("a.png", "image/png", b"abc", inline=True, content_id="a@x")
    document = body_document(
        detail("<!DOCTYPE html><img src='cid:a@x'><a href='http://a.example/?cid:a@x'>l</a>", None, picture)
    )
    assert document.startswith('<!DOCTYPE html><meta charset="utf-8"><base target="_blank">')
    assert "src='data:image/png;base64,YWJj'" in document
    assert "href='http://a.example/?cid:a@x'" in document


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("see http://a.example/x.", "http://a.example/x"),
        ("(http://a.example/x)", "http://a.example/x"),
        ("http://a.example/x_(y)", "http://a.example/x_(y)"),
        ("<http://a.example/?a=1&b=2>", "http://a.example/?a=1&amp;b=2"),
        ("こちらhttp://a.example/x。", "http://a.example/x"),
    ],
)
def test_addresses_in_text_become_links_without_the_punctuation_around_them(text: str, target: str) -> None:
    assert f'<a href="{target}"' in linkify(text)


def test_text_is_escaped() -> None:
    assert "<script>" not in body_document(detail(None, "<script>alert(1)</script>"))
