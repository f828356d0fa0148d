"""The messages in ``tests/corpus``: each one goes there and back, and no target is left in what is shown."""

from __future__ import annotations

import email
import re
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from app.messages import SkipReason, restore, transform
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble

_FOLDER = Path(__file__).parents[2] / "corpus"
_MESSAGES = sorted(_FOLDER.glob("*.eml"))
_SKIPPED = {
    "inline-pgp.eml": SkipReason.PGP_INLINE,
    "meeting.eml": SkipReason.MEETING,
    "signed.eml": SkipReason.SIGNED,
}


def _targets(raw: bytes) -> list[str]:
    """The http targets that lexbor finds in the HTML parts that Python's parser finds."""
    found = []
    for part in email.message_from_bytes(raw).walk():
        payload = part.get_payload(decode=True)
        if part.get_content_type() == "text/html" and isinstance(payload, bytes):
            charset = (part.get_content_charset() or "utf-8").replace('"', "")
            try:
                html = payload.decode(charset, "replace")
            except LookupError:
                html = payload.decode("utf-8", "replace")
            for node in LexborHTMLParser(html).css("a, area, form, button, base"):
                found += [node.attributes.get(name) or "" for name in ("href", "action", "formaction", "xlink:href")]
    return [target for target in found if re.match(r"(?i)\s*(?:https?:|//|[a-z]+/)", target)]


def test_there_are_messages() -> None:
    assert len(_MESSAGES) >= 15


@pytest.mark.parametrize("path", _MESSAGES, ids=lambda path: path.name)
def test_a_message_goes_there_and_back(path: Path) -> None:
    raw = path.read_bytes()
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert done.skipped == _SKIPPED.get(path.name)
    assert done.changed == (path.name not in _SKIPPED)
    assert restore(done.content, gateway.open, done.undo).content == raw
    assert transform(done.content, gateway.plan()).content == done.content
    if done.skipped is None:
        assert [target for target in _targets(done.content) if not target.startswith(GATEWAY)] == []
