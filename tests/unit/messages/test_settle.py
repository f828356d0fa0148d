"""Odd messages are transformed until they stay as they are."""

from __future__ import annotations

from app.messages import FoundLink, LinkAction, LinkKind, RewrittenLink, TransformResult, TransformWarning, restore
from app.messages.settle import settled
from tests.unit.messages.gateway_double import GatewayDouble, message

RAW = message("http://a.example/ http://b.example/", "text/plain")


def _result(content: bytes, url: str, *, changed: bool = True) -> TransformResult:
    link = FoundLink(url, b"", LinkKind.TEXT, "1", "")
    rewritten = RewrittenLink(link, LinkAction.REWRITE, "https://gw.example/l/a/" + url[-2:])
    return TransformResult(content, changed, (rewritten,), (TransformWarning("broken", "1", "It is."),))


def test_a_message_that_never_settles_is_left_and_said() -> None:
    first = _result(RAW + b"1", "http://a.example/")
    done = settled(RAW, first, lambda content: _result(content + b"1", "http://b.example/"), None)
    assert (done.content, done.changed, done.undo) == (RAW, False, None)
    assert [(found.link.url, found.action, found.gateway_url) for found in done.links] == [
        ("http://a.example/", LinkAction.LEAVE, None)
    ]
    assert [warning.code for warning in done.warnings] == ["broken", "unsettled"]


def test_links_of_all_passes_are_told_and_the_original_comes_back() -> None:
    def again(content: bytes) -> TransformResult:
        if content.endswith(b"2"):
            return _result(content, "http://c.example/", changed=False)
        return _result(content[:-1] + b"2", "http://b.example/")

    done = settled(RAW, _result(RAW + b"1", "http://a.example/"), again, None)
    assert done.content == RAW + b"2"
    assert [found.link.url for found in done.links] == ["http://a.example/", "http://b.example/"]
    assert [warning.code for warning in done.warnings] == ["broken"]
    assert restore(done.content, GatewayDouble().open, done.undo).content == RAW


def test_what_the_links_alone_would_not_bring_back_gets_a_record() -> None:
    gateway = GatewayDouble()
    first = _result(RAW + b"1", "http://a.example/")
    done = settled(RAW, first, lambda content: _result(content, "", changed=False), gateway.open)
    assert done.undo is not None
    assert restore(done.content, gateway.open, done.undo).content == RAW
