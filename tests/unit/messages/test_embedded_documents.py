"""HTML inside an attribute (``iframe srcdoc``, data: frames) has links that work: none of them escapes."""

from __future__ import annotations

import html
import re

import pytest
from selectolax.lexbor import LexborHTMLParser

from app.messages import LinkAction, restore, restore_body, transform, transform_body
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message

INNER = (
    '<p title="a & b">\u00fc <a href="http://evil.example/a?x=1&amp;y=2">go</a> http://two.example/ <a href=rel>r</a>'
)


def _targets(source: str) -> list[str]:
    found: list[str] = []
    for node in LexborHTMLParser(source).css("*"):
        value = node.attributes.get("href")
        if value:
            found.append(value)
        if node.tag == "iframe" and node.attributes.get("srcdoc"):
            found += _targets(node.attributes["srcdoc"] or "")
    return found


def _attribute(inner: str, quote: str) -> str:
    if quote:
        return quote + inner.replace("&", "&amp;").replace(quote, "&#34;" if quote == '"' else "&#39;") + quote
    return re.sub("[\\s\"'`=<>&]", lambda hit: f"&#{ord(hit[0])};", inner)


def _text(source: str) -> str:
    body = LexborHTMLParser(source).body
    return re.sub(r"\s+", " ", body.text()) if body else ""


@pytest.mark.parametrize("quote", ['"', "'", ""])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_links_of_an_embedded_document_are_rewritten_and_come_back(quote: str, charset: str) -> None:
    page = f"<html><iframe width=9 srcdoc={_attribute(INNER, quote)}></iframe><a href=http://last.example>x</a>"
    raw = message(page.encode(charset), f"text/html; charset={charset}")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    new = done.content.partition(b"\r\n\r\n")[2].decode(charset)
    assert [target.startswith(GATEWAY) for target in _targets(new)] == [True, True, False, True]
    assert {gateway.target(t) for t in _targets(new) if t != "rel"} == {
        "http://evil.example/a?x=1&y=2",
        "http://two.example/",
        "http://last.example",
    }
    (before,), (after,) = (LexborHTMLParser(p).css("iframe") for p in (page, new))
    assert _text(after.attributes["srcdoc"] or "") == _text(before.attributes["srcdoc"] or "")
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan()).content == done.content


def test_relative_links_of_an_embedded_document_go_by_the_base_around_it() -> None:
    source = '<base href="http://evil.example/d/"><iframe srcdoc="<a href=x>1</a>"></iframe>'
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan())
    assert "http://evil.example/d/x" in [found.link.url for found in done.links]
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


def test_documents_inside_documents_are_rewritten_and_too_deep_ones_emptied() -> None:
    source = '<a href="http://evil.example/">x</a>'
    for _ in range(3):
        source = f'<iframe srcdoc="{html.escape(source)}"></iframe>'
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan())
    assert [gateway.target(target) for target in _targets(done.content)] == ["http://evil.example/"]
    assert transform_body(done.content, True, gateway.plan()).content == done.content
    for _ in range(4):
        source = f'<iframe srcdoc="{html.escape(source)}"></iframe>'
    done = transform_body(source, True, gateway.plan())
    assert _targets(done.content) == []
    assert "not_covered" in [warning.code for warning in done.warnings]
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


def test_every_repeated_srcdoc_and_those_read_without_scripting_are_covered() -> None:
    link = "<a href=http://evil.example/>x</a>"
    source = f'<iframe srcdoc="{link}" srcdoc="{link}"></iframe><noscript><iframe srcdoc="{link}"></iframe></noscript>'
    done = transform_body(source, True, GatewayDouble().plan())
    assert "evil.example/" not in done.content.replace("site.example", "")
    assert len(done.links) == 3


def test_links_of_an_embedded_document_in_an_attachment_are_reported() -> None:
    raw = message(
        '<iframe srcdoc="<a href=http://evil.example/>x</a>"></iframe>',
        "text/html",
        headers="Content-Disposition: attachment\n",
    )
    done = transform(raw, GatewayDouble().plan(html_attachments=False))
    assert done.content == raw
    assert [found.link.url for found in done.links] == ["http://evil.example/"]


def test_an_embedded_document_without_links_stays() -> None:
    source = "<iframe srcdoc='<p>&lt;b&gt;'></iframe><iframe srcdoc></iframe><p srcdoc='<a href=http://a.example>'>"
    assert transform_body(source, True, GatewayDouble().plan()).content == source


def test_the_policy_holds_in_embedded_documents() -> None:
    source = '<iframe srcdoc="<a href=http://evil.example/>x</a> http://two.example/"></iframe>'
    gateway = GatewayDouble()
    plan = gateway.plan(decide=lambda link: LinkAction.REDACT, redact_text="<gone>")
    done = transform_body(source, True, plan)
    (frame,) = LexborHTMLParser(done.content).css("iframe")
    assert _text(frame.attributes["srcdoc"] or "") == "x <gone>"
    assert _targets(done.content) == ["#"]
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


@pytest.mark.parametrize(
    "tag", ['<iframe src="{}">', "<frameset><frame src='{}'></frameset>", "<embed src={}>", "<object data='{}'>"]
)
@pytest.mark.parametrize(
    "target", ["data:text/html,<a/href=//evil.example>", "javascript:alert(1)", "blob:https://a.example/1", "data:,x"]
)
def test_a_frame_of_the_senders_own_making_is_neutralised(tag: str, target: str) -> None:
    source = tag.format(target.replace("<", "&lt;").replace(">", "&gt;"))
    gateway = GatewayDouble()
    done = transform_body(source, True, gateway.plan())
    assert target[:7] not in done.content
    assert "dangerous_scheme" in [f.code for found in done.links for f in found.link.findings]
    assert restore_body(done.content, True, gateway.open, done.undo).content == source


def test_pictures_and_web_pages_in_frames_stay() -> None:
    source = '<object data="data:image/png;base64,AAAA"></object><iframe src="https://a.example/"></iframe>'
    done = transform_body(source, True, GatewayDouble().plan())
    assert done.content == source
    assert [finding.code for finding in done.findings].count("embedded_frame") == 2
