"""What must hold for every message: it comes back byte for byte, nothing foreign changes, twice is once."""

from __future__ import annotations

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
    wrapped = b"From: a@b.example\nContent-Type: " + kind + b"; boundary=outer\n\n--outer\n" + raw + b"\n--outer--\n"
    done = transform(wrapped, GatewayDouble().plan())
    assert done.content == wrapped
    assert done.skipped is not None
    assert classify(wrapped) == done.skipped
