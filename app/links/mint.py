"""Making links and reading them back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.kit.crypto import KeyRing
from app.links.token import (
    MAX_LINK_CHARACTERS,
    STORED,
    LinkBroken,
    LinkToken,
    PayloadNeeded,
    TokenCipher,
    message_numbers,
    pack,
    pack_target,
    payload_digest,
    unpack,
    unpack_target,
    visible_host,
)

if TYPE_CHECKING:
    from app.messages.types import FoundLink, OpenedLink

_STORED_PURPOSE = "link-payload"


def _scope(tenant_no: int) -> bytes:
    return tenant_no.to_bytes(4, "big")


class Minter:
    """Makes the gateway link for each link found in one message of one recipient.

    Args:
        keyring: The master keys.
        gateway_url: Public address of the gateway, without a path.
        prefix: First path segment.
        tenant_no: The tenant's number; 0 offline.
        mailbox_no: The recipient's mailbox.
        message_no: The message.
        store_long: Whether targets too long for a URL are put into :attr:`payloads` for the caller to
            store before the message is written; otherwise the link grows beyond 1,800 characters.
    """

    def __init__(
        self,
        keyring: KeyRing,
        gateway_url: str,
        prefix: str,
        *,
        tenant_no: int = 0,
        mailbox_no: int = 0,
        message_no: int = 0,
        store_long: bool = False,
    ) -> None:
        self._keyring = keyring
        self._seal_text = _cipher(keyring).sealer(tenant_no)
        self._base = f"{gateway_url.rstrip('/')}/{prefix}/"
        self._tenant_no = tenant_no
        self._numbers = message_numbers(mailbox_no, message_no)
        self._store_long = store_long
        self.payloads: dict[bytes, bytes] = {}
        """Digest -> sealed payload of links that must be stored."""

    def __call__(self, link: FoundLink) -> str:
        """The link to write in place of ``link``."""
        return self.mint(link.url, link.source, link.kind)

    def mint(self, url: str, source: bytes, kind: str) -> str:
        """The link for a target that stood as ``source``."""
        host = visible_host(url)
        flags, body = pack_target(url, source)
        made = self._seal(host, kind, flags, body)
        if len(made) <= MAX_LINK_CHARACTERS or not self._store_long:
            return made
        payload = bytes([flags]) + body
        digest = payload_digest(payload)
        self.payloads[digest] = self._keyring.seal(_STORED_PURPOSE, _scope(self._tenant_no), payload)
        return self._seal(host, kind, STORED, digest)

    def _seal(self, host: str, kind: str, flags: int, body: bytes) -> str:
        return f"{self._base}{host}/{self._seal_text(host, pack(kind, self._numbers, flags, body))}"


@lru_cache(maxsize=8)
def _cipher(keyring: KeyRing) -> TokenCipher:
    return TokenCipher(keyring)


class LinkOpener:
    """Opens links of this installation.

    Args:
        keyring: The master keys, retired ones included.
        gateway_url: Public address of the gateway.
        prefix: First path segment.
        payloads: Looks up a stored payload by tenant number and digest; None: raise ``PayloadNeeded``.
    """

    def __init__(
        self,
        keyring: KeyRing,
        gateway_url: str,
        prefix: str,
        payloads: Callable[[int, bytes], bytes | None] | None = None,
    ) -> None:
        self._keyring = keyring
        self._cipher = _cipher(keyring)
        self._origin = gateway_url.rstrip("/").lower()
        self._prefix = prefix
        self._payloads = payloads

    def is_ours(self, url: str) -> bool:
        """Whether the address has the form of a link of this gateway (it may still be forged)."""
        return url[: len(self._origin) + 1].lower() == self._origin + "/" and url[len(self._origin) + 1 :].startswith(
            self._prefix + "/"
        )

    def open(self, url: str) -> LinkToken:
        """Open a whole link.

        Raises:
            LinkBroken: It is not a link of this gateway, or does not open.
            PayloadNeeded: Its target must be fetched first; then :meth:`open_parts` with it.
        """
        parts = [part for part in urlsplit(url).path.split("/") if part]
        if len(parts) != 3 or parts[0] != self._prefix:
            raise LinkBroken("malformed")
        return self.open_parts(parts[1], parts[2])

    def open_any(self, url: str) -> LinkToken:
        """Open a link whatever gateway address and prefix it was made with: its last two path segments.

        Raises:
            LinkBroken: It does not open.
            PayloadNeeded: Its target must be fetched first.
        """
        parts = [part for part in urlsplit(url).path.split("/") if part]
        if len(parts) < 2:
            raise LinkBroken("malformed")
        return self.open_parts(parts[-2], parts[-1])

    def open_parts(self, host: str, token: str, sealed_payload: bytes | None = None) -> LinkToken:
        """Open a link by its visible host and token.

        Args:
            host: The path segment that shows the host.
            token: The last path segment.
            sealed_payload: The stored payload, once it was fetched.

        Raises:
            LinkBroken: It does not open.
            PayloadNeeded: Its target must be fetched first.
        """
        key_id, tenant_no, plain = self._cipher.open(host, token)
        kind, mailbox_no, message_no, flags, body = unpack(plain)
        if flags & STORED:
            sealed = sealed_payload
            if sealed is None:
                if self._payloads is None:
                    raise PayloadNeeded(tenant_no, body)
                sealed = self._payloads(tenant_no, body)
                if sealed is None:
                    raise LinkBroken("payload_missing")
            payload = self._keyring.open(_STORED_PURPOSE, _scope(tenant_no), sealed)
            if payload_digest(payload) != body:
                raise LinkBroken("tampered")
            flags, body = payload[0], payload[1:]
        url, source = unpack_target(flags, body)
        return LinkToken(key_id, tenant_no, mailbox_no, message_no, kind, url, source, host.lower())


def message_opener(
    opener: LinkOpener, tenant_no: int, mailbox_no: int, message_no: int
) -> Callable[[str], OpenedLink | None]:
    """What the transformer and restore ask: is this address one of our links, and which bytes did it replace?

    Links of another tenant do not open: they are as foreign as any other address.
    """
    # Imported here because the gateway opens links too and should not load the transformer.
    from app.messages.types import OpenedLink

    def opened(url: str) -> OpenedLink | None:
        try:
            token = opener.open_any(url)
        except (LinkBroken, PayloadNeeded, ValueError):
            # Also where its target is stored and not at hand: it is left as it is, never guessed.
            return None
        if token.tenant_no != tenant_no:
            return None
        same = token.mailbox_no == mailbox_no and token.message_no == message_no
        return OpenedLink(url=token.url, source=token.source, same_message=same)

    return opened
