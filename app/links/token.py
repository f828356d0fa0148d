"""The token's bytes: packing, sealing, opening.

Layout of version 1, before URL-safe base64 without padding (RFC 4648, section 5)::

    1 byte   version (1)
    1 byte   key id
    4 bytes  tenant number, big endian
    rest     AES-SIV (RFC 5297): 16 bytes of synthetic IV, then the ciphertext

Associated data: the visible host, the tenant number and the key id, so that a token opens only under the
host it shows and in the tenant it was made for. AES-SIV is deterministic: the same link in the same message
gives the same URL, and no nonce can be misused. The plaintext::

    1 byte   flags (see below)
    1 byte   kind of link
    varint   mailbox number, varint message number
    rest     the target, or the 16-byte digest of a payload stored in the database

Numbers are LEB128 varints. The key is derived per tenant, so that no tenant's key opens another's links.
"""

from __future__ import annotations

import binascii
import hashlib
import html
import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import ada_url
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from app.kit.crypto import KeyRing

VERSION = 1
HEADER_BYTES = 6
DIGEST_BYTES = 16
MAX_LINK_CHARACTERS = 1_800
MAX_TARGET_BYTES = 4 << 20
_COMPRESS_FROM = 400
_PURPOSE = "link"

KINDS = (
    "other",
    "anchor",
    "area",
    "form",
    "formaction",
    "svg",
    "mathml",
    "meta_refresh",
    "base",
    "vml",
    "conditional",
    "ping",
    "frame",
    "text",
    "html_text",
    "qr",
    "calendar",
    "attachment",
    "amp",
)
"""Kinds of link by their number in the token: append only, never reorder."""

_KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


SOURCE_IS_ESCAPED = 1
"""Flag: the URL is the source with character references decoded and outer white space removed."""
BOTH = 2
"""Flag: URL and source are both there: the URL's length as varint, the URL, the source."""
COMPRESSED = 4
"""Flag: the target is a zlib stream (RFC 1950)."""
STORED = 8
"""Flag: in place of the target stands the digest of a stored payload."""
# Plain numbers: an IntFlag's operators were a visible share of the time to open a token.


class LinkBroken(Exception):
    """A link that does not open.

    Args:
        reason: ``malformed``, ``version``, ``key``, ``tampered`` or ``payload_missing``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"This link does not open: {reason}.")
        self.reason = reason


class PayloadNeeded(Exception):
    """The token is genuine, but its target is stored; fetch it and open again.

    Args:
        tenant_no: Whose.
        digest: Which.
    """

    def __init__(self, tenant_no: int, digest: bytes) -> None:
        super().__init__("the link's target is stored in the database")
        self.tenant_no = tenant_no
        self.digest = digest


@dataclass(frozen=True, slots=True)
class LinkToken:
    """What a link carries.

    Attributes:
        key_id: Number of the master key it was sealed under.
        tenant_no: The tenant's number; 0 for messages transformed offline.
        mailbox_no: ``mailboxes.id`` of the recipient.
        message_no: ``messages.id``.
        kind: What kind of link it replaced; one of :data:`KINDS`.
        url: Where it leads, as the reader's browser would have resolved it.
        source: The bytes that stood in the message.
        host: The visible host.
    """

    key_id: int
    tenant_no: int
    mailbox_no: int
    message_no: int
    kind: str
    url: str
    source: bytes
    host: str


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _encoded(data: bytes) -> bytes:
    """URL-safe base64 without padding; the standard library's wrapper takes three times as long."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


_UNSAFE_HOST = re.compile(r"[^a-z0-9._-]")


@lru_cache(maxsize=8192)
def _shown(hostname: str) -> str:
    shown = _UNSAFE_HOST.sub("-", hostname.lower().strip("[]")).strip(".")
    # The end of a host names who owns it, so a long host keeps its end.
    return ("--" + shown[-78:] if len(shown) > 80 else shown) or "link"


_PLAIN_HOST = re.compile(r"https?://((?:[a-z0-9_-]+\.)*[a-z][a-z0-9-]*)(?:[/?#]|:\d|\Z)", re.I)


@lru_cache(maxsize=8192)
def _plain_host(host: str) -> str | None:
    """The host as it is shown where it needs no parser: ASCII, no Punycode to check, its end no number."""
    return None if "xn--" in host.lower() else _shown(host)


def visible_host(url: str) -> str:
    """The host to show in a link to ``url``: lower case, Punycode, at most 80 characters; ``link`` if none."""
    plain = _PLAIN_HOST.match(url)
    if plain is not None:
        shown = _plain_host(plain[1])
        if shown is not None:
            return shown
    try:
        return _shown(ada_url.URL(url).hostname)
    except ValueError:
        return "link"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise LinkBroken("malformed")
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7


def _unescaped(source: bytes) -> str | None:
    try:
        text = source.decode()
    except UnicodeDecodeError:
        return None
    if "&" in text:
        # What addresses are full of; the general way takes a pattern and a call for each.
        plain = text.count("&amp;") == text.count("&")
        text = text.replace("&amp;", "&") if plain else html.unescape(text)
    return text.strip("\t\n\r\f ")


def pack_target(url: str, source: bytes) -> tuple[int, bytes]:
    """The shortest exact packing of a URL and the bytes it stood as: (flags, bytes)."""
    raw_url = url.encode("utf-8", "surrogatepass")
    if raw_url == source:
        flags, body = 0, source
    elif source and _unescaped(source) == url:
        flags, body = SOURCE_IS_ESCAPED, source
    else:
        flags, body = BOTH, _varint(len(raw_url)) + raw_url + source
    if len(body) >= _COMPRESS_FROM:
        packed = zlib.compress(body, 9)
        if len(packed) < len(body):
            return flags | COMPRESSED, packed
    return flags, body


def unpack_target(flags: int, body: bytes) -> tuple[str, bytes]:
    """The inverse of :func:`pack_target`.

    Raises:
        LinkBroken: Not such a packing.
    """
    if flags & COMPRESSED:
        stream = zlib.decompressobj()
        try:
            body = stream.decompress(body, MAX_TARGET_BYTES)
        except zlib.error:
            raise LinkBroken("malformed") from None
        if stream.unconsumed_tail:
            raise LinkBroken("malformed")
    try:
        if flags & BOTH:
            length, at = _read_varint(body, 0)
            if at + length > len(body):
                raise LinkBroken("malformed")
            return body[at : at + length].decode("utf-8", "surrogatepass"), body[at + length :]
        if flags & SOURCE_IS_ESCAPED:
            url = _unescaped(body)
            if url is None:
                raise LinkBroken("malformed")
            return url, body
        return body.decode("utf-8", "surrogatepass"), body
    except UnicodeDecodeError:
        raise LinkBroken("malformed") from None


class TokenCipher:
    """Seals and opens token bytes for all tenants of a key ring."""

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._cipher = lru_cache(maxsize=4096)(self._make_cipher)

    def _make_cipher(self, key_id: int, tenant_no: int) -> AESSIV:
        return AESSIV(self._keyring.derive(key_id, _PURPOSE, tenant_no.to_bytes(4, "big"), 64))

    def sealer(self, tenant_no: int) -> Callable[[str, bytes], str]:
        """Makes the token's text from visible host and plaintext, under the current key."""
        key_id = self._keyring.current
        header = bytes((VERSION, key_id)) + tenant_no.to_bytes(4, "big")
        encrypt = self._cipher(key_id, tenant_no).encrypt

        def seal(host: str, plain: bytes) -> str:
            return _encoded(header + encrypt(plain, [host.encode(), header])).decode()

        return seal

    def open(self, host: str, token: str) -> tuple[int, int, bytes]:
        """Key id, tenant number and plaintext of a token.

        Raises:
            LinkBroken: It is malformed, of another version or key, or was changed.
        """
        try:
            text = token.encode("ascii")
            data = b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
            host_bytes = host.lower().encode("ascii")
        except (UnicodeEncodeError, binascii.Error, ValueError):
            raise LinkBroken("malformed") from None
        # Base64 leaves spare bits in the last character: only the canonical spelling is the token.
        if _encoded(data) != text or len(data) < HEADER_BYTES + 16 + 4:
            raise LinkBroken("malformed")
        if data[0] != VERSION:
            raise LinkBroken("version")
        key_id, tenant_no = data[1], int.from_bytes(data[2:6], "big")
        if key_id not in self._keyring:
            raise LinkBroken("key")
        try:
            plain = self._cipher(key_id, tenant_no).decrypt(data[HEADER_BYTES:], [host_bytes, data[:HEADER_BYTES]])
        except InvalidTag:
            raise LinkBroken("tampered") from None
        return key_id, tenant_no, plain


def message_numbers(mailbox_no: int, message_no: int) -> bytes:
    """The part of the plaintext that tells the message."""
    return _varint(mailbox_no) + _varint(message_no)


def pack(kind: str, numbers: bytes, flags: int, body: bytes) -> bytes:
    """The token's plaintext; `numbers` are `message_numbers`."""
    return bytes((flags, _KIND_NUMBERS.get(kind, 0))) + numbers + body


def unpack(plain: bytes) -> tuple[str, int, int, int, bytes]:
    """Kind, mailbox number, message number, flags and body of a token's plaintext.

    Raises:
        LinkBroken: Not such a plaintext.
    """
    if len(plain) < 4:
        raise LinkBroken("malformed")
    flags, number = plain[0], plain[1]
    mailbox_no, at = _read_varint(plain, 2)
    message_no, at = _read_varint(plain, at)
    kind = KINDS[number] if number < len(KINDS) else KINDS[0]
    return kind, mailbox_no, message_no, flags, plain[at:]


def payload_digest(payload: bytes) -> bytes:
    """The name under which a payload is stored."""
    return hashlib.sha256(payload).digest()[:DIGEST_BYTES]
