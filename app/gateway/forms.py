"""Buttons on the gateway's pages: each carries a short-lived signature for one link and one act.

A signature proves that the page with this button was shown for this link a short time ago. Where a browser says
where a form comes from (``Sec-Fetch-Site``, https://www.w3.org/TR/fetch-metadata/, or ``Origin``), it must be
this gateway; so no other site can press a button for somebody.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from app.kit.crypto import KeyRing

LIFETIME_SECONDS: Final = 900
MAX_BODY: Final = 8_192
_PURPOSE = "gateway-form"


class FormSigner:
    """Signs and checks buttons.

    Args:
        keyring: Keys of the installation.
        gateway_url: Public address of the gateway.
    """

    def __init__(self, keyring: KeyRing, gateway_url: str) -> None:
        self._key = keyring.derive(keyring.current, _PURPOSE)
        parts = urlsplit(gateway_url)
        self._origin = f"{parts.scheme}://{parts.netloc}".lower()

    def sign(self, link: str, act: str, now: datetime) -> str:
        """The signature for a button.

        Args:
            link: Host and token of the link.
            act: What the button does.
            now: Aware UTC.
        """
        expires = int(now.timestamp()) + LIFETIME_SECONDS
        return f"{expires:x}.{self._mac(link, act, expires)}"

    def check(self, signature: str, link: str, act: str, now: datetime) -> bool:
        """Whether the signature is for this button and still good."""
        head, _, mac = signature.partition(".")
        if len(head) > 12:
            return False
        try:
            expires = int(head, 16)
        except ValueError:
            return False
        good = hmac.compare_digest(self._mac(link, act, expires).encode(), mac.encode("utf-8", "replace"))
        return good and int(now.timestamp()) <= expires

    def from_here(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the browser says, or leaves open, that a form was sent from a page of the gateway."""
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site == b"same-origin"
        origin = headers.get(b"origin")
        return origin is None or origin.decode("latin-1").lower() == self._origin

    def _mac(self, link: str, act: str, expires: int) -> str:
        text = f"{act}\n{expires}\n{link}".encode("utf-8", "surrogatepass")
        return base64.urlsafe_b64encode(hmac.digest(self._key, text, hashlib.sha256)[:18]).decode()


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of an ``application/x-www-form-urlencoded`` body; the first value of each.

    Raises:
        ValueError: There are too many fields.
    """
    fields: dict[str, str] = {}
    for name, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20):
        fields.setdefault(name, value)
    return fields
