"""What must hold for every message: it comes back byte for byte, nothing foreign changes, twice is once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.messages import (
    FoundLink,
    LinkAction,
    StyleOptions,
    classify,
    restore,
    restore_body,
    transform,
    transform_body,
)
from tests.unit.messages.gateway_double import GatewayDouble
from tests.unit.messages.strategies import html, messages, text

_SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
_ACTIONS = list(LinkAction)


@_SETTINGS
@given(messages())
def test_restoring_gives_back_every_byte(raw: bytes) -> None:
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    back = restore(done.content, gateway.open, done.undo)
    assert back.content == raw
    assert back.failed == ()


@_SETTINGS
@given(messages(), st.randoms(use_true_random=False))
def test_restoring_gives_back_every_byte_after_any_policy(raw: bytes, random: object) -> None:
    gateway = GatewayDouble()

    def decide(link: FoundLink) -> LinkAction:
        return _ACTIONS[len(link.source + link.url.encode("utf-8", "replace")) % len(_ACTIONS)]

    plan = gateway.plan(decide=decide, tag="protected <link>", style=StyleOptions(remove_href=len(raw) % 2 == 0))
    done = transform(raw, plan)
    assert restore(done.content, gateway.open, done.undo).content == raw


@_SETTINGS
@given(messages())
def test_transforming_twice_is_transforming_once(raw: bytes) -> None:
    gateway = GatewayDouble()
    once = transform(raw, gateway.plan())
    twice = transform(once.content, gateway.plan())
    assert twice.content == once.content
    assert not twice.changed


@_SETTINGS
@given(messages())
def test_trace_fields_and_marker_put_in_front_do_not_stand_in_the_way(raw: bytes) -> None:
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    if not done.changed:
        return
    inserted = b"Received: from a.example\r\n\tby b.example; now\r\nX-Postern: v1 0123\r\n" + done.content
    back = restore(inserted, gateway.open, done.undo)
    assert back.content == b"Received: from a.example\r\n\tby b.example; now\r\n" + raw


@_SETTINGS
@given(st.binary(max_size=400))
def test_any_bytes_are_taken(raw: bytes) -> None:
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert restore(done.content, gateway.open, done.undo).content == raw


@_SETTINGS
@given(st.one_of(html(), text(), st.text(max_size=200)), st.booleans())
def test_graph_bodies_come_back_character_for_character(body: str, is_html: bool) -> None:
    gateway = GatewayDouble()
    done = transform_body(body, is_html, gateway.plan())
    assert restore_body(done.content, is_html, gateway.open, done.undo).content == body
    assert transform_body(done.content, is_html, gateway.plan()).content == done.content


@_SETTINGS
@given(messages(), st.sampled_from([b"multipart/signed; micalg=sha-256", b"multipart/encrypted", b"multipart/report"]))
def test_protected_messages_stay_identical(raw: bytes, kind: bytes) -> None:
    head = b"From: a@b.example\nContent-Type: " + kind + b"; boundary=outer\n\n--outer\n"
    status = b"--outer\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\n--outer\n"
    wrapped = head + (status if kind == b"multipart/report" else b"") + raw + b"\n--outer--\n"
    done = transform(wrapped, GatewayDouble().plan())
    assert done.content == wrapped
    assert done.skipped is not None
    assert classify(wrapped) == done.skipped


_FOUND_BY_FUZZING = [
    # A header without its empty line: a rewritten first line would become a header.
    b"From: a\rwww.evil.example\nTo: b\r\nContent-Type: text/html\r\n\r\n<p>x",
    # A base that no browser takes for a URL, and relative links behind it.
    b'Content-Type: text/html\r\n\r\n<base href="http://evil.en Content-Type: x"><a href=n>6</a>',
    # The beginning of a comment inside an attribute, before a conditional one.
    b'Content-Type: text/html\r\n\r\n<a xlink:href=//<!--"><!--[if]><l href=http:>',
    # A domain without scheme before a character that belongs to addresses.
    b"Content-Type: text/plain\r\n\r\n1.et$x http://a.example",
    # Base64 with a foreign character, and with more letters behind its padding.
    b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGEgaHJlZj0iaHR0cDovL2EuYi9-jIj54PC9h\r\nPg",
    b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"PGEgaHJlZj0iaHR0cDovL2EuYi8iPng8L2E+IA==\r\nPGEg",
    # UTF-16 that ends within a character.
    b"Content-Type: text/plain; charset=utf-16\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"//5oAHQAdABwADoALwAvAGEALgBiAP8=\r\nAAA",
    # What a reader would take for the end of a gateway link stands behind the address.
    b"d w.tt:l",
    b"Content-Type: text/plain\r\n\r\nsee [http://a.example][2] and http://b.example][c/d",
    # Text that says base64: a longer link before it moves the letters behind it into another grouping.
    b" \nContent-Transfer-Encoding:base64\n\rhttp://a/>HJlQ8aHR0cDovL22",
    b' \nContent-Type:multipart/;boundary="b1\n--b1\rContent-Transfer-Encoding:base64\n\nCoetnCext http://a.m',
    # A charset that only stands in the markup once the link before it is rewritten.
    b" \nContent-Type:text/html;\n\n<a href=http:<!--><meta charset=utf7",
    # What browsers drop stands between an address and what is read before it.
    b"Content-Type:text/html\n\rhttp://e\x1bB\x00http://e \x1bB</>http://e",
    # A control character that is spelled as a number, before an address.
    b"Content-Type: text/html\n\n&#1http://a.example &#x2;http://b.example",
    # Markup cannot be put into a CDATA section.
    b"Content-Type: text/html\r\n\r\n<svg><![CDATA[ http://a.example <http://b.example ]]></svg>"
    b"<![CDATA[ > http://c.example",
]


@pytest.mark.parametrize("raw", _FOUND_BY_FUZZING)
def test_what_fuzzing_found_stays_fixed(raw: bytes) -> None:
    gateway = GatewayDouble()
    plan = gateway.plan(bare_domains=True)
    done = transform(raw, plan)
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, plan).content == done.content
