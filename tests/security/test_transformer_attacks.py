"""Messages made to get a link past the transformer, to be damaged by it, or to come back otherwise than they went in."""

from __future__ import annotations

import base64

import pytest

from app.messages import restore, transform
from app.messages.types import TransformResult
from tests.unit.messages.gateway_double import GatewayDouble, message

EVIL = "http://evil.example/a"
LINK = f'<p>Hello</p><a href="{EVIL}">x</a>'


def rewritten(raw: bytes) -> TransformResult:
    """Transform a message and hold it against what must be true of every one."""
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    back = restore(done.content, gateway.open, done.undo)
    assert back.content == raw
    assert back.failed == ()
    assert transform(done.content, gateway.plan()).content == done.content
    return done


def targets(done: TransformResult) -> list[str]:
    """Where the links lead that were replaced, in order."""
    return [found.link.url for found in done.links if found.gateway_url]


@pytest.mark.parametrize("filler", range(6))
def test_base64_with_a_list_footer_behind_it_comes_back_without_added_spaces(filler: int) -> None:
    encoded = base64.b64encode((LINK + "y" * filler).encode())
    done = rewritten(message(encoded + b"\r\n-- list footer", encoding="base64"))
    assert targets(done) == [EVIL]


@pytest.mark.parametrize("charset", ["utf-16le", "utf-16be", "utf-32le"])
@pytest.mark.parametrize("tail", [b"", b"\r\n-- list footer"])
def test_half_a_character_at_the_end_does_not_let_a_part_escape(charset: str, tail: bytes) -> None:
    for filler in range(3):
        data = (LINK + "y" * filler).encode(charset) + b"\0"
        done = rewritten(message(base64.b64encode(data) + tail, f"text/html; charset={charset}", "base64"))
        assert targets(done) == [EVIL]
