"""A stand-in for the click gateway's tokens: deterministic, unreadable as they are, refusing what it did not make."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from app.messages import FoundLink, LinkAction, OpenedLink, TransformPlan

GATEWAY = "https://gw.example"


def _masked(data: bytes, key: bytes) -> bytes:
    """Hide the target: a reader that takes a token for base64 must not see an address in it."""
    stream = hashlib.shake_128(key).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


@dataclass
class GatewayDouble:
    """Mints and opens links for one message and recipient."""

    message: str = "message-1"
    gateway: str = GATEWAY
    minted: list[FoundLink] = field(default_factory=list)

    def mint(self, link: FoundLink) -> str:
        """A link that carries its target and source, with a digest over both."""
        self.minted.append(link)
        url = link.url.encode("utf-8", "surrogatepass")
        plain = b"\0".join([self.message.encode(), str(len(url)).encode(), url + link.source])
        digest = hashlib.sha256(plain).digest()[:6]
        sealed = digest + _masked(plain, digest)
        token = base64.urlsafe_b64encode(sealed).decode().rstrip("=")
        return f"{self.gateway}/l/site.example/{token}"

    def open(self, url: str) -> OpenedLink | None:
        """What a link stands for; None when it is not whole."""
        parts = url.split("/")
        if not url.startswith(self.gateway + "/l/") or len(parts) != 6:
            return None
        try:
            sealed = base64.urlsafe_b64decode(parts[5] + "=" * (-len(parts[5]) % 4))
        except ValueError:
            return None
        plain = _masked(sealed[6:], sealed[:6])
        if hashlib.sha256(plain).digest()[:6] != sealed[:6]:
            return None
        message, length, rest = plain.split(b"\0", 2)
        size = int(length)
        return OpenedLink(
            rest[:size].decode("utf-8", "surrogatepass"), rest[size:], same_message=message.decode() == self.message
        )

    def plan(self, **options: object) -> TransformPlan:
        """A plan that uses this gateway."""
        return TransformPlan(self.gateway, self.mint, open_link=self.open, **options)  # type: ignore[arg-type]  # test options

    def target(self, url: str) -> str:
        """The target of one of our links."""
        opened = self.open(url)
        assert opened is not None, url
        return opened.url


def message(
    body: bytes | str,
    content_type: str = "text/html; charset=utf-8",
    encoding: str = "8bit",
    headers: str = "",
    eol: bytes = b"\r\n",
) -> bytes:
    """A message of one part; the body goes in as it is."""
    head = f"From: a@sender.example\nTo: b@tenant.example\nSubject: Hello\n{headers}MIME-Version: 1.0\n"
    head += f"Content-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n\n"
    return head.encode().replace(b"\n", eol) + (body.encode() if isinstance(body, str) else body)


def multipart(*parts: bytes, kind: str = "alternative", boundary: str = "b1", eol: bytes = b"\r\n") -> bytes:
    """A multipart message of finished parts (header and body each)."""
    head = "From: a@sender.example\nSubject: Hello\nMIME-Version: 1.0\n"
    head += f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n'
    out = head.encode().replace(b"\n", eol) + b"preamble" + eol
    for part in parts:
        out += b"--" + boundary.encode() + eol + part + eol
    return out + b"--" + boundary.encode() + b"--" + eol + b"epilogue" + eol


def part(body: bytes | str, content_type: str, encoding: str = "8bit", extra: str = "", eol: bytes = b"\r\n") -> bytes:
    """One part of a multipart."""
    head = f"Content-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n{extra}\n"
    return head.encode().replace(b"\n", eol) + (body.encode() if isinstance(body, str) else body)


def leave(_: FoundLink) -> LinkAction:
    """A policy that leaves every link."""
    return LinkAction.LEAVE
