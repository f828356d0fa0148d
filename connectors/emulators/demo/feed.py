"""The demo's list of bad addresses, in the form of a local feed: ``<level>\\t<host or URL>`` per line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

MALICIOUS = ("login.paypa1-secure.localhost", "login.nordwind-sso.localhost", "signin.kasuga-mail.localhost")
"""Hosts of the fake sign-in pages."""
SHORT = "s.kurz1.localhost/Zx91b"
"""The short address that ends on one of them; the other short address of that service is harmless."""
SUSPICIOUS = ("win.voucher-rad.localhost", "verify.bankhaus-elbe.localhost")
TURNS_BAD = "files.nordhafen-dokumente"
"""The website that is harmless until it turns."""


def feed_lines(*, turned: bool = False) -> list[str]:
    """The feed, line by line.

    Args:
        turned: With the website that turns bad later.
    """
    lines = [f"malicious\t{host}" for host in MALICIOUS]
    lines.append(f"malicious\t{SHORT}")
    lines += [f"suspicious\t{host}" for host in SUSPICIOUS]
    if turned:
        lines.append(f"malicious\t{TURNS_BAD}.localhost")
    return lines


def write_feed(path: Path, *, turned: bool = False) -> None:
    """Write the feed file; a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{line}\n" for line in feed_lines(turned=turned))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(name, path)
