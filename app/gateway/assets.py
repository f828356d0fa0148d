"""What the gateway's own pages load from it: the tenant's logo, and the picture that says that a page was drawn.

Both lie below ``/<prefix>/-/``: ``-`` is no host, so no link is ever there.

The picture is one transparent pixel. A browser that draws a page asks for it without any script; a program that only
fetched the page does not. Its address is signed and names the click that showed the page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import Final

from app.policy.engine import PolicySnapshot

FOLDER: Final = "-"
PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
MAX_LOGO_BYTES: Final = 32_768
LOGO_RE: Final = re.compile(r"logo-([0-9]{1,18})-([0-9a-f]{32})\.png\Z")
SEEN_RE: Final = re.compile(r"seen-([0-9]{1,18})-([0-9a-f]{32})-([0-9a-f]{1,12}\.[A-Za-z0-9_-]{24})\.gif\Z")
_PNG: Final = b"\x89PNG\r\n\x1a\n"

ASSET_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-robots-tag", b"noindex, nofollow"),
)


@lru_cache(maxsize=256)
def logo_bytes(text: str) -> bytes:
    """The PNG that a tenant's settings hold in base64; empty where they hold none."""
    if not text or len(text) > MAX_LOGO_BYTES * 2:
        return b""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if data.startswith(_PNG) and len(data) <= MAX_LOGO_BYTES else b""


@lru_cache(maxsize=256)
def logo_name(tenant_no: int, text: str) -> str:
    """The file name under which a tenant's logo is served: it changes with the picture, so it may be kept for long."""
    data = logo_bytes(text)
    return f"logo-{tenant_no}-{hashlib.sha256(data).hexdigest()[:32]}.png" if data else ""


def logo_of(snapshot: PolicySnapshot) -> str:
    """The file name of a tenant's logo; empty where it has none."""
    return logo_name(snapshot.tenant_no, snapshot.words.logo)


def seen_name(tenant_no: int, click_id: str, signature: str) -> str:
    """The file name of the picture on a page that a click showed."""
    return f"seen-{tenant_no}-{click_id}-{signature}.gif"
